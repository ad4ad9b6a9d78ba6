use std::time::{Duration, Instant};

use fullbore_types::{SampleId, SampleKey};

use super::Cache;
use super::decide::SampleCost;
use super::recipe::Recipe;
use crate::canvas::Placement;
use crate::loader::LoaderConfig;
use crate::sample::{MaskOut, SampleReader, Scratch, contained};
use crate::source::Source;
use crate::stats::Counters;

/// Samples that are tried.
const N_SAMPLES: u64 = 16;
/// When that takes longer, fewer will do.
const ENOUGH: Duration = Duration::from_millis(100);

/// What a sample costs on average: a few of them, evenly spread over the source, are loaded and cached for a
/// moment. Samples that cannot be loaded are passed over; `None` when none can. Takes about a tenth of a second,
/// or as long as one sample does.
///
/// # Panics
/// When `channels` is neither 1 nor 3 or a side of `size` is zero.
pub fn probe(source: &dyn Source, config: &LoaderConfig) -> Option<SampleCost> {
    let LoaderConfig { size, resize, channels, classes, seed, limits, .. } = config;
    let shelf =
        Cache::in_memory(u64::MAX).shelf(Recipe::training(*resize, *size, *channels, classes.as_ref()))?;
    let reader = SampleReader::new(*channels, classes.as_ref(), *limits).with_shelf(Some(shelf.clone()));
    let (counters, mut scratch) = (Counters::default(), Scratch::default());
    let mut image = vec![0; size.area() as usize * usize::from(*channels)];
    let mut mask = vec![0; size.area() as usize];
    let n = source.len() as u64;
    let start = Instant::now();
    for i in 0..N_SAMPLES.min(n) {
        let id = SampleId(u32::try_from(i * n / N_SAMPLES.min(n)).ok()?);
        let key = SampleKey { seed: *seed, epoch: 0, sample: id };
        let training = |part| Placement::training(*resize, part, *size, key);
        let place = |image, window| Placement::of_window(image, window, *resize, training);
        // A bad sample is the loader's to report.
        let _ = contained(source, id, &mut scratch, |scratch| {
            let (image, mask) = (&mut image[..], MaskOut::Canvas(&mut mask));
            let out = |_: &Placement| (image, mask);
            reader.read(source, id, scratch, &counters, |_| ())?;
            reader.decode(source, id, scratch, &counters, place, out)
        });
        if start.elapsed() > ENOUGH {
            break;
        }
    }
    let (held, bytes) = shelf.held();
    let (stats, held) = (counters.snapshot(), u32::try_from(held).ok()?);
    let bytes = bytes.checked_div(held.into())?;
    Some(SampleCost { bytes, decode: (stats.read + stats.decode + stats.resize + stats.pack) / held })
}
