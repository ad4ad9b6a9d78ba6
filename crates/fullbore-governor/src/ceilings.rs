//! Sizes that have not fitted, and the room there was when they did not.

use serde::{Deserialize, Serialize};

/// Most ceilings that are remembered; beyond it the oldest is forgotten.
const MOST: usize = 128;

/// The sizes that have not fitted. A failure speaks against every micro-batch of at least as many samples of at least
/// the same size. It holds until it is lifted, which is allowed only once there is clearly more room than then; it
/// stays known after that, with the number of times it has happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ceilings(Vec<Ceiling>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ceiling {
    sample_bytes: u64,
    micro: usize,
    /// Largest limit under which this has failed.
    room: u64,
    /// Times that it has failed.
    strikes: u32,
    lifted: bool,
}

impl Ceiling {
    fn covers(&self, sample_bytes: u64, micro: usize) -> bool {
        self.sample_bytes <= sample_bytes && self.micro <= micro
    }
}

impl Ceilings {
    /// Whether `micro` samples of `sample_bytes` each are known not to fit.
    pub(crate) fn forbid(&self, sample_bytes: u64, micro: usize) -> bool {
        self.covering(sample_bytes, micro).any(|ceiling| !ceiling.lifted)
    }

    /// Whether a limit of `limit` bytes is more room by at least the share `more` than ever when this failed.
    pub(crate) fn have_room(&self, sample_bytes: u64, micro: usize, limit: u64, more: f64) -> bool {
        self.covering(sample_bytes, micro)
            .filter(|ceiling| !ceiling.lifted)
            .all(|ceiling| limit as f64 >= ceiling.room as f64 * (1.0 + more))
    }

    /// How often this has failed.
    pub(crate) fn strikes(&self, sample_bytes: u64, micro: usize) -> u32 {
        self.covering(sample_bytes, micro).map(|ceiling| ceiling.strikes).max().unwrap_or(0)
    }

    /// Remembers that `micro` samples did not fit under a limit of `room` bytes.
    pub(crate) fn add(&mut self, sample_bytes: u64, micro: usize, room: u64) {
        let same = |ceiling: &&mut Ceiling| ceiling.sample_bytes == sample_bytes && ceiling.micro == micro;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.room = known.room.max(room);
            known.strikes = known.strikes.saturating_add(1);
            known.lifted = false;
            return;
        }
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(Ceiling { sample_bytes, micro, room, strikes: 1, lifted: false });
    }

    /// Allows `micro` samples of `sample_bytes` again.
    pub(crate) fn lift(&mut self, sample_bytes: u64, micro: usize) {
        self.0
            .iter_mut()
            .filter(|ceiling| ceiling.covers(sample_bytes, micro))
            .for_each(|ceiling| ceiling.lifted = true);
    }

    fn covering(&self, sample_bytes: u64, micro: usize) -> impl Iterator<Item = &Ceiling> {
        self.0.iter().filter(move |ceiling| ceiling.covers(sample_bytes, micro))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_speaks_against_all_that_is_larger() {
        let mut ceilings = Ceilings::default();
        ceilings.add(100, 8, 1000);
        assert!(ceilings.forbid(100, 8) && ceilings.forbid(100, 16) && ceilings.forbid(200, 8));
        assert!(!ceilings.forbid(100, 4) && !ceilings.forbid(99, 8));
    }

    #[test]
    fn only_clearly_more_room_than_ever_at_a_failure_counts() {
        let mut ceilings = Ceilings::default();
        ceilings.add(100, 8, 1000);
        assert!(!ceilings.have_room(100, 8, 1099, 0.1) && ceilings.have_room(100, 8, 1101, 0.1));
        ceilings.lift(100, 8);
        assert!(!ceilings.forbid(100, 8));
        ceilings.add(100, 8, 500);
        assert!(ceilings.forbid(100, 8) && !ceilings.have_room(100, 8, 600, 0.1));
        assert_eq!((ceilings.strikes(100, 8), ceilings.strikes(100, 4)), (2, 0));
    }

    #[test]
    fn lifting_one_size_leaves_the_larger_ones() {
        let mut ceilings = Ceilings::default();
        ceilings.add(100, 8, 1000);
        ceilings.add(100, 4, 1000);
        ceilings.lift(100, 4);
        assert!(!ceilings.forbid(100, 4) && ceilings.forbid(100, 8));
    }

    #[test]
    fn the_list_does_not_grow_without_end() {
        let mut ceilings = Ceilings::default();
        (0..10_000).for_each(|bytes| ceilings.add(10_000 - bytes, 8, 1));
        assert_eq!(ceilings.0.len(), MOST);
    }
}
