//! Decides after every attempt at a step how large the next micro-batch is.
//!
//! The rules, with the defaults of [`MemoryConfig`]:
//! - out of memory: halve at once; at the smallest size recompute activations; after that, give up;
//! - tensors held over 90 % at the step's peak: halve before memory runs out;
//! - a size that did so is remembered with the bytes of a sample and the limit of that moment, and not tried again
//!   until the limit is 10 % higher than it ever was when that size failed;
//! - under 70 %, over 95 % of the latest attempts done, 20 steps in a row at this size, and twice the samples would
//!   by what was measured stay under 90 %: double. Each failure of a size doubles the steps to wait for it;
//! - the allocator holds over 80 %, and much of it for nothing, or the host is over 80 %: clean up.
//!
//! So for a steady memory each size fails at most once, and sizes cannot swing.

use serde::{Deserialize, Serialize};

use crate::budget::in_words;
use crate::ceilings::Ceilings;
use crate::chain::chain;
use crate::cleaning::{Cleaning, Level};
use crate::decision::{Attempt, Change, Decision, Outcome, WhyMicro};
use crate::memory_config::MemoryConfig;
use crate::readings::{Readings, share};

/// Attempts without a finished step after which it is hopeless: more than the sizes of any batch, before and after
/// recomputing.
const HOPELESS: u32 = 40;
/// Attempts that the share of successes is over.
const RECENT: u32 = 64;
/// The wait for a size that keeps failing is doubled at most that often.
const MOST_DOUBLINGS: u32 = 10;
/// Share of the limit that a clean-up of the device must be able to free.
const WORTH_CLEANING: f64 = 0.05;
/// Samples of a forward pass to predict with, and the most that it may come to.
const PREDICT: [usize; 2] = [16, 32];

/// The sizes that a governor may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Largest micro-batch; `memory.max_micro` may lower it.
    pub max: usize,
    /// Micro-batch to begin with.
    pub start: usize,
    /// Samples that share BatchNorm statistics; sizes are multiples of it as long as memory allows. `None`: samples
    /// do not depend on each other.
    pub group: Option<usize>,
    /// Whether activations can be recomputed in backward, and are not yet.
    pub can_recompute: bool,
    /// Whether sizes may change while memory suffices. Not in reproducible runs: there only running out of memory
    /// changes them.
    pub live: bool,
}

impl Bounds {
    /// For batches of `batch` samples, whole at first.
    pub fn whole(batch: usize) -> Self {
        Self { max: batch, start: batch, group: None, can_recompute: false, live: true }
    }

    /// For predictions: `batch` samples where the user says so, else 16 at first and 32 at most.
    pub fn predict(batch: Option<usize>) -> Self {
        let [start, max] = batch.map_or(PREDICT, |batch| [batch; 2]);
        Self { start, ..Self::whole(max) }
    }
}

/// Decides for one activity: training, evaluation and prediction have a governor each, so that one running out of
/// memory changes nothing for the others.
#[derive(Clone, Debug)]
pub struct Governor {
    config: MemoryConfig,
    bounds: Bounds,
    sizes: Vec<usize>,
    state: GovernorState,
    device: Cleaning,
    host: Cleaning,
}

/// What a governor has learnt, or begins with; part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GovernorState {
    /// Largest size that may be used where nothing speaks against it.
    tried: usize,
    recompute: bool,
    ceilings: Ceilings,
    recent: Recent,
    streak: Streak,
    /// Attempts since the last finished one.
    stuck: u32,
    /// Bytes of the largest sample that has fitted.
    largest_done: u64,
}

impl GovernorState {
    /// Nothing but a plan: micro-batches of `micro` samples at first, and whether activations are recomputed.
    pub fn planned(micro: usize, recompute: bool) -> Self {
        Self {
            tried: micro,
            recompute,
            ceilings: Ceilings::default(),
            recent: Recent::default(),
            streak: Streak::default(),
            stuck: 0,
            largest_done: 0,
        }
    }
}

/// The latest attempts, one bit each, set where it was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Recent {
    done: u64,
    attempts: u32,
}

impl Recent {
    fn add(&mut self, done: bool) {
        self.done = self.done << 1 | u64::from(done);
        self.attempts = self.attempts.saturating_add(1).min(RECENT);
    }

    fn success(&self) -> f64 {
        f64::from(self.done.count_ones()) / f64::from(self.attempts.max(1))
    }
}

/// Finished attempts in a row at one size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Streak {
    sample_bytes: u64,
    micro: usize,
    steps: u32,
    /// Highest peak among them.
    peak: u64,
}

impl Governor {
    /// Starts without experience.
    pub fn new(config: MemoryConfig, bounds: Bounds) -> Self {
        Self::resume(config, bounds, GovernorState::planned(bounds.start, false))
    }

    /// Goes on with what [`state`](Self::state) gave, perhaps on another machine and with other settings: a size that
    /// failed is tried again where there is clearly more room.
    pub fn resume(config: MemoryConfig, bounds: Bounds, state: GovernorState) -> Self {
        let max = config.max_micro.map_or(bounds.max, |most| most.min(bounds.max));
        let sizes = chain(max, config.min_micro, bounds.group);
        Self { config, bounds, sizes, state, device: Cleaning::new(), host: Cleaning::new() }
    }

    /// What has been learnt so far.
    pub fn state(&self) -> &GovernorState {
        &self.state
    }

    /// Whether activations are to be recomputed because of an earlier decision.
    pub fn recomputes(&self) -> bool {
        self.state.recompute
    }

    /// Samples of a micro-batch for samples of `sample_bytes` each.
    pub fn micro(&self, sample_bytes: u64) -> usize {
        let allowed =
            |size: &&usize| **size <= self.state.tried && !self.state.ceilings.forbid(sample_bytes, **size);
        self.sizes.iter().find(allowed).copied().unwrap_or(self.smallest())
    }

    /// Learns from an attempt and decides what to do before the next one. `readings` are of its end; only the peak
    /// is of the whole attempt.
    pub fn observe(&mut self, attempt: Attempt, readings: &Readings) -> Decision {
        self.state.recent.add(attempt.outcome == Outcome::Done);
        match attempt.outcome {
            Outcome::Done => self.done(attempt, readings),
            Outcome::OutOfMemory => self.out_of_memory(attempt, readings),
        }
    }

    fn out_of_memory(&mut self, attempt: Attempt, readings: &Readings) -> Decision {
        self.state.stuck = self.state.stuck.saturating_add(1);
        if self.state.stuck >= HOPELESS {
            let tries = self.state.stuck;
            return self.give_up(
                format!("memory ran out {tries} times without a finished step in between"),
                readings,
            );
        }
        if attempt.samples > self.smallest() {
            return Decision::Halve(self.halve(attempt, readings, WhyMicro::OutOfMemory));
        }
        if self.bounds.can_recompute && !self.state.recompute {
            self.state.recompute = true;
            // What failed without recomputing says nothing about sizes with it.
            self.state.ceilings = Ceilings::default();
            self.state.tried = self.smallest();
            self.state.streak = Streak::default();
            return Decision::Recompute;
        }
        let recomputing = if self.state.recompute { ", although activations are recomputed" } else { "" };
        self.give_up(
            format!(
                "memory ran out with the smallest micro-batch, {}{recomputing}",
                samples(attempt.samples)
            ),
            readings,
        )
    }

    fn done(&mut self, attempt: Attempt, readings: &Readings) -> Decision {
        self.state.stuck = 0;
        self.state.largest_done = self.state.largest_done.max(attempt.sample_bytes);
        let device = &readings.device;
        if let Some(limit) = device.limit().filter(|_| self.bounds.live)
            && share(device.peak, limit) > self.config.halve
            && attempt.samples > self.smallest()
        {
            let why = WhyMicro::NearlyFull { peak: device.peak, limit };
            return Decision::Halve(self.halve(attempt, readings, why));
        }
        self.count(attempt, device.peak);
        if let Some(clean_up) = self.clean_up(readings) {
            return clean_up;
        }
        match self.grow(readings) {
            Some(change) => Decision::Grow(change),
            None => Decision::Nothing,
        }
    }

    /// Counts a finished attempt of full size. The smaller ones say nothing about room.
    fn count(&mut self, attempt: Attempt, peak: u64) {
        let micro = self.micro(attempt.sample_bytes);
        if attempt.samples < micro {
            return;
        }
        let streak = &mut self.state.streak;
        if (streak.sample_bytes, streak.micro) != (attempt.sample_bytes, micro) {
            *streak = Streak { sample_bytes: attempt.sample_bytes, micro, ..Streak::default() };
        }
        streak.steps = streak.steps.saturating_add(1);
        streak.peak = streak.peak.max(peak);
    }

    fn halve(&mut self, attempt: Attempt, readings: &Readings, why: WhyMicro) -> Change {
        // Without a limit it is never known that there is more room.
        let room = readings.device.limit().unwrap_or(u64::MAX);
        self.state.ceilings.add(attempt.sample_bytes, attempt.samples, room);
        self.state.streak = Streak::default();
        self.change(attempt.samples, self.micro(attempt.sample_bytes), why)
    }

    fn grow(&mut self, readings: &Readings) -> Option<Change> {
        let limit = readings.device.limit().filter(|_| self.bounds.live)?;
        let Streak { sample_bytes, micro, steps, peak } = self.state.streak;
        let at = self.sizes.iter().position(|&size| size == micro)?;
        let larger = *self.sizes.get(at.checked_sub(1)?)?;
        let ceilings = &self.state.ceilings;
        let doublings = ceilings.strikes(sample_bytes, larger).min(MOST_DOUBLINGS);
        let fixed = readings.device.used.min(peak);
        let expected = fixed as f64 + (peak - fixed) as f64 * larger as f64 / micro as f64;
        let grows = steps >= self.config.grow_after.saturating_mul(1 << doublings)
            && self.state.recent.success() > self.config.grow_success
            && share(peak, limit) < self.config.grow_below
            && expected <= self.config.halve * limit as f64
            && ceilings.have_room(sample_bytes, larger, limit, self.config.hysteresis);
        if !grows {
            return None;
        }
        self.state.ceilings.lift(sample_bytes, larger);
        self.state.tried = self.state.tried.max(larger);
        self.state.streak = Streak::default();
        Some(self.change(micro, larger, WhyMicro::Room { peak, limit }))
    }

    fn clean_up(&mut self, readings: &Readings) -> Option<Decision> {
        let (device, host) = (&readings.device, &readings.host);
        if let Some(limit) = device.limit() {
            // What a step needs at its peak is reserved again at once: freeing it would only cost time.
            let excess = device.reserved.saturating_sub(device.peak.max(self.state.streak.peak));
            let full = share(device.reserved, limit);
            let level = self.level(full).filter(|_| share(excess, limit) >= WORTH_CLEANING);
            if self.device.is_due(level, self.is_clean(full)) {
                let why = format!(
                    "the allocator holds {} of {}, {} of it for nothing",
                    in_words(device.reserved),
                    in_words(limit),
                    in_words(excess)
                );
                return Some(Decision::CleanUp {
                    of_host: false,
                    aggressive: level == Some(Level::Aggressive),
                    why,
                });
            }
        }
        let limit = host.limit?;
        let full = share(host.rss, limit);
        let level = self.level(full);
        self.host.is_due(level, self.is_clean(full)).then(|| Decision::CleanUp {
            of_host: true,
            aggressive: level == Some(Level::Aggressive),
            why: format!(
                "this process holds {} of the host's {}: {} in batches, {} in cached samples",
                in_words(host.rss),
                in_words(limit),
                in_words(host.slabs),
                in_words(host.cache)
            ),
        })
    }

    fn level(&self, full: f64) -> Option<Level> {
        match full > self.config.clean_up {
            true if full > self.config.halve => Some(Level::Aggressive),
            true => Some(Level::Gentle),
            false => None,
        }
    }

    fn is_clean(&self, full: f64) -> bool {
        full < self.config.clean_up - self.config.hysteresis
    }

    fn change(&self, from: usize, to: usize, why: WhyMicro) -> Change {
        Change { from, to, why, below_group: self.bounds.group.filter(|&group| to < group) }
    }

    fn give_up(&mut self, why: String, readings: &Readings) -> Decision {
        self.state.stuck = 0;
        let device = &readings.device;
        let room = match device.limit() {
            Some(limit) => format!(
                "beside the {} that are always in use, {} are left for {}",
                in_words(device.used),
                in_words(limit.saturating_sub(device.used)),
                samples(self.smallest())
            ),
            None => format!("{} are always in use", in_words(device.used)),
        };
        let known = match self.state.largest_done {
            0 => "none has fitted so far".into(),
            bytes => format!("samples of up to {} have fitted", in_words(bytes)),
        };
        Decision::GiveUp { why, fits: format!("{room}; {known}") }
    }

    fn smallest(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1)
    }
}

fn samples(n: usize) -> String {
    if n == 1 { "1 sample".into() } else { format!("{n} samples") }
}
