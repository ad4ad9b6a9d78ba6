//! The sizes that a micro-batch may have: each about half of the one before.

/// The sizes from `max` down to `min`, largest first, never empty. Each is at most half of the one before; as long as
/// a whole `group` fits it is a multiple of it, so that statistics over groups of samples do not change.
pub(crate) fn chain(max: usize, min: usize, group: Option<usize>) -> Vec<usize> {
    let max = max.max(1);
    let min = min.clamp(1, max);
    let halves = |&size: &usize| {
        let half = size / 2;
        let half = match group {
            Some(group) if group > 0 && half >= group => half - half % group,
            _ => half,
        };
        (half >= min).then_some(half)
    };
    std::iter::successors(Some(max), halves).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_halves_of_the_batch() {
        assert_eq!(chain(8, 1, None), [8, 4, 2, 1]);
        assert_eq!(chain(32, 4, None), [32, 16, 8, 4]);
        assert_eq!(chain(6, 1, None), [6, 3, 1]);
        assert_eq!(chain(1, 1, None), [1]);
        assert_eq!(chain(0, 0, None), [1]);
        assert_eq!(chain(4, 9, None), [4]);
    }

    #[test]
    fn groups_stay_whole_while_one_fits() {
        assert_eq!(chain(12, 1, Some(4)), [12, 4, 2, 1]);
        assert_eq!(chain(16, 1, Some(4)), [16, 8, 4, 2, 1]);
        assert_eq!(chain(10, 1, Some(0)), [10, 5, 2, 1]);
    }

    proptest! {
        #[test]
        fn each_size_at_most_halves_and_stays_in_bounds(
            max in 0usize..70_000, min in 0usize..40, group in proptest::option::of(0usize..20),
        ) {
            let sizes = chain(max, min, group);
            prop_assert_eq!(sizes[0], max.max(1));
            prop_assert!(sizes.len() <= 17);
            prop_assert!(sizes.windows(2).all(|two| two[1] >= 1 && two[1] <= two[0] / 2));
            prop_assert!(sizes.iter().all(|&size| size >= min.clamp(1, max.max(1))));
            if let Some(group) = group.filter(|group| *group > 0) {
                prop_assert!(sizes[1..].iter().all(|&size| size < group || size % group == 0));
            }
        }
    }
}
