use std::path::PathBuf;
use std::sync::Arc;

use fullbore_types::SampleId;

use super::{About, Origin, Part, Source, SourceError, Target, TargetKind};
use crate::order::Shuffle;

/// Samples of another source, numbered anew from 0: some of them, or each several times.
pub struct Renumbered {
    source: Arc<dyn Source>,
    ids: Ids,
}

enum Ids {
    /// Sample `i` is this one of the other source.
    Listed(Vec<u32>),
    /// Samples `i * times` to `i * times + times - 1` are sample `i` of the other source.
    Repeated(u32),
}

/// Splits a source: every `every`-th image (the first, the `every`+1st, ...) validates with all its samples, the
/// others train. Returns (train, validation); both keep the source's order.
///
/// # Errors
/// When one of the two would be empty.
pub fn hold_out(source: Arc<dyn Source>, every: u32) -> Result<(Renumbered, Renumbered), SourceError> {
    check_count(source.len() as u64)?;
    let n_samples = source.len() as u32;
    let (mut train, mut val) = (Vec::new(), Vec::new());
    let (mut n_images, mut last) = (0u32, None);
    for i in 0..n_samples {
        let image = source.image_number(SampleId(i));
        if last.replace(image) != Some(image) {
            n_images += 1;
        }
        if every > 0 && (n_images - 1) % every == 0 { val.push(i) } else { train.push(i) }
    }
    if train.is_empty() || val.is_empty() {
        return Err(SourceError::SplitTooSmall { n: n_images as usize, every });
    }
    let listed = |ids| Renumbered { source: source.clone(), ids: Ids::Listed(ids) };
    Ok((listed(train), listed(val)))
}

impl Renumbered {
    /// The given samples of `source`, in this order.
    ///
    /// # Panics
    /// When an id is not in the source.
    pub fn subset(source: Arc<dyn Source>, ids: Vec<u32>) -> Self {
        assert!(ids.iter().all(|&id| (id as usize) < source.len()), "every id must be in the source");
        Renumbered { source, ids: Ids::Listed(ids) }
    }

    /// Each sample of `source` `times` times: instance `i * times + k` is sample `i`. With random crops every
    /// instance draws its own window.
    ///
    /// # Errors
    /// When there would be more instances than ids.
    ///
    /// # Panics
    /// When `times` is zero.
    pub fn repeat(source: Arc<dyn Source>, times: u32) -> Result<Self, SourceError> {
        assert!(times > 0, "a sample is there at least once");
        check_count((source.len() as u64).saturating_mul(u64::from(times)))?;
        Ok(Renumbered { source, ids: Ids::Repeated(times) })
    }

    fn outer(&self, id: SampleId) -> SampleId {
        match &self.ids {
            Ids::Listed(ids) => SampleId(ids[id.0 as usize]),
            Ids::Repeated(times) => SampleId(id.0 / times),
        }
    }
}

impl Source for Renumbered {
    fn len(&self) -> usize {
        match &self.ids {
            Ids::Listed(ids) => ids.len(),
            Ids::Repeated(times) => self.source.len() * *times as usize,
        }
    }

    fn kind(&self) -> TargetKind {
        self.source.kind()
    }

    fn point_names(&self) -> &[String] {
        self.source.point_names()
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

    fn target(&self, id: SampleId) -> Target<'_> {
        self.source.target(self.outer(id))
    }

    fn about(&self, id: SampleId) -> About {
        self.source.about(self.outer(id))
    }

    /// As the other source has it, with the samples of a block repeated in place.
    fn shuffle(&self) -> Shuffle {
        match (self.source.shuffle(), &self.ids) {
            (Shuffle::Windows { block, window }, Ids::Repeated(times)) => {
                Shuffle::Windows { block: block.saturating_mul(*times), window }
            }
            (shuffle, _) => shuffle,
        }
    }

    fn image_number(&self, id: SampleId) -> u32 {
        self.source.image_number(self.outer(id))
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

    /// `.0` samples, `.1` of each image.
    struct Numbers(usize, u32);

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

        fn shuffle(&self) -> Shuffle {
            Shuffle::Windows { block: 10, window: 4 }
        }

        fn image_number(&self, id: SampleId) -> u32 {
            id.0 / self.1
        }
    }

    fn names(source: &dyn Source) -> Vec<usize> {
        (0..source.len() as u32).map(|i| source.name(SampleId(i)).parse().unwrap()).collect()
    }

    #[test]
    fn the_first_of_every_five_validates() {
        let (train, val) = hold_out(Arc::new(Numbers(11, 1)), 5).unwrap();
        assert_eq!(names(&val), [0, 5, 10]);
        assert_eq!(names(&train), [1, 2, 3, 4, 6, 7, 8, 9]);
        let error = hold_out(Arc::new(Numbers(1, 1)), 5).err().unwrap();
        assert!(matches!(error, SourceError::SplitTooSmall { n: 1, every: 5 }));
        for every in [0, 1] {
            assert!(hold_out(Arc::new(Numbers(9, 1)), every).is_err());
        }
    }

    #[test]
    fn samples_of_one_image_stay_together() {
        let (train, val) = hold_out(Arc::new(Numbers(8, 3)), 2).unwrap();
        assert_eq!((names(&train), names(&val)), (vec![3, 4, 5], vec![0, 1, 2, 6, 7]));
    }

    #[test]
    fn repeats_number_the_instances_of_a_sample_in_a_row() {
        let repeat = Renumbered::repeat(Arc::new(Numbers(2, 1)), 3).unwrap();
        assert_eq!(names(&repeat), [0, 0, 0, 1, 1, 1]);
        let blocks = Shuffle::Windows { block: 30, window: 4 };
        assert_eq!(repeat.shuffle(), blocks);
        let subset = Renumbered::subset(Arc::new(repeat), vec![5, 0]);
        assert_eq!((names(&subset), subset.shuffle()), (vec![1, 0], blocks));
        assert!(matches!(
            Renumbered::repeat(Arc::new(Numbers(1 << 31, 1)), 2),
            Err(SourceError::TooMany { n: 4_294_967_296 })
        ));
    }

    proptest! {
        #[test]
        fn a_split_is_a_partition(n in 2usize..200, every in 2u32..50) {
            let (train, val) = hold_out(Arc::new(Numbers(n, 1)), every).unwrap();
            let mut all = [names(&train), names(&val)].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert!(!train.is_empty() && !val.is_empty());
        }
    }
}
