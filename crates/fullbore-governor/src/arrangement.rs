//! What a run changes, while it goes, about how its batches are made: tried for a while, compared, kept or taken back.

use std::fmt;

/// How batches are made, as far as a run may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// Whether the device augments; else the data threads do.
    pub on_device: bool,
    /// Threads that one operation of the model is split over.
    pub compute: usize,
    /// Batches that wait ready on the device; 0 where none ever does.
    pub buffer: usize,
}

/// What may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leeway {
    /// Whether augmentation may move.
    pub sides: bool,
    /// Cores that the model's threads and the data threads share, where the number of the former may change.
    pub cores: Option<usize>,
    /// Most batches that may wait.
    pub buffer: usize,
}

/// What was measured over some seconds of a run.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Samples trained per second.
    pub speed: f64,
    /// Share of the time that the run waited for data.
    pub waits: f64,
    /// Cores that data threads kept busy with computing, on average.
    pub data_cores: f64,
    /// Whether the buffer was full at some moment.
    pub was_full: bool,
}

/// Why an arrangement is changed. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// The run waited for data for this share of its time.
    Waited(f64),
    /// Data threads keep that many cores busy, and each step waits for the slowest of the model's threads.
    CoresShared(f64),
    /// The last change did not make steps come faster.
    NoGain,
}

/// One thing about an arrangement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Side,
    Compute,
    Buffer,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Waited(share) => write!(f, "the run waited for data {:.0} % of its time", 100.0 * share),
            Why::CoresShared(busy) => write!(f, "loading keeps {busy:.1} cores busy"),
            Why::NoGain => f.write_str("that did not make steps come faster"),
        }
    }
}

/// A share of its time that a run may wait.
const WAITS: f64 = 0.02;
/// Stretches that must agree on a reason, and over which a change is tried: the number of data threads settles first.
const STRETCHES: u32 = 3;
/// Speed that a change has to bring, measured; and what it must promise to be tried.
const GAIN: f64 = 1.03;
/// Stretches until what brought nothing may be tried again, or what brought something be undone.
const TRY_AGAIN_AFTER: u32 = 200;

/// Tries one change at a time and keeps those that make steps come faster. Knows no clock: the same stretches give the same
/// decisions.
#[derive(Debug)]
pub struct Arranger {
    leeway: Leeway,
    now: Arrangement,
    /// What is left as it is, and for how many stretches.
    left_alone: Vec<(Part, u32)>,
    /// What a trial is compared with: what was tried, the arrangement and the speed before.
    before: Option<(Part, Arrangement, f64)>,
    seen: Vec<Stretch>,
    /// The stretch after a change mixes old and new.
    mixed: bool,
}

impl Arranger {
    /// Begins with `now`.
    pub fn new(now: Arrangement, leeway: Leeway) -> Self {
        Self { leeway, now, left_alone: Vec::new(), before: None, seen: Vec::new(), mixed: true }
    }

    /// What holds.
    pub fn now(&self) -> Arrangement {
        self.now
    }

    /// What was decided last cannot be done. What holds instead; `None` when that was no trial.
    pub fn take_back(&mut self) -> Option<Arrangement> {
        let (part, before, _) = self.before.take()?;
        self.left_alone.push((part, TRY_AGAIN_AFTER));
        self.change(before, Why::NoGain).map(|(to, _)| to)
    }

    /// The buffer that was really made, where memory allowed less.
    pub fn got(&mut self, buffer: usize) {
        self.now.buffer = buffer;
    }

    /// Judges a stretch; what it returns holds from then on.
    pub fn judge(&mut self, stretch: Stretch) -> Option<(Arrangement, Why)> {
        self.left_alone.retain_mut(|(_, stretches)| {
            *stretches -= 1;
            *stretches > 0
        });
        if std::mem::take(&mut self.mixed) {
            return None;
        }
        self.seen.push(stretch);
        if self.seen.len() < STRETCHES as usize {
            return None;
        }
        let speed = self.seen.iter().map(|s| s.speed).sum::<f64>() / self.seen.len() as f64;
        if let Some((part, before, reference)) = self.before.take() {
            self.seen.clear();
            let gained = speed >= GAIN * reference;
            // More of the same may help more, but sides must not be changed back and forth.
            if !gained || part == Part::Side {
                self.left_alone.push((part, TRY_AGAIN_AFTER));
            }
            return if gained { None } else { self.change(before, Why::NoGain) };
        }
        let tried = self.candidate();
        // The reason must hold for all of the last few.
        self.seen.remove(0);
        let (part, to, why) = tried?;
        self.before = Some((part, self.now, speed));
        self.change(to, why)
    }

    fn change(&mut self, to: Arrangement, why: Why) -> Option<(Arrangement, Why)> {
        (self.now, self.mixed) = (to, true);
        self.seen.clear();
        Some((to, why))
    }

    /// The most promising change that has not failed lately.
    fn candidate(&self) -> Option<(Part, Arrangement, Why)> {
        let now = self.now;
        let every = |holds: fn(&Stretch) -> bool| self.seen.iter().all(holds);
        let mean = |of: fn(&Stretch) -> f64| self.seen.iter().map(of).sum::<f64>() / self.seen.len() as f64;
        let waited = Why::Waited(mean(|s| s.waits));
        let mut candidates = Vec::new();
        if every(|s| s.waits > WAITS) {
            // Batches come in bursts: enough of them, but not always.
            let deeper = (2 * now.buffer).min(self.leeway.buffer);
            if self.seen.iter().any(|s| s.was_full) && deeper > now.buffer {
                candidates.push((Part::Buffer, Arrangement { buffer: deeper, ..now }, waited));
            }
            if self.leeway.sides {
                candidates.push((Part::Side, Arrangement { on_device: !now.on_device, ..now }, waited));
            }
            if self.leeway.cores.is_some() && now.compute > 1 {
                candidates.push((Part::Compute, Arrangement { compute: now.compute - 1, ..now }, waited));
            }
        } else if let Some(cores) = self.leeway.cores {
            let busy = mean(|s| s.data_cores);
            let promise = |threads: usize| promised(threads, cores, busy);
            let best = (1..=cores).max_by(|a, b| promise(*a).total_cmp(&promise(*b))).unwrap_or(cores);
            if promise(best) >= GAIN * promise(now.compute) {
                candidates.push((
                    Part::Compute,
                    Arrangement { compute: best, ..now },
                    Why::CoresShared(busy),
                ));
            }
        }
        candidates.into_iter().find(|(part, ..)| self.left_alone.iter().all(|(left, _)| left != part))
    }
}

/// Speed of an operation split evenly over `threads`, where others keep `busy` of the `cores`: all wait for the thread
/// that shares its core.
fn promised(threads: usize, cores: usize, busy: f64) -> f64 {
    let shared = (threads as f64 + busy - cores as f64).clamp(0.0, 1.0);
    threads as f64 / (1.0 + shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Arrangement = Arrangement { on_device: false, compute: 4, buffer: 8 };
    const ALL: Leeway = Leeway { sides: true, cores: Some(4), buffer: 32 };
    const NONE: Leeway = Leeway { sides: false, cores: None, buffer: 8 };
    const STARVING: Stretch = Stretch { speed: 100.0, waits: 0.3, data_cores: 2.0, was_full: false };
    const FINE: Stretch = Stretch { speed: 100.0, waits: 0.0, data_cores: 0.1, was_full: true };

    fn judge(arranger: &mut Arranger, stretch: Stretch, times: usize) -> Vec<(Arrangement, Why)> {
        (0..times).filter_map(|_| arranger.judge(stretch)).collect()
    }

    #[test]
    fn a_run_that_does_not_wait_is_left_alone() {
        assert_eq!(judge(&mut Arranger::new(NOW, ALL), FINE, 500), []);
        assert_eq!(judge(&mut Arranger::new(NOW, NONE), STARVING, 500), [], "nothing may be changed");
    }

    #[test]
    fn a_starving_run_tries_the_device_and_keeps_what_is_faster() {
        let mut arranger = Arranger::new(NOW, ALL);
        assert_eq!(judge(&mut arranger, STARVING, 3), [], "the first stretch is start-up");
        let device = Arrangement { on_device: true, ..NOW };
        assert_eq!(judge(&mut arranger, STARVING, 1), [(device, Why::Waited(0.3))]);
        assert_eq!(judge(&mut arranger, Stretch { speed: 130.0, ..FINE }, 500), []);
        assert_eq!(arranger.now(), device);
    }

    #[test]
    fn what_brings_nothing_is_taken_back_and_the_next_is_tried() {
        let mut arranger = Arranger::new(NOW, ALL);
        let changes = judge(&mut arranger, STARVING, 4 * 5);
        let device = Arrangement { on_device: true, ..NOW };
        let threads = Arrangement { compute: 3, ..NOW };
        let tried = [(device, Why::Waited(0.3)), (NOW, Why::NoGain), (threads, Why::Waited(0.3))];
        assert_eq!(changes[..3].iter().map(|c| c.0).collect::<Vec<_>>(), tried.map(|c| c.0));
        assert_eq!(changes[1].1, Why::NoGain);
        assert_eq!(judge(&mut arranger, STARVING, 150), [], "nothing is left to try for a while");
        assert_eq!(arranger.now(), NOW);
        assert!(!judge(&mut arranger, STARVING, 100).is_empty(), "but one day there is");
    }

    #[test]
    fn what_cannot_be_done_is_left_alone() {
        let mut arranger = Arranger::new(NOW, Leeway { sides: true, ..NONE });
        assert!(judge(&mut arranger, STARVING, 4)[0].0.on_device);
        assert_eq!((arranger.take_back(), arranger.take_back()), (Some(NOW), None));
        assert_eq!(judge(&mut arranger, STARVING, 150), []);
    }

    #[test]
    fn a_side_that_proved_better_is_kept_even_where_the_run_still_waits() {
        let mut arranger = Arranger::new(NOW, Leeway { sides: true, ..NONE });
        assert!(judge(&mut arranger, STARVING, 4)[0].0.on_device);
        assert_eq!(judge(&mut arranger, Stretch { speed: 150.0, ..STARVING }, 150), []);
    }

    #[test]
    fn bursts_ask_for_a_deeper_buffer_up_to_what_fits() {
        let mut arranger = Arranger::new(NOW, ALL);
        let bursts = |speed| Stretch { was_full: true, speed, ..STARVING };
        let mut changes = judge(&mut arranger, bursts(100.0), 4);
        changes.extend(judge(&mut arranger, bursts(110.0), 8));
        changes.extend(judge(&mut arranger, Stretch { speed: 120.0, ..FINE }, 20));
        let buffers: Vec<_> = changes.iter().map(|(to, _)| to.buffer).collect();
        assert_eq!(buffers, [16, 32]);
    }

    #[test]
    fn threads_make_way_for_busy_loaders_only_where_it_pays() {
        let to = |cores, busy| {
            let now = Arrangement { compute: cores, ..NOW };
            let mut arranger = Arranger::new(now, Leeway { cores: Some(cores), ..NONE });
            judge(&mut arranger, Stretch { data_cores: busy, ..FINE }, 4).first().map(|(to, _)| to.compute)
        };
        assert_eq!(
            [0.2, 0.5, 1.0].map(|busy| to(2, busy)),
            [None; 3],
            "half of two cores is too much to give"
        );
        assert_eq!([0.1, 0.5, 1.0, 2.0].map(|busy| to(16, busy)), [Some(15), Some(15), Some(15), Some(14)]);
    }

    #[test]
    fn threads_come_back_when_loading_has_become_cheap() {
        let leeway = Leeway { cores: Some(16), ..NONE };
        let mut arranger = Arranger::new(Arrangement { compute: 14, ..NOW }, leeway);
        let changes = judge(&mut arranger, Stretch { data_cores: 0.01, ..FINE }, 4);
        assert_eq!(changes.first().map(|(to, _)| to.compute), Some(16));
    }

    proptest! {
        /// A machine on which each arrangement has a speed and a wait of its own.
        #[test]
        fn it_settles_within_its_leeway_and_never_below_what_it_began_with(
            speeds in prop::collection::vec((50.0f64..200.0, 0.0f64..0.5, 0.0f64..4.0, any::<bool>()), 64),
            compute in 1usize..=8, cores in prop::option::of(8usize..=8), sides in any::<bool>(), most in 8usize..=64,
        ) {
            let began = Arrangement { on_device: false, compute, buffer: 8 };
            let leeway = Leeway { sides, cores, buffer: most };
            let at = |a: Arrangement| {
                let place = usize::from(a.on_device) + 2 * (a.compute % 8) + 16 * (a.buffer / 8).ilog2() as usize;
                let (speed, waits, data_cores, was_full) = speeds[place % speeds.len()];
                Stretch { speed, waits, data_cores, was_full }
            };
            let mut arranger = Arranger::new(began, leeway);
            for _ in 0..2000 {
                let before = arranger.now();
                if let Some((to, why)) = arranger.judge(at(before)) {
                    prop_assert_eq!(to, arranger.now());
                    prop_assert!(to != before);
                    prop_assert!(sides || !to.on_device);
                    prop_assert!((1..=8).contains(&to.compute) && (cores.is_some() || to.compute == compute));
                    prop_assert!((8..=most).contains(&to.buffer));
                    if why == Why::NoGain {
                        prop_assert!(at(before).speed < GAIN * at(to).speed);
                    }
                }
            }
            // What is left open may be a trial.
            let settled = arranger.before.map_or(arranger.now(), |(_, before, _)| before);
            prop_assert!(at(settled).speed >= at(began).speed);
        }
    }
}
