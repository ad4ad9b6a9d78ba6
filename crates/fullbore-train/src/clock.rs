//! Where a run's time goes.

use std::time::{Duration, Instant};

use fullbore_feed::{Fed, Feed, FeedError};
use fullbore_torch::{Device, synchronize};

/// Steps at the start that do not count towards samples/s: caches fill and kernels are chosen there.
pub const WARM_UP_STEPS: u64 = 8;

/// Time spent on training and on waiting for data; evaluations and checkpoints are left out.
pub(crate) struct Clock {
    first_step: u64,
    began: Instant,
    to_first_step: Option<Duration>,
    mark: Instant,
    measured: Interval,
    since_log: Interval,
}

#[derive(Clone, Copy, Default)]
struct Interval {
    elapsed: Duration,
    waited: Duration,
    steps: u64,
}

impl Clock {
    pub(crate) fn new(first_step: u64) -> Self {
        let (measured, since_log) = Default::default();
        let now = Instant::now();
        Self { first_step, began: now, to_first_step: None, mark: now, measured, since_log }
    }

    pub(crate) fn wait_for(&mut self, feed: &mut Feed) -> Option<Result<Fed, FeedError>> {
        let start = Instant::now();
        let batch = feed.next();
        let waited = start.elapsed();
        self.measured.waited += waited;
        self.since_log.waited += waited;
        batch
    }

    /// Counts the time since the last mark; the warm-up's end begins the measurement anew.
    pub(crate) fn step_done(&mut self, step: u64, device: Device) -> fullbore_torch::Result<()> {
        let warm_up_ends = step == self.first_step + WARM_UP_STEPS;
        if warm_up_ends || self.to_first_step.is_none() {
            // What is still queued must not be paid for later: two waits per run.
            synchronize(device)?;
        }
        if self.to_first_step.is_none() {
            self.to_first_step = Some(self.began.elapsed());
        }
        let elapsed = self.mark.elapsed();
        self.mark = Instant::now();
        self.measured.elapsed += elapsed;
        self.measured.steps += 1;
        self.since_log.elapsed += elapsed;
        if warm_up_ends {
            self.measured = Interval::default();
        }
        Ok(())
    }

    /// Begins after a pause that does not count.
    pub(crate) fn restart(&mut self) {
        self.mark = Instant::now();
    }

    pub(crate) fn since_log(&mut self) -> (Duration, Duration) {
        let Interval { elapsed, waited, .. } = std::mem::take(&mut self.since_log);
        (elapsed, waited)
    }

    /// Time from the run's start to the end of its first step: memory is planned, the first batch loaded, kernels are chosen.
    pub(crate) fn to_first_step(&self) -> Option<Duration> {
        self.to_first_step
    }

    pub(crate) fn measured(&self) -> (Duration, Duration, u64) {
        let Interval { elapsed, waited, steps } = self.measured;
        (elapsed, waited, steps)
    }
}
