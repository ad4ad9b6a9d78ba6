//! Reads under way: which worker reads what, and for how long already.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::source::Part;

/// Most reads that may be stuck at a time; each holds a thread.
pub(crate) const MAX_STUCK: usize = 16;
/// How long a loader that is dropped waits for reads to end.
const GRACE: Duration = Duration::from_secs(2);

/// The reads that are under way, each by one worker. Whoever waits for samples asks this list for a read that takes
/// too long; nobody needs to watch in between.
pub(crate) struct Reads<T> {
    /// How long one file may take.
    limit: Duration,
    under_way: Vec<Read<T>>,
    /// Reads that were given up and have not ended yet.
    stuck: usize,
}

/// One read.
#[derive(Debug, PartialEq)]
pub(crate) struct Read<T> {
    pub(crate) worker: u64,
    /// What is read.
    pub(crate) what: T,
    /// The file it is at.
    pub(crate) part: Part,
    since: Instant,
}

impl<T> Reads<T> {
    /// No reads; one file may take `limit`, or a millisecond if that is less.
    pub(crate) fn new(limit: Duration) -> Self {
        Reads { limit: limit.max(Duration::from_millis(1)), under_way: Vec::new(), stuck: 0 }
    }

    /// How long one file may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// A worker begins to read `what`.
    pub(crate) fn begin(&mut self, worker: u64, what: T, part: Part, now: Instant) {
        self.under_way.push(Read { worker, what, part, since: now });
    }

    /// The worker goes on to another file, which has its own time. No matter if it has been given up.
    pub(crate) fn go_on(&mut self, worker: u64, part: Part, now: Instant) {
        if let Some(read) = self.under_way.iter_mut().find(|read| read.worker == worker) {
            (read.part, read.since) = (part, now);
        }
    }

    /// The worker has done with reading. False when it has been given up; its place has been taken then.
    pub(crate) fn end(&mut self, worker: u64) -> bool {
        let at = self.under_way.iter().position(|read| read.worker == worker);
        match at {
            Some(at) => drop(self.under_way.swap_remove(at)),
            None => self.stuck -= 1,
        }
        at.is_some()
    }

    /// Gives up the read that has taken longest, if that is too long.
    pub(crate) fn give_up(&mut self, now: Instant) -> Option<Read<T>> {
        let longest = self.under_way.iter().enumerate().min_by_key(|(_, read)| read.since)?;
        let overdue = now.saturating_duration_since(longest.1.since) >= self.limit;
        let at = overdue.then_some(longest.0)?;
        self.stuck += 1;
        Some(self.under_way.swap_remove(at))
    }

    /// How long from `now` until a read may be overdue, those included that have not begun yet.
    pub(crate) fn until_overdue(&self, now: Instant) -> Duration {
        let longest = self.under_way.iter().map(|read| now.saturating_duration_since(read.since)).max();
        self.limit.saturating_sub(longest.unwrap_or_default())
    }

    /// Reads that were given up and have not ended yet.
    pub(crate) fn stuck(&self) -> usize {
        self.stuck
    }

    fn workers(&self) -> Vec<u64> {
        self.under_way.iter().map(|read| read.worker).collect()
    }
}

/// Once no new reads begin: waits until those under way have ended, at most for two seconds or the time of one
/// file. Gives the workers whose reads have not. `ended` is to be notified of each that has, and `reads` finds the
/// list in what `guard` guards.
pub(crate) fn wait_for_end<L, T>(
    mut guard: MutexGuard<'_, L>,
    ended: &Condvar,
    reads: impl Fn(&L) -> &Reads<T>,
) -> Vec<u64> {
    let start = Instant::now();
    loop {
        let under_way = reads(&guard).workers();
        let left = reads(&guard).limit.min(GRACE).saturating_sub(start.elapsed());
        if under_way.is_empty() || left.is_zero() {
            return under_way;
        }
        guard = wait_at_most(ended, guard, left);
    }
}

/// Waits for a notification, but not longer than `patience`.
pub(crate) fn wait_at_most<'a, L>(
    condvar: &Condvar,
    guard: MutexGuard<'a, L>,
    patience: Duration,
) -> MutexGuard<'a, L> {
    condvar.wait_timeout(guard, patience).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn only_what_takes_too_long_is_given_up_the_longest_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reads = Reads::new(LIMIT);
        reads.begin(1, "a", Part::Image, at(0));
        reads.begin(2, "b", Part::Image, at(3));
        assert_eq!(reads.until_overdue(at(4)), Duration::from_secs(6));
        assert_eq!(reads.give_up(at(9)), None);
        reads.go_on(1, Part::Target, at(8));
        assert_eq!(reads.give_up(at(12)), None);
        assert_eq!(reads.give_up(at(30)).unwrap().what, "b");
        let read = reads.give_up(at(30)).unwrap();
        assert_eq!((read.worker, read.part), (1, Part::Target));
        assert_eq!(reads.give_up(at(99)), None);
        assert_eq!(reads.until_overdue(at(99)), LIMIT);
    }

    #[test]
    fn who_was_given_up_is_told_when_it_comes_back() {
        let mut reads = Reads::new(LIMIT);
        reads.begin(1, (), Part::Image, Instant::now());
        reads.begin(2, (), Part::Image, Instant::now());
        assert!(reads.end(2));
        assert!(reads.give_up(Instant::now() + LIMIT).is_some());
        assert_eq!((reads.stuck(), reads.workers()), (1, vec![]));
        reads.go_on(1, Part::Target, Instant::now());
        assert!(!reads.end(1));
        assert_eq!(reads.stuck(), 0);
    }
}
