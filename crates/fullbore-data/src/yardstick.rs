//! What the decoders can do at most: the same files read and decoded, and nothing else done with them.
//!
//! A loader's rate as a share of [`raw_decode`]'s, taken in the same run with as many threads, says what the loader
//! itself costs. A share near 1: only other decoders, more cores or a cache could make it faster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fullbore_types::SampleId;

use crate::DataError;
use crate::decode::{DecodeLimits, DecodeScratch, Picture, Wanted};
use crate::source::{Part, Source, SourceError, Target};

/// Outcome of [`raw_decode`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawRate {
    /// Samples read and decoded.
    pub samples: u64,
    /// Samples that could not be.
    pub failed: u64,
    /// Time from the first sample's start to the last one's end.
    pub elapsed: Duration,
}

impl RawRate {
    /// Samples decoded per second of wall time, all threads together.
    pub fn samples_per_s(&self) -> f64 {
        self.samples as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// Reads and decodes samples in the order of their ids, over and over, on as many threads as a loader with
/// `workers` uses (0: the calling one), until `duration` has passed. Each thread does at least one sample.
///
/// # Errors
/// When there are no samples, or a thread cannot be started or ends unexpectedly. Samples that fail are only counted.
///
/// # Panics
/// When `channels` is neither 1 nor 3.
pub fn raw_decode(
    source: &dyn Source,
    workers: usize,
    channels: u8,
    limits: DecodeLimits,
    duration: Duration,
) -> Result<RawRate, DataError> {
    if source.is_empty() {
        return Err(DataError::NoSamples);
    }
    let n_samples =
        u32::try_from(source.len()).map_err(|_| SourceError::TooMany { n: source.len() as u64 })?;
    let start = Instant::now();
    let [taken, failed] = [AtomicU64::new(0), AtomicU64::new(0)];
    let work = &|mut decoder: RawDecoder| loop {
        let id = SampleId((taken.fetch_add(1, Ordering::Relaxed) % u64::from(n_samples)) as u32);
        if decoder.decode(source, id).is_err() {
            failed.fetch_add(1, Ordering::Relaxed);
        }
        if start.elapsed() >= duration {
            return;
        }
    };
    let decoder = || RawDecoder::new(channels, limits);
    if workers == 0 {
        work(decoder());
    } else {
        thread::scope(|scope| {
            let spawn = |index| {
                let decoder = decoder();
                let thread = thread::Builder::new().name(format!("raw-{index}"));
                let started = thread.spawn_scoped(scope, move || work(decoder));
                started.map_err(|source| DataError::Thread { index, source })
            };
            let threads = (0..workers).map(spawn).collect::<Result<Vec<_>, _>>()?;
            let lost = threads.into_iter().filter_map(|thread| thread.join().err()).count();
            if lost == 0 { Ok(()) } else { Err(DataError::ThreadLost) }
        })?;
    }
    let [taken, failed] = [taken, failed].map(AtomicU64::into_inner);
    Ok(RawRate { samples: taken - failed, failed, elapsed: start.elapsed() })
}

/// Reads and decodes single samples into buffers that it keeps.
pub struct RawDecoder {
    wanted: Wanted,
    limits: DecodeLimits,
    bytes: Vec<u8>,
    pixels: Vec<u8>,
    scratch: DecodeScratch,
}

impl RawDecoder {
    /// For images with 3 (RGB) or 1 (gray) `channels`.
    ///
    /// # Panics
    /// When `channels` is neither 1 nor 3.
    pub fn new(channels: u8, limits: DecodeLimits) -> Self {
        let wanted = match channels {
            1 => Wanted::Gray,
            3 => Wanted::Rgb,
            _ => panic!("images have 1 or 3 channels"),
        };
        RawDecoder {
            wanted,
            limits,
            bytes: Vec::new(),
            pixels: Vec::new(),
            scratch: DecodeScratch::default(),
        }
    }

    /// Reads and decodes the image of one sample, and its mask where that is a file.
    ///
    /// # Errors
    /// When either cannot be read or decoded.
    pub fn decode(&mut self, source: &dyn Source, id: SampleId) -> Result<(), DataError> {
        let mask = matches!(source.target(id), Target::MaskFile).then_some((Part::Target, Wanted::Mask));
        for (part, wanted) in std::iter::once((Part::Image, self.wanted)).chain(mask) {
            source.read(id, part, self.limits.max_bytes, &mut self.bytes)?;
            let file = source.file(id, part);
            let picture = Picture::open(&self.bytes, &file, wanted, &self.limits)?;
            self.pixels.resize(picture.n_bytes(), 0);
            picture.read(&mut self.pixels, &mut self.scratch)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::sync::Mutex;

    /// Four samples that are the same picture twice; the last one is cut off. Notes who was read.
    struct Four {
        png: Vec<u8>,
        reads: Mutex<Vec<(u32, Part)>>,
    }

    impl Four {
        fn new() -> Self {
            let mut png = Vec::new();
            let encoder = png::Encoder::new(&mut png, 2, 1);
            encoder.write_header().unwrap().write_image_data(&[1, 2]).unwrap();
            Four { png, reads: Mutex::default() }
        }
    }

    impl Source for Four {
        fn len(&self) -> usize {
            4
        }

        fn name(&self, id: SampleId) -> String {
            id.0.to_string()
        }

        fn file(&self, id: SampleId, _: Part) -> PathBuf {
            self.name(id).into()
        }

        fn read(&self, id: SampleId, part: Part, _: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
            self.reads.lock().unwrap().push((id.0, part));
            bytes.clear();
            bytes.extend(&self.png[..if id.0 == 3 { 50 } else { self.png.len() }]);
            Ok(())
        }
    }

    #[test]
    fn every_thread_works_and_failures_are_told_from_samples() {
        for workers in [0, 1, 8] {
            let source = Four::new();
            let rate = raw_decode(&source, workers, 3, DecodeLimits::default(), Duration::ZERO).unwrap();
            let n = workers.max(1) as u64;
            assert_eq!((rate.samples, rate.failed), (n - n / 4, n / 4), "{workers} workers");
            let mut reads = source.reads.into_inner().unwrap();
            reads.retain(|(_, part)| *part == Part::Image);
            assert_eq!(reads.len() as u64, n);
            assert!((0..n.min(4) as u32).all(|id| reads.contains(&(id, Part::Image))));
        }
    }

    #[test]
    fn both_parts_are_decoded() {
        let source = Four::new();
        let mut decoder = RawDecoder::new(1, DecodeLimits::default());
        decoder.decode(&source, SampleId(2)).unwrap();
        assert_eq!(*source.reads.lock().unwrap(), [(2, Part::Image), (2, Part::Target)]);
        assert_eq!(decoder.pixels, [1, 2]);
        let error = decoder.decode(&source, SampleId(3)).unwrap_err();
        assert!(matches!(error, DataError::Decode(_)), "{error}");
    }

    #[test]
    fn the_rate_is_of_decoded_samples() {
        let rate = RawRate { samples: 30, failed: 10, elapsed: Duration::from_secs(2) };
        assert_eq!(rate.samples_per_s(), 15.0);
    }
}
