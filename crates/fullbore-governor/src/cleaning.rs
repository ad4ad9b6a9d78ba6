//! When to clean up: above a share of the memory, but not at every step, and ever more rarely where it does not help.

/// Shortest and longest pause between two clean-ups, in steps.
const PAUSES: [u32; 2] = [16, 4096];

/// How much is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What is not needed now.
    Gentle,
    /// Also what can be made again.
    Aggressive,
}

/// Decides for one kind of memory.
#[derive(Clone, Debug)]
pub(crate) struct Cleaning {
    /// Steps until the next clean-up may be.
    rest: u32,
    /// The pause after the next one.
    pause: u32,
    /// What has been done since memory was last clean.
    done: Option<Level>,
}

impl Cleaning {
    pub(crate) fn new() -> Self {
        Self { rest: 0, pause: PAUSES[0], done: None }
    }

    /// Judges a step at whose end memory asks for a clean-up of `wanted`, or is `clean`, or neither. True: clean up
    /// now. A stronger one need not wait for the pause after a weaker one.
    pub(crate) fn is_due(&mut self, wanted: Option<Level>, clean: bool) -> bool {
        self.rest = self.rest.saturating_sub(1);
        if clean {
            (self.pause, self.done) = (PAUSES[0], None);
        }
        let Some(level) = wanted else { return false };
        let stronger = self.done.is_some_and(|done| level > done);
        if self.rest > 0 && !stronger {
            return false;
        }
        (self.rest, self.done) = (self.pause, self.done.max(Some(level)));
        self.pause = (self.pause * 2).min(PAUSES[1]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn due(cleaning: &mut Cleaning, steps: &[(Option<Level>, bool)]) -> Vec<usize> {
        let due = |(i, &(wanted, clean))| cleaning.is_due(wanted, clean).then_some(i);
        steps.iter().enumerate().filter_map(due).collect()
    }

    #[test]
    fn what_does_not_help_is_done_ever_more_rarely() {
        let full = [(Some(Level::Gentle), false); 200];
        assert_eq!(due(&mut Cleaning::new(), &full), [0, 16, 48, 112]);
    }

    #[test]
    fn what_helps_for_a_while_is_done_again_but_not_at_every_step() {
        let refilling: Vec<_> =
            (0..64).map(|i| if i % 2 == 0 { (Some(Level::Gentle), false) } else { (None, true) }).collect();
        assert_eq!(due(&mut Cleaning::new(), &refilling), [0, 16, 32, 48]);
    }

    #[test]
    fn a_stronger_one_does_not_wait() {
        let mut cleaning = Cleaning::new();
        assert!(cleaning.is_due(Some(Level::Gentle), false));
        assert!(cleaning.is_due(Some(Level::Aggressive), false));
        assert!(!cleaning.is_due(Some(Level::Aggressive), false));
        assert!(!cleaning.is_due(Some(Level::Gentle), false));
    }

    proptest! {
        #[test]
        fn clean_ups_are_rare_whatever_memory_does(steps in proptest::collection::vec((0u8..3, any::<bool>()), 0..600)) {
            let steps: Vec<_> = steps
                .into_iter()
                .map(|(level, clean)| match level {
                    0 => (None, clean),
                    1 => (Some(Level::Gentle), false),
                    _ => (Some(Level::Aggressive), false),
                })
                .collect();
            let times = due(&mut Cleaning::new(), &steps);
            // In each shortest pause one of each level at most.
            prop_assert!(times.len() <= 2 * (steps.len() / 16 + 1));
        }
    }
}
