//! Undoes content encodings: identity, gzip, deflate, br, zstd, also stacked.
//!
//! Must never: give out more than the bounds allow for what came in, or take a
//! cut or damaged stream for a whole one.

use super::Unmaskable;
use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::Write as _;
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation as _};

/// What to ask an upstream for: exactly what can be undone.
pub const ACCEPT_ENCODING: &str = "gzip, deflate, br, zstd, identity";

/// Most encodings on top of each other.
const MAX_LAYERS: usize = 3;
/// A layer may give this many times its input (deflate cannot exceed 1,032) ...
const MAX_RATIO: u64 = 1100;
/// ... beyond this many bytes.
const RATIO_GRACE: u64 = 1 << 20;
/// Most decoded bytes for one push of input.
const MAX_PER_PUSH: u64 = 64 << 20;
/// Size of one step of output.
const STEP: usize = 32 * 1024;
/// RFC 9659: the window of zstd content is at most 8 MB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Takes decoded bytes.
type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Unmaskable> + 'a;

/// Undoes all encodings of one body, the outermost first.
pub(super) struct Decoder {
    layers: Vec<Layer>,
}

impl Decoder {
    /// For the value of `Content-Encoding`; the last one named was applied last.
    pub(super) fn new(encoding: Option<&str>) -> Result<Self, Unmaskable> {
        let mut layers = Vec::new();
        for name in encoding.unwrap_or_default().split(',').map(str::trim) {
            let unknown = || Unmaskable::Encoding(encoding.unwrap_or_default().to_owned());
            let coding = match name.to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip(MultiGzDecoder::new(Vec::new())),
                "deflate" => Coding::Deflate(Deflate::default()),
                "br" => Coding::Brotli(Box::new(Brotli::new())),
                "zstd" => Coding::Zstd(Frames::new().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            };
            layers.push(Layer { coding, taken: 0, given: 0, done: false });
            if layers.len() > MAX_LAYERS {
                return Err(unknown());
            }
        }
        layers.reverse();
        Ok(Self { layers })
    }

    /// For content that is passed as it is.
    pub(super) fn identity() -> Self {
        Self { layers: Vec::new() }
    }

    /// Whether it gives out what it takes in.
    pub(super) fn is_identity(&self) -> bool {
        self.layers.is_empty()
    }

    /// Decodes the next bytes.
    pub(super) fn push(&mut self, input: &[u8], sink: &mut Sink<'_>) -> Result<(), Unmaskable> {
        let mut left = MAX_PER_PUSH;
        push(&mut self.layers, input, &mut left, sink)
    }

    /// The encoded body ends here. Decoders give everything out as it comes, so
    /// nothing more does; a cut stream is an error. An empty body is none.
    pub(super) fn finish(&mut self) -> Result<(), Unmaskable> {
        let began = self.layers.first().is_some_and(|layer| layer.taken > 0);
        for layer in self.layers.iter_mut().filter(|_| began) {
            if !layer.is_complete() {
                return Err(layer.damaged("the stream ends early"));
            }
        }
        Ok(())
    }
}

/// A whole body with its encodings undone; `None` when it is cut, damaged, of an encoding that
/// is not known, or longer than `most` bytes.
pub fn whole(encoding: &str, body: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut decoder = Decoder::new(Some(encoding)).ok()?;
    let mut decoded = Vec::new();
    let mut fits = true;
    let mut take = |bytes: &[u8]| {
        fits &= decoded.len() + bytes.len() <= most;
        if fits {
            decoded.extend_from_slice(bytes);
        }
        Ok(())
    };
    decoder.push(body, &mut take).ok()?;
    decoder.finish().ok()?;
    fits.then_some(decoded)
}

fn push(
    layers: &mut [Layer],
    input: &[u8],
    left: &mut u64,
    sink: &mut Sink<'_>,
) -> Result<(), Unmaskable> {
    match layers.split_first_mut() {
        None => sink(input),
        Some((layer, inner)) => {
            layer.push(input, left, &mut |bytes, left| push(inner, bytes, left, sink))
        }
    }
}

/// Takes decoded bytes and what may still be decoded.
type Next<'a> = dyn FnMut(&[u8], &mut u64) -> Result<(), Unmaskable> + 'a;

struct Layer {
    coding: Coding,
    taken: u64,
    given: u64,
    /// The stream ended; nothing may follow (gzip and zstd aside).
    done: bool,
}

enum Coding {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(Deflate),
    Brotli(Box<Brotli>),
    Zstd(Frames),
}

impl Layer {
    fn name(&self) -> &'static str {
        match self.coding {
            Coding::Gzip(_) => "gzip",
            Coding::Deflate(_) => "deflate",
            Coding::Brotli(_) => "br",
            Coding::Zstd(_) => "zstd",
        }
    }

    fn damaged(&self, why: impl Into<String>) -> Unmaskable {
        Unmaskable::Damaged { coding: self.name(), why: why.into() }
    }

    fn push(
        &mut self,
        input: &[u8],
        left: &mut u64,
        next: &mut Next<'_>,
    ) -> Result<(), Unmaskable> {
        let mut rest = input;
        let mut buffer = vec![0; STEP];
        loop {
            let before = self.pending();
            let (read, written) = self.step(rest, &mut buffer)?;
            rest = &rest[read..];
            self.taken += read as u64;
            let bytes = written.bytes(&buffer);
            self.give(bytes.len() as u64, left)?;
            if !bytes.is_empty() {
                next(bytes, left)?;
            }
            let pending = self.pending();
            if rest.is_empty() && !pending && !written.is_full(&buffer) {
                return Ok(());
            }
            if read == 0 && bytes.is_empty() && pending == before && !rest.is_empty() {
                return Err(self.damaged("the decoder does not go on"));
            }
        }
    }

    /// Whether bytes that were taken wait inside.
    fn pending(&self) -> bool {
        matches!(&self.coding, Coding::Deflate(deflate) if deflate.inflate.is_some() && !deflate.head.is_empty())
    }

    fn give(&mut self, count: u64, left: &mut u64) -> Result<(), Unmaskable> {
        self.given += count;
        let bomb = |why| Err(Unmaskable::Bomb { coding: self.name(), why });
        if self.given > RATIO_GRACE && self.given / MAX_RATIO > self.taken {
            return bomb("more than 1,100 times its size");
        }
        match left.checked_sub(count) {
            Some(rest) => *left = rest,
            None => return bomb("more than 64 MiB at once"),
        }
        Ok(())
    }

    /// One step: how much was read, and what was written.
    fn step(&mut self, input: &[u8], buffer: &mut [u8]) -> Result<(usize, Written), Unmaskable> {
        if self.done && !input.is_empty() {
            return Err(self.damaged("something follows the end of the stream"));
        }
        let result = match &mut self.coding {
            Coding::Gzip(gzip) => {
                // Small steps bound what the writer behind it can take in at once.
                let read = input.len().min(1024);
                gzip.get_mut().clear();
                let result = gzip.write_all(&input[..read]).and_then(|()| gzip.flush());
                result
                    .map(|()| (read, Written::Own(std::mem::take(gzip.get_mut()))))
                    .map_err(|why| why.to_string())
            }
            Coding::Deflate(deflate) => deflate.step(input, buffer, &mut self.done),
            Coding::Brotli(brotli) => brotli.step(input, buffer, &mut self.done),
            Coding::Zstd(zstd) => zstd.step(input, buffer),
        };
        result.map_err(|why| self.damaged(why))
    }

    /// Whether a stream, once begun, has come to its end.
    fn is_complete(&mut self) -> bool {
        match &mut self.coding {
            Coding::Gzip(gzip) => gzip.try_finish().is_ok(),
            Coding::Deflate(_) | Coding::Brotli(_) => self.done,
            Coding::Zstd(zstd) => zstd.frame_complete,
        }
    }
}

/// Where a step put its output.
enum Written {
    /// The first bytes of the step's buffer.
    Buffer(usize),
    /// The decoder's own memory.
    Own(Vec<u8>),
}

impl Written {
    fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Buffer(count) => &buffer[..*count],
            Self::Own(bytes) => bytes,
        }
    }

    /// Whether there may be more output without more input.
    fn is_full(&self, buffer: &[u8]) -> bool {
        matches!(self, Self::Buffer(count) if *count == buffer.len())
    }
}

type Step = Result<(usize, Written), String>;

/// RFC 9110 section 8.4.1.2 means zlib (RFC 1950); some servers send bare deflate
/// (RFC 1951), so the first two bytes decide.
#[derive(Default)]
struct Deflate {
    head: Vec<u8>,
    inflate: Option<Decompress>,
}

impl Deflate {
    fn step(&mut self, input: &[u8], buffer: &mut [u8], done: &mut bool) -> Step {
        let mut head = std::mem::take(&mut self.head);
        let held = head.len();
        let Some(inflate) = &mut self.inflate else {
            head.extend(input.iter().take(2 - held));
            let read = head.len() - held;
            if let [first, second] = head[..] {
                let zlib =
                    first & 0x0F == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
                self.inflate = Some(Decompress::new(zlib));
            }
            self.head = head;
            return Ok((read, Written::Buffer(0)));
        };
        // The two bytes that decided go in first; they fit whole.
        let source = if held > 0 { &head[..] } else { input };
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate
            .decompress(source, buffer, FlushDecompress::None)
            .map_err(|why| why.to_string())?;
        let read = (inflate.total_in() - before_in) as usize;
        let written = (inflate.total_out() - before_out) as usize;
        *done = status == Status::StreamEnd;
        if held > 0 {
            self.head = head.split_off(read);
            return Ok((0, Written::Buffer(written)));
        }
        Ok((read, Written::Buffer(written)))
    }
}

struct Brotli(BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>);

impl Brotli {
    /// RFC 7932 only: no "large window" streams.
    fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self(BrotliState::new_strict(alloc(), alloc(), alloc()))
    }

    fn step(&mut self, input: &[u8], buffer: &mut [u8], done: &mut bool) -> Step {
        let (mut input_left, mut read) = (input.len(), 0);
        let (mut output_left, mut written, mut total) = (buffer.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut read,
            input,
            &mut output_left,
            &mut written,
            buffer,
            &mut total,
            &mut self.0,
        );
        match result {
            BrotliResult::ResultFailure => return Err("not a brotli stream".to_owned()),
            BrotliResult::ResultSuccess => *done = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok((read, Written::Buffer(written)))
    }
}

struct Frames {
    decoder: Zstd<'static>,
    /// The last frame is complete and given out; another may follow (RFC 8878
    /// section 3).
    frame_complete: bool,
}

impl Frames {
    fn new() -> std::io::Result<Self> {
        let mut decoder = Zstd::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
        Ok(Self { decoder, frame_complete: false })
    }

    fn step(&mut self, input: &[u8], buffer: &mut [u8]) -> Step {
        let status = self.decoder.run_on_buffers(input, buffer).map_err(|why| why.to_string())?;
        if status.bytes_read > 0 || status.bytes_written > 0 {
            self.frame_complete = status.remaining == 0;
        }
        Ok((status.bytes_read, Written::Buffer(status.bytes_written)))
    }
}

#[cfg(test)]
mod tests;
