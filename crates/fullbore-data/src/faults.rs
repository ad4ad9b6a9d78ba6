//! Bad samples: what is remembered of them, and when there are too many.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fullbore_types::{Position, SampleId};

use crate::DataError;

/// Samples of an epoch after which its share of bad ones is judged; shorter epochs are judged at their end.
const JUDGED_FROM: u64 = 100;
/// Bad samples that an error quotes.
const EXAMPLES: usize = 3;

/// What happens with samples that cannot be loaded: each is replaced, until there are too many.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPolicy {
    /// Most bad samples; one more stops the stream. With 0 the first one stops it, with its own error. Samples of
    /// the same name and image file (crops of one image) count as one.
    pub max_bad: usize,
    /// Most places of an epoch that may be filled with replacements, as a share of those filled so far. Judged
    /// after 100 samples of an epoch and at its end.
    pub max_bad_share: f64,
    /// How long one file may take to be read. The thread that waits for it is then left to itself, and another
    /// takes its place. Not obeyed without workers, where the reading thread is the caller's own.
    pub read_timeout: Duration,
    /// Samples that are known to be bad, as [`crate::Loader::bad_samples`] gave them before a restart. They are
    /// replaced without a look at their files, count as bad, and are not reported again.
    pub known_bad: Vec<SampleId>,
}

impl Default for FaultPolicy {
    fn default() -> Self {
        FaultPolicy {
            max_bad: 100,
            max_bad_share: 0.05,
            read_timeout: Duration::from_secs(60),
            known_bad: Vec::new(),
        }
    }
}

/// A sample that could not be loaded, reported when the first batch that should have held it is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSample {
    /// Which sample.
    pub id: SampleId,
    /// Its name.
    pub name: String,
    /// Its image file.
    pub file: PathBuf,
    /// What went wrong; names the very file, which may be another than the image.
    pub reason: String,
    /// What came in its place; `None` when the stream ends here.
    pub replaced_by: Option<SampleId>,
    /// The batch that should have held it.
    pub position: Position,
}

/// By what a sample is known again: name and image file.
pub(crate) type Names = (String, PathBuf);

/// A bad sample.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Its number among the bad samples of this loader.
    pub(crate) number: usize,
    pub(crate) names: Names,
    pub(crate) reason: String,
}

/// A place in a batch met a bad sample.
#[derive(Clone, Debug)]
pub(crate) struct Encounter {
    pub(crate) slot: usize,
    /// 0 for the sample of the order, then its substitutes one by one.
    pub(crate) attempt: u32,
    pub(crate) id: SampleId,
    pub(crate) fault: Arc<Fault>,
}

/// A batch as the ledger sees it.
pub(crate) struct Account<'a> {
    pub(crate) position: Position,
    /// The batch is its epoch's last.
    pub(crate) last: bool,
    /// What its places hold in the end.
    pub(crate) ids: &'a [SampleId],
    /// By slot, then attempt.
    pub(crate) encounters: &'a [Encounter],
    /// The place that stays empty, for which the batch is given up.
    pub(crate) failed_slot: Option<usize>,
}

/// Counts bad samples in the order of delivery, so that the stream ends at the same batch whatever the workers.
pub(crate) struct Ledger {
    max_bad: usize,
    max_share: f64,
    /// Distinct bad samples and the first id of each.
    known: HashMap<Names, SampleId>,
    examples: Vec<String>,
    epoch: u64,
    seen: u64,
    replaced: u64,
}

impl Ledger {
    /// A ledger that knows `known` already and stands in `epoch`, of which `seen` places have been filled,
    /// `replaced` of them with replacements.
    pub(crate) fn new(
        policy: &FaultPolicy,
        known: HashMap<Names, SampleId>,
        epoch: u64,
        (seen, replaced): (u64, u64),
    ) -> Self {
        let (max_bad, max_share) = (policy.max_bad, policy.max_bad_share);
        let mut names: Vec<_> = known.keys().map(|(name, _)| format!("`{name}` (from before)")).collect();
        names.sort_unstable();
        names.truncate(EXAMPLES);
        Ledger { max_bad, max_share, known, examples: names, epoch, seen, replaced }
    }

    /// The distinct bad samples so far, in ascending order.
    pub(crate) fn bad_samples(&self) -> Vec<SampleId> {
        let mut ids: Vec<_> = self.known.values().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Enters a batch: the bad samples not met before, and the error if there are too many now.
    pub(crate) fn enter(&mut self, account: &Account<'_>) -> (Vec<BadSample>, Option<DataError>) {
        let mut new = Vec::new();
        for Encounter { slot, id, fault, .. } in account.encounters {
            if self.known.contains_key(&fault.names) {
                continue;
            }
            self.known.insert(fault.names.clone(), *id);
            let (name, file) = fault.names.clone();
            if self.examples.len() < EXAMPLES {
                self.examples.push(format!("`{name}` ({})", fault.reason));
            }
            let replaced_by = (account.failed_slot != Some(*slot)).then(|| account.ids[*slot]);
            let (position, reason) = (account.position, fault.reason.clone());
            new.push(BadSample { id: *id, name, file, reason, replaced_by, position });
        }
        if account.position.epoch != self.epoch {
            (self.epoch, self.seen, self.replaced) = (account.position.epoch, 0, 0);
        }
        self.seen += account.ids.len() as u64;
        self.replaced += account.encounters.iter().filter(|e| e.attempt == 0).count() as u64;
        (new, self.too_many(account.last))
    }

    fn too_many(&self, end_of_epoch: bool) -> Option<DataError> {
        let examples = self.examples.join("; ");
        if self.known.len() > self.max_bad {
            return Some(DataError::TooManyBad { count: self.known.len(), limit: self.max_bad, examples });
        }
        let judged = self.seen >= JUDGED_FROM || end_of_epoch;
        // Written as a product so that nothing is divided by zero.
        if judged && self.replaced as f64 > self.max_share * self.seen as f64 {
            let Ledger { epoch, seen, replaced, max_share, .. } = *self;
            return Some(DataError::TooLargeShareBad { replaced, seen, epoch, limit: max_share, examples });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encounter(slot: usize, attempt: u32, id: u32) -> Encounter {
        let names = (format!("s{id}"), format!("s{id}.png").into());
        let fault = Fault { number: id as usize, names, reason: "torn".into() };
        Encounter { slot, attempt, id: SampleId(id), fault: Arc::new(fault) }
    }

    fn enter(
        ledger: &mut Ledger,
        (epoch, batch): (u64, u64),
        last: bool,
        encounters: &[Encounter],
    ) -> (Vec<BadSample>, Option<String>) {
        let ids: Vec<_> = (50..60).map(SampleId).collect();
        let position = Position { epoch, batch };
        let account = Account { position, last, ids: &ids, encounters, failed_slot: None };
        let (new, error) = ledger.enter(&account);
        (new, error.map(|e| e.to_string()))
    }

    fn ledger(max_bad: usize, max_bad_share: f64) -> Ledger {
        let policy = FaultPolicy { max_bad, max_bad_share, ..FaultPolicy::default() };
        Ledger::new(&policy, HashMap::new(), 0, (0, 0))
    }

    #[test]
    fn each_bad_sample_is_reported_once_with_its_replacement() {
        let mut ledger = ledger(9, 1.0);
        let (new, error) = enter(&mut ledger, (0, 0), false, &[encounter(3, 0, 7), encounter(3, 1, 8)]);
        assert_eq!(error, None);
        assert_eq!(new.len(), 2);
        assert_eq!((new[0].id, new[0].replaced_by), (SampleId(7), Some(SampleId(53))));
        assert_eq!((new[1].name.as_str(), new[1].reason.as_str()), ("s8", "torn"));
        assert!(enter(&mut ledger, (1, 2), false, &[encounter(0, 0, 8)]).0.is_empty());
        assert_eq!(ledger.bad_samples(), [SampleId(7), SampleId(8)]);
    }

    #[test]
    fn one_more_than_allowed_is_too_many() {
        let mut ledger = ledger(2, 1.0);
        assert_eq!(enter(&mut ledger, (0, 0), false, &[encounter(0, 0, 1), encounter(1, 0, 2)]).1, None);
        assert_eq!(enter(&mut ledger, (0, 1), false, &[encounter(0, 0, 1)]).1, None);
        let error = enter(&mut ledger, (0, 2), false, &[encounter(0, 0, 3)]).1.unwrap();
        assert_eq!(error, "3 bad samples, more than the 2 allowed: `s1` (torn); `s2` (torn); `s3` (torn)");
    }

    #[test]
    fn the_share_is_judged_after_a_hundred_samples_of_an_epoch() {
        let mut ledger = ledger(99, 0.015);
        for batch in 0..9 {
            let bad = [encounter(0, 0, 1), encounter(1, 0, 2)];
            let bad = if batch == 0 { &bad[..] } else { &[] };
            assert_eq!(enter(&mut ledger, (0, batch), false, bad).1, None, "batch {batch}");
        }
        let error = enter(&mut ledger, (0, 9), false, &[]).1.unwrap();
        assert_eq!(
            error,
            "2 of 100 samples of epoch 0 were bad, more than a share of 0.015: `s1` (torn); `s2` (torn)"
        );
    }

    #[test]
    fn short_epochs_are_judged_at_their_end_each_by_itself() {
        let mut ledger = ledger(99, 0.05);
        assert_eq!(enter(&mut ledger, (0, 0), false, &[encounter(0, 0, 1)]).1, None);
        assert_eq!(enter(&mut ledger, (0, 1), true, &[]).1, None, "1 of 20 is not more than 0.05");
        assert_eq!(enter(&mut ledger, (1, 0), false, &[encounter(0, 0, 1)]).1, None);
        assert!(enter(&mut ledger, (1, 1), true, &[encounter(5, 0, 1)]).1.is_some());
    }
}
