use super::*;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn raw(data: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn brotli(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    brotli::CompressorWriter::new(&mut out, 4096, 5, 20).write_all(data).unwrap();
    out
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).unwrap()
}

fn decode<'a>(
    encoding: &str,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, Unmaskable> {
    let mut decoder = Decoder::new(Some(encoding))?;
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.push(chunk, &mut |bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    decoder.finish()?;
    Ok(out)
}

fn one(encoding: &str, data: &[u8]) -> Result<Vec<u8>, Unmaskable> {
    decode(encoding, std::iter::once(data))
}

fn text() -> Vec<u8> {
    (0..3000_u32)
        .flat_map(|n| format!("line {n} {}\n", n.wrapping_mul(2_654_435_761)).into_bytes())
        .collect()
}

fn all(data: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let two = |first: Vec<u8>, second: Vec<u8>| [first, second].concat();
    let (head, tail) = data.split_at(data.len() / 2);
    vec![
        ("gzip", gzip(data)),
        ("X-GZip", two(gzip(head), gzip(tail))),
        ("deflate", zlib(data)),
        ("deflate", raw(data)),
        ("br", brotli(data)),
        ("zstd", zstd(data)),
        ("zstd", two(zstd(head), zstd(tail))),
        ("gzip, br", brotli(&gzip(data))),
        ("zstd, identity, deflate", zlib(&zstd(data))),
        (" , identity", data.to_vec()),
    ]
}

#[test]
fn undoes_each_encoding_in_any_chunks() {
    let text = text();
    for (encoding, data) in all(&text) {
        assert!(one(encoding, &data).unwrap() == text, "{encoding}");
        for size in [1, 2, 7, 1000] {
            assert!(decode(encoding, data.chunks(size)).unwrap() == text, "{encoding} by {size}");
        }
    }
    for (encoding, data) in all(b"short") {
        for split in 0..=data.len() {
            let (first, second) = data.split_at(split);
            assert_eq!(
                decode(encoding, [first, second].into_iter()).unwrap(),
                b"short",
                "{encoding} at {split}"
            );
        }
    }
}

#[test]
fn refuses_cut_and_damaged_streams() {
    for (encoding, data) in all(b"short enough to cut everywhere, everywhere").into_iter().take(9) {
        for end in 1..data.len() {
            // Between two members or frames is an end like any other.
            if let Ok(out) = one(encoding, &data[..end]) {
                assert_eq!(out, b"short enough to cut e", "{encoding} cut at {end}");
            }
        }
        assert!(
            one(encoding, &[&data[..], b"x"].concat()).is_err(),
            "{encoding} with trailing bytes"
        );
        assert_eq!(one(encoding, b""), Ok(Vec::new()), "{encoding}: no body at all");
    }
    let mut wrong = gzip(b"abc");
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    assert!(
        matches!(one("gzip", &wrong), Err(Unmaskable::Damaged { coding: "gzip", .. })),
        "checksum"
    );
}

#[test]
fn refuses_unknown_and_too_many_encodings() {
    for encoding in ["compress", "gzip, foo", "dcb", "dcz", "gzip, gzip, gzip, gzip", "gzip;q=1"] {
        assert_eq!(one(encoding, b"x"), Err(Unmaskable::Encoding(encoding.to_owned())));
    }
}

#[test]
fn refuses_bombs() {
    let zeros = vec![0; 80 << 20];
    for encoding in ["br", "zstd"] {
        let data = if encoding == "br" { brotli(&zeros) } else { zstd(&zeros) };
        let mut decoder = Decoder::new(Some(encoding)).unwrap();
        let mut given = 0;
        let why = decoder.push(&data, &mut |bytes| {
            given += bytes.len();
            Ok(())
        });
        assert!(matches!(why, Err(Unmaskable::Bomb { .. })), "{encoding}");
        assert!(given <= 64 << 20, "{encoding}: {given}");
    }
    let gzip = gzip(&zeros);
    assert!(
        matches!(one("gzip", &gzip), Err(Unmaskable::Bomb { .. })),
        "more than a push may give"
    );
    assert!(decode("gzip", gzip.chunks(16 * 1024)).is_ok(), "in pieces it is only large");
}
