//! The most frequent shrinking, by exactly two, faster than the general resizer does it.

/// Rows that a worker keeps from sample to sample.
#[derive(Default)]
pub(super) struct Halver {
    /// One row of the source size, filtered downwards only and scaled by 8.
    sums: Vec<u16>,
    /// The same row filtered both ways, before every second pixel is dropped.
    filtered: Vec<u8>,
}

impl Halver {
    /// One target row of at least two pixels with `C` interleaved channels, from the source rows `upper` and
    /// `lower` that it covers and their neighbours, where there are any.
    ///
    /// The filter is the triangle that fits a halving: weights 1 3 3 1, of which those beyond the picture are left
    /// out. It is rounded once, at the end.
    pub(super) fn row<const C: usize>(
        &mut self,
        above: Option<&[u8]>,
        [upper, lower]: [&[u8]; 2],
        below: Option<&[u8]>,
        target: &mut [u8],
    ) {
        let n = upper.len();
        self.sums.resize(n, 0);
        self.filtered.resize(n, 0);
        let (sums, filtered) = (&mut self.sums[..], &mut self.filtered[..]);
        let covered = upper.iter().zip(lower).map(|(&a, &b)| u16::from(a) + u16::from(b));
        let sums_of_covered = sums.iter_mut().zip(covered);
        match (above, below) {
            (Some(above), Some(below)) => {
                let neighbours = above.iter().zip(below).map(|(&a, &b)| u16::from(a) + u16::from(b));
                sums_of_covered.zip(neighbours).for_each(|((sum, near), far)| *sum = 3 * near + far);
            }
            (Some(far), None) | (None, Some(far)) => {
                let far = far.iter().map(|&far| u16::from(far));
                sums_of_covered.zip(far).for_each(|((sum, near), far)| *sum = ((3 * near + far) * 8 + 3) / 7);
            }
            (None, None) => sums_of_covered.for_each(|(sum, near)| *sum = 4 * near),
        }

        // Filtering at every source pixel lets the compiler use vectors; that is cheaper than skipping half of them.
        let shifted = |by: usize| &sums[by * C..n - (3 - by) * C];
        let inner = shifted(1).iter().zip(shifted(2)).map(|(a, b)| 3 * (a + b));
        let outer = shifted(0).iter().zip(shifted(3)).map(|(a, b)| a + b);
        for ((to, inner), outer) in filtered.iter_mut().zip(inner).zip(outer) {
            *to = ((inner + outer + 32) >> 6) as u8;
        }
        let (target, _) = target.as_chunks_mut::<C>();
        let [first, inside @ .., last] = target else { unreachable!("the row has two pixels") };
        let (filtered, _) = filtered.as_chunks::<C>();
        inside.iter_mut().zip(filtered[1..].iter().step_by(2)).for_each(|(to, from)| *to = *from);

        let (sums, _) = sums.as_chunks::<C>();
        let at_edge = |near: [u16; C], next: [u16; C], far: [u16; C]| -> [u8; C] {
            std::array::from_fn(|c| ((3 * (near[c] + next[c]) + far[c] + 28) / 56) as u8)
        };
        let end = sums.len();
        *first = at_edge(sums[0], sums[1], sums[2]);
        *last = at_edge(sums[end - 1], sums[end - 2], sums[end - 3]);
    }
}
