//! How many decoding threads: the adjustment to what is measured.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::stats::LoaderStats;

/// The number of decoding threads has been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerChange {
    /// Before.
    pub from: usize,
    /// From now on.
    pub to: usize,
    /// The reason.
    pub why: WhyWorkers,
}

/// Why the number of decoding threads was changed. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyWorkers {
    /// The consumer waited for batches while the threads were busy.
    ConsumerWaits,
    /// The threads mostly waited for room.
    WorkersIdle,
    /// The thread added last did not make batches come faster.
    NoGain,
}

impl fmt::Display for WhyWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyWorkers::ConsumerWaits => "the run waited for data while all data threads were busy",
            WhyWorkers::WorkersIdle => "the data threads mostly waited for room",
            WhyWorkers::NoGain => "one more data thread did not make batches come faster",
        })
    }
}

/// A share of its time that the consumer may wait before more workers are called.
const WAITS: f64 = 0.05;
/// Below this share it counts as not waiting.
const HARDLY_WAITS: f64 = 0.01;
/// Workers that are idle for a larger share are not short of hands.
const BUSY: f64 = 0.25;
/// One worker fewer must leave the others at most this busy.
const ROOMY: f64 = 0.6;
/// Verdicts in a row for one worker more, and for one fewer: too few cost more than too many.
const MORE_AFTER: u32 = 2;
const FEWER_AFTER: u32 = 4;
/// Speed that one more worker has to bring.
const GAIN: f64 = 1.03;
/// Stretches until a number of workers that brought nothing may be tried again.
const TRY_AGAIN_AFTER: u32 = 64;

/// Work measured over a stretch of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    elapsed: f64,
    samples: f64,
    consumer_wait: f64,
    /// Summed over the workers.
    idle: f64,
}

impl Stretch {
    /// Shortest stretch that says something: long against a batch and against the rhythm of other programs.
    const SHORTEST: Duration = Duration::from_secs(2);
    const FEWEST_BATCHES: u64 = 4;

    /// The work done in the last `elapsed`; `None` when it is too early to judge.
    pub(crate) fn new(elapsed: Duration, work: &LoaderStats) -> Option<Self> {
        (elapsed >= Self::SHORTEST && work.batches >= Self::FEWEST_BATCHES).then(|| Stretch {
            elapsed: elapsed.as_secs_f64(),
            samples: work.samples as f64,
            consumer_wait: work.wait_for_batch.as_secs_f64(),
            idle: (work.wait_for_room + work.wait_for_work).as_secs_f64(),
        })
    }

    fn speed(&self) -> f64 {
        self.samples / self.elapsed
    }

    fn verdict(&self, workers: usize) -> Verdict {
        let waits = self.consumer_wait / self.elapsed;
        let workers = workers as f64;
        // A long wait is counted when it ends, so a stretch may show more than its own.
        let idle = (self.idle / (self.elapsed * workers)).min(1.0);
        if waits > WAITS && idle < BUSY {
            Verdict::More
        } else if waits < HARDLY_WAITS && (1.0 - idle) * workers < ROOMY * (workers - 1.0) {
            Verdict::Fewer
        } else {
            Verdict::Right
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    More,
    Fewer,
    Right,
}

/// Decides on the number of workers, one at a time and only after several stretches agree. Knows no clock and no
/// threads: the same stretches give the same decisions.
#[derive(Debug)]
pub(crate) struct Tuner {
    fewest: usize,
    most: usize,
    /// Most workers that are worth trying, and for how many stretches this holds.
    ceiling: (usize, u32),
    verdict: Verdict,
    in_a_row: u32,
    /// Speed before the worker added last.
    trial: Option<f64>,
    /// The stretch after a change mixes old and new.
    mixed: bool,
}

impl Tuner {
    pub(crate) fn new(range: RangeInclusive<usize>) -> Self {
        let fewest = (*range.start()).max(1);
        let most = (*range.end()).max(fewest);
        Tuner {
            fewest,
            most,
            ceiling: (most, 0),
            verdict: Verdict::Right,
            in_a_row: 0,
            trial: None,
            mixed: true,
        }
    }

    /// Judges a stretch that `workers` have worked.
    pub(crate) fn judge(&mut self, workers: usize, stretch: &Stretch) -> Option<WorkerChange> {
        if std::mem::take(&mut self.mixed) {
            return None;
        }
        let verdict = stretch.verdict(workers);
        self.in_a_row = if verdict == self.verdict { self.in_a_row + 1 } else { 1 };
        self.verdict = verdict;
        self.ceiling = match self.ceiling {
            (_, 0 | 1) => (self.most, 0),
            (ceiling, stretches) => (ceiling, stretches - 1),
        };
        let trial = self.trial.take();
        let (to, why) = match verdict {
            Verdict::More
                if trial.is_some_and(|before| stretch.speed() < GAIN * before) && workers > self.fewest =>
            {
                self.ceiling = (workers - 1, TRY_AGAIN_AFTER);
                (workers - 1, WhyWorkers::NoGain)
            }
            Verdict::More if self.in_a_row >= MORE_AFTER && workers < self.ceiling.0 => {
                self.trial = Some(stretch.speed());
                (workers + 1, WhyWorkers::ConsumerWaits)
            }
            Verdict::Fewer if self.in_a_row >= FEWER_AFTER && workers > self.fewest => {
                (workers - 1, WhyWorkers::WorkersIdle)
            }
            _ => return None,
        };
        (self.in_a_row, self.mixed) = (0, true);
        Some(WorkerChange { from: workers, to, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stretches_too_short_to_judge_are_left_to_grow() {
        let work = LoaderStats { batches: 4, ..LoaderStats::default() };
        assert!(Stretch::new(Duration::from_secs(2), &work).is_some());
        assert!(Stretch::new(Duration::from_secs(1), &work).is_none());
        assert!(Stretch::new(Duration::from_secs(9), &LoaderStats { batches: 3, ..work }).is_none());
    }

    /// Ten seconds in which the consumer waited and `workers` idled for these shares of the time.
    fn stretch(consumer_waits: f64, workers: usize, idle: f64, samples: f64) -> Stretch {
        let elapsed = 10.0;
        Stretch { elapsed, samples, consumer_wait: consumer_waits * 10.0, idle: idle * 10.0 * workers as f64 }
    }

    fn judge(tuner: &mut Tuner, workers: usize, stretches: &[Stretch]) -> Vec<Option<WorkerChange>> {
        stretches.iter().map(|stretch| tuner.judge(workers, stretch)).collect()
    }

    #[test]
    fn a_waiting_consumer_gets_one_more_after_two_stretches() {
        let starving = stretch(0.3, 2, 0.0, 100.0);
        let decisions = judge(&mut Tuner::new(1..=4), 2, &[starving; 3]);
        let change = WorkerChange { from: 2, to: 3, why: WhyWorkers::ConsumerWaits };
        assert_eq!(decisions, [None, None, Some(change)], "the first stretch is start-up");
        assert!(
            judge(&mut Tuner::new(1..=2), 2, &[starving; 9]).iter().all(Option::is_none),
            "no more cores"
        );
        let idle_too = stretch(0.3, 2, 0.5, 100.0);
        assert!(judge(&mut Tuner::new(1..=4), 2, &[idle_too; 9]).iter().all(Option::is_none));
    }

    #[test]
    fn idle_workers_leave_after_four_stretches_but_never_the_last() {
        let idle = stretch(0.0, 3, 0.9, 100.0);
        let decisions = judge(&mut Tuner::new(1..=4), 3, &[idle; 5]);
        assert_eq!(decisions[..4], [None; 4]);
        assert_eq!(decisions[4], Some(WorkerChange { from: 3, to: 2, why: WhyWorkers::WorkersIdle }));
        assert!(
            judge(&mut Tuner::new(3..=4), 3, &[idle; 9]).iter().all(Option::is_none),
            "so many are to stay"
        );
        let idle = stretch(0.0, 1, 1.0, 100.0);
        assert!(judge(&mut Tuner::new(1..=4), 1, &[idle; 9]).iter().all(Option::is_none));
    }

    #[test]
    fn a_stretch_of_another_kind_starts_the_count_anew() {
        let (idle, fine) = (stretch(0.0, 3, 0.9, 100.0), stretch(0.0, 3, 0.1, 100.0));
        let decisions = judge(&mut Tuner::new(1..=4), 3, &[fine, idle, idle, idle, fine, idle, idle, idle]);
        assert!(decisions.iter().all(Option::is_none));
    }

    #[test]
    fn a_worker_that_brings_nothing_is_sent_away_and_not_called_again_soon() {
        let mut tuner = Tuner::new(1..=8);
        let starving = |workers| stretch(0.3, workers, 0.0, 100.0);
        assert!(judge(&mut tuner, 2, &[starving(2); 3])[2].is_some());
        let decisions = judge(&mut tuner, 3, &[starving(3); 2]);
        assert_eq!(decisions[1], Some(WorkerChange { from: 3, to: 2, why: WhyWorkers::NoGain }));
        assert!(judge(&mut tuner, 2, &[starving(2); 60]).iter().all(Option::is_none));
        assert!(judge(&mut tuner, 2, &[starving(2); 9]).iter().any(Option::is_some), "but one day it is");
    }

    /// A machine of `cores` on which a sample takes `cost` seconds of a core, and a step that wants `demand`
    /// samples per second.
    fn work(workers: usize, cores: f64, cost: f64, demand: f64) -> Stretch {
        let supply = (workers as f64).min(cores) / cost;
        let speed = supply.min(demand);
        let idle = (1.0 - speed / supply).max(0.0);
        stretch((1.0 - speed / demand).max(0.0), workers, idle, speed * 10.0)
    }

    proptest! {
        #[test]
        fn it_settles_at_a_number_that_serves_and_stays_there(
            start in 1usize..12, most in 1usize..12, cores in 1.0f64..12.0, cost in 0.01f64..0.1,
            demand in 1.0f64..1000.0,
        ) {
            let mut tuner = Tuner::new(1..=most);
            let mut workers = start.min(most);
            let mut changes = Vec::new();
            for at in 0..400 {
                if let Some(change) = tuner.judge(workers, &work(workers, cores, cost, demand)) {
                    prop_assert_eq!(change.from, workers);
                    prop_assert!((1..=most).contains(&change.to) && change.to.abs_diff(workers) == 1);
                    workers = change.to;
                    changes.push(at);
                }
            }
            // Only now and then a try of one more, taken back at once.
            let late = changes.iter().filter(|at| **at >= 200).count();
            prop_assert!(late <= 8, "{late} changes late in the run");
            let best = work(cores.ceil().min(most as f64) as usize, cores, cost, demand);
            let got = work(workers, cores, cost, demand);
            prop_assert!(got.speed() >= 0.90 * best.speed(), "{} of {}", got.speed(), best.speed());
        }
    }
}
