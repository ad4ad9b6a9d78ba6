use std::path::PathBuf;
use std::sync::Arc;

use fullbore_types::SampleId;

use super::{Origin, Part, Source, SourceError};

/// Some samples of another source, in a given order, numbered anew from 0.
pub struct Subset {
    source: Arc<dyn Source>,
    ids: Vec<u32>,
}

/// Splits a source: every `every`-th sample (the first, the `every`+1st, ...) validates, the others train.
/// Returns (train, validation); both keep the source's order.
///
/// # Errors
/// When one of the two would be empty.
pub fn hold_out(source: Arc<dyn Source>, every: u32) -> Result<(Subset, Subset), SourceError> {
    let n = source.len();
    check_count(n as u64)?;
    if every < 2 || n < 2 {
        return Err(SourceError::SplitTooSmall { n, every });
    }
    let (val, train) = (0..n as u32).partition(|i| i % every == 0);
    Ok((Subset { source: source.clone(), ids: train }, Subset { source, ids: val }))
}

impl Subset {
    /// The given samples of `source`.
    ///
    /// # Panics
    /// When an id is not in the source.
    pub fn new(source: Arc<dyn Source>, ids: Vec<u32>) -> Self {
        assert!(ids.iter().all(|&id| (id as usize) < source.len()), "every id must be in the source");
        Subset { source, ids }
    }

    fn outer(&self, id: SampleId) -> SampleId {
        SampleId(self.ids[id.0 as usize])
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn name(&self, id: SampleId) -> String {
        self.source.name(self.outer(id))
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.source.file(self.outer(id), part)
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        self.source.origin(self.outer(id), part)
    }

    fn read(&self, id: SampleId, part: Part, max: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        self.source.read(self.outer(id), part, max, bytes)
    }
}

/// Each sample of another source `times` times: instance `i * times + k` is sample `i`. With random crops every
/// instance draws its own window.
pub struct Repeat {
    source: Arc<dyn Source>,
    times: u32,
}

impl Repeat {
    /// Repeats `source`.
    ///
    /// # Errors
    /// When there would be more instances than ids.
    ///
    /// # Panics
    /// When `times` is zero.
    pub fn new(source: Arc<dyn Source>, times: u32) -> Result<Self, SourceError> {
        assert!(times > 0, "a sample is there at least once");
        check_count((source.len() as u64).saturating_mul(u64::from(times)))?;
        Ok(Repeat { source, times })
    }

    fn outer(&self, id: SampleId) -> SampleId {
        SampleId(id.0 / self.times)
    }
}

impl Source for Repeat {
    fn len(&self) -> usize {
        self.source.len() * self.times as usize
    }

    fn name(&self, id: SampleId) -> String {
        self.source.name(self.outer(id))
    }

    fn file(&self, id: SampleId, part: Part) -> PathBuf {
        self.source.file(self.outer(id), part)
    }

    fn origin(&self, id: SampleId, part: Part) -> Option<Origin> {
        self.source.origin(self.outer(id), part)
    }

    fn read(&self, id: SampleId, part: Part, max: u64, bytes: &mut Vec<u8>) -> Result<(), SourceError> {
        self.source.read(self.outer(id), part, max, bytes)
    }
}

/// Ids are u32.
pub(super) fn check_count(n: u64) -> Result<(), SourceError> {
    match n > u64::from(u32::MAX) {
        true => Err(SourceError::TooMany { n }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Numbers(usize);

    impl Source for Numbers {
        fn len(&self) -> usize {
            self.0
        }

        fn name(&self, id: SampleId) -> String {
            id.0.to_string()
        }

        fn file(&self, id: SampleId, _: Part) -> PathBuf {
            id.0.to_string().into()
        }
    }

    fn names(source: &dyn Source) -> Vec<usize> {
        (0..source.len() as u32).map(|i| source.name(SampleId(i)).parse().unwrap()).collect()
    }

    #[test]
    fn the_first_of_every_five_validates() {
        let (train, val) = hold_out(Arc::new(Numbers(11)), 5).unwrap();
        assert_eq!(names(&val), [0, 5, 10]);
        assert_eq!(names(&train), [1, 2, 3, 4, 6, 7, 8, 9]);
        let error = hold_out(Arc::new(Numbers(1)), 5).err().unwrap();
        assert!(matches!(error, SourceError::SplitTooSmall { n: 1, every: 5 }));
    }

    #[test]
    fn repeats_number_the_instances_of_a_sample_in_a_row() {
        let repeat = Repeat::new(Arc::new(Numbers(2)), 3).unwrap();
        assert_eq!(names(&repeat), [0, 0, 0, 1, 1, 1]);
        assert!(matches!(
            Repeat::new(Arc::new(Numbers(1 << 31)), 2),
            Err(SourceError::TooMany { n: 4_294_967_296 })
        ));
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition(n in 2usize..200, every in 2u32..50) {
            let (train, val) = hold_out(Arc::new(Numbers(n)), every).unwrap();
            let mut all = [names(&train), names(&val)].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert!(!train.is_empty() && !val.is_empty());
        }
    }
}
