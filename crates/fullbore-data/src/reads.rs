//! Reads under way: which worker reads what, and for how long already.

use std::time::{Duration, Instant};

use crate::source::Part;

/// The reads that are under way, each by one worker. Who keeps this list asks it from time to time for a read that
/// takes too long; nobody needs to watch in between.
pub(crate) struct Reads<T> {
    under_way: Vec<Read<T>>,
    /// Reads that were given up and have not ended yet. Each holds a thread.
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

impl<T> Default for Reads<T> {
    fn default() -> Self {
        Reads { under_way: Vec::new(), stuck: 0 }
    }
}

impl<T> Reads<T> {
    /// A worker begins to read `what`.
    pub(crate) fn begin(&mut self, worker: u64, what: T, part: Part, now: Instant) {
        self.under_way.push(Read { worker, what, part, since: now });
    }

    /// The worker goes on to another file. False when it has been given up.
    pub(crate) fn go_on(&mut self, worker: u64, part: Part, now: Instant) -> bool {
        let read = self.under_way.iter_mut().find(|read| read.worker == worker);
        read.map(|read| (read.part, read.since) = (part, now)).is_some()
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

    /// Gives up the read that has taken longest, if that is longer than `limit`.
    pub(crate) fn give_up(&mut self, limit: Duration, now: Instant) -> Option<Read<T>> {
        let overdue = |read: &Read<T>| now.saturating_duration_since(read.since) >= limit;
        let longest = self.under_way.iter().enumerate().min_by_key(|(_, read)| read.since)?;
        let at = overdue(longest.1).then_some(longest.0)?;
        self.stuck += 1;
        Some(self.under_way.swap_remove(at))
    }

    /// How long from `now` until a read may be overdue, those included that have not begun yet.
    pub(crate) fn until_overdue(&self, limit: Duration, now: Instant) -> Duration {
        let longest = self.under_way.iter().map(|read| now.saturating_duration_since(read.since)).max();
        limit.saturating_sub(longest.unwrap_or_default())
    }

    /// Reads that were given up and have not ended yet.
    pub(crate) fn stuck(&self) -> usize {
        self.stuck
    }

    /// The workers that are reading now.
    pub(crate) fn workers(&self) -> impl Iterator<Item = u64> + '_ {
        self.under_way.iter().map(|read| read.worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn only_what_takes_too_long_is_given_up_the_longest_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut reads = Reads::default();
        reads.begin(1, "a", Part::Image, at(0));
        reads.begin(2, "b", Part::Image, at(3));
        assert_eq!(reads.until_overdue(LIMIT, at(4)), Duration::from_secs(6));
        assert_eq!(reads.give_up(LIMIT, at(9)), None);
        assert!(reads.go_on(1, Part::Mask, at(8)), "a new file, a new time");
        assert_eq!(reads.give_up(LIMIT, at(12)), None);
        assert_eq!(reads.give_up(LIMIT, at(30)).unwrap().what, "b");
        let read = reads.give_up(LIMIT, at(30)).unwrap();
        assert_eq!((read.worker, read.part), (1, Part::Mask));
        assert_eq!(reads.give_up(LIMIT, at(99)), None);
        assert_eq!(reads.until_overdue(LIMIT, at(99)), LIMIT);
    }

    #[test]
    fn who_was_given_up_is_told_when_it_comes_back() {
        let mut reads = Reads::default();
        reads.begin(1, (), Part::Image, Instant::now());
        reads.begin(2, (), Part::Image, Instant::now());
        assert!(reads.end(2));
        assert!(reads.give_up(Duration::ZERO, Instant::now()).is_some());
        assert_eq!((reads.stuck(), reads.workers().count()), (1, 0));
        assert!(!reads.go_on(1, Part::Mask, Instant::now()));
        assert!(!reads.end(1));
        assert_eq!(reads.stuck(), 0);
    }
}
