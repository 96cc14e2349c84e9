//! Finds damage in RocksDB's log files, where its own message does not say the place.
//!
//! Pure over a file's bytes. The write-ahead log and the manifest have one format
//! (RocksDB wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in them records
//! of a masked CRC-32C (4 bytes), a length (2), a type (1), all little endian, and
//! the payload. The checksum is over type and payload. (Recycled logs have another
//! layout; this store's recovery mode has none.)

use std::path::Path;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;
/// How many places are named in one file.
const MAX_PLACES: usize = 16;

/// Where the records of a log are damaged: offsets of the records' first bytes. A record that is
/// cut short at the end of the file was never acked and is no damage.
pub fn damage(log: &[u8]) -> Vec<u64> {
    let mut places = Vec::new();
    for (number, block) in log.chunks(BLOCK).enumerate() {
        let mut at = 0;
        while let Some(header) = block.get(at..at + HEADER) {
            let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            // Space that was allocated ahead.
            if header.iter().all(|byte| *byte == 0) {
                break;
            }
            let whole = block.get(at + HEADER - 1..at + HEADER + length);
            let good = match whole {
                Some(whole) => crc == masked(crc32c(whole)),
                None => block.len() < BLOCK,
            };
            if !good {
                places.push((number * BLOCK + at) as u64);
                if places.len() >= MAX_PLACES {
                    return places;
                }
                // The length cannot be trusted: the next block is where records begin again.
                break;
            }
            at += HEADER + length;
        }
    }
    places
}

/// Names each damaged place of a store's log files: `000004.log at byte 512`.
pub(super) fn places(store: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(store)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".log") || name.starts_with("MANIFEST-"))
        .collect();
    files.sort();
    let mut places = Vec::new();
    for name in files {
        // What cannot be read has its own error from RocksDB.
        let bytes = std::fs::read(store.join(&name)).unwrap_or_default();
        let found = damage(&bytes);
        places.extend(found.iter().map(|at| format!("{name} at byte {at}")));
    }
    places
}

/// Appends a record to a log's bytes; it must be shorter than a block.
pub(super) fn append(log: &mut Vec<u8>, payload: &[u8]) {
    /// The type of a record that is whole.
    const FULL: u8 = 1;
    let room = BLOCK - log.len() % BLOCK;
    if room < HEADER + payload.len() {
        // What is zero is skipped.
        log.resize(log.len() + room, 0);
    }
    let body = [&[FULL], payload].concat();
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    log.extend_from_slice(&masked(crc32c(&body)).to_le_bytes());
    log.extend_from_slice(&length.to_le_bytes());
    log.extend_from_slice(&body);
}

/// RocksDB stores checksums masked, so that one over data that holds checksums stays good.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78; RFC 3720 appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)])
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 3720 appendix B.4.
    #[test]
    fn known_checksums() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn damage_is_found_and_a_tail_cut_short_is_none() {
        let mut log = Vec::new();
        for n in 0..40_u8 {
            append(&mut log, &vec![n; 700]);
        }
        assert_eq!(damage(&log), [0_u64; 0]);
        assert_eq!(damage(&log[..log.len() - 3]), [0_u64; 0]);
        let spare = [log.clone(), vec![0; 10_000]].concat();
        assert_eq!(damage(&spare), [0_u64; 0]);
        for at in [0, 6, 9, 706] {
            log[707 * 3 + at] ^= 4;
            assert_eq!(damage(&log), [707 * 3], "byte {at}");
            log[707 * 3 + at] ^= 4;
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(log in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            damage(&log);
        }
    }
}
