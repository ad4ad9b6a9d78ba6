//! The checkpoints of the best evaluations: `best`, `best-2`, and so on.

use std::fs;
use std::path::{Path, PathBuf};

use fullbore_checkpoint::CheckpointError;
use fullbore_events::RunDir;

use crate::checkpoint::Best;
use crate::metric::is_better;

/// Place that `value` takes among the best, from 0; `None` when all of `keep` are better or it is not finite.
pub(crate) fn place(best: &[Best], metric: &str, value: f64, keep: usize) -> Option<usize> {
    let place =
        best.iter().position(|other| is_better(metric, value, other.value, 0.0)).unwrap_or(best.len());
    (value.is_finite() && place < keep).then_some(place)
}

/// Where the checkpoint of a new best evaluation is written before others make room for it.
pub(crate) fn unplaced(run_dir: &RunDir) -> PathBuf {
    run_dir.checkpoints().join("new-best.safetensors")
}

/// Gives `new`, a whole checkpoint, the name of a place; those from there on move down by one, the last of `keep` goes.
/// When a kill has come between two of these moves, doing it again does the rest.
pub(crate) fn put(run_dir: &RunDir, new: &Path, place: usize, keep: usize) -> Result<(), CheckpointError> {
    let rename = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|source| CheckpointError::Write { path: to.into(), source })
    };
    // The first free place takes the one above it, and so on: nothing below it has to move.
    let free = (place..keep - 1).find(|&below| !run_dir.best_checkpoint(below).exists()).unwrap_or(keep - 1);
    for above in (place..free).rev() {
        rename(&run_dir.best_checkpoint(above), &run_dir.best_checkpoint(above + 1))?;
    }
    rename(new, &run_dir.best_checkpoint(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(values: &[f64]) -> Vec<Best> {
        values.iter().map(|&value| Best { value, epoch: 0, step: 0 }).collect()
    }

    #[test]
    fn places_are_by_value_and_the_earlier_wins_a_tie() {
        for (values, metric, value, keep, expected) in [
            (&[][..], "dice", 0.5, 1, Some(0)),
            (&[0.5], "dice", 0.6, 1, Some(0)),
            (&[0.5], "dice", 0.5, 1, None),
            (&[0.5], "dice", 0.5, 2, Some(1)),
            (&[0.5, 0.4], "dice", 0.45, 2, Some(1)),
            (&[0.5, 0.4], "dice", 0.3, 2, None),
            (&[0.4, 0.5], "loss", 0.45, 2, Some(1)),
            (&[], "dice", f64::NAN, 2, None),
        ] {
            assert_eq!(place(&best(values), metric, value, keep), expected, "{values:?} {metric} {value}");
        }
    }

    #[test]
    fn files_move_down_and_the_last_goes() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = RunDir::create(&folder.path().join("run")).unwrap();
        let new = run_dir.checkpoints().join("new");
        let put_text = |text: &str, place, keep| {
            fs::create_dir_all(run_dir.checkpoints()).unwrap();
            fs::write(&new, text).unwrap();
            put(&run_dir, &new, place, keep).unwrap();
        };
        let files = || -> Vec<String> {
            (0..4).map_while(|place| fs::read_to_string(run_dir.best_checkpoint(place)).ok()).collect()
        };
        put_text("a", 0, 3);
        put_text("b", 1, 3);
        put_text("c", 0, 3);
        assert_eq!(files(), ["c", "a", "b"]);
        put_text("d", 1, 3);
        assert_eq!(files(), ["c", "d", "a"]);
        put_text("e", 2, 3);
        assert_eq!(files(), ["c", "d", "e"]);
        assert!(!new.exists());

        // A kill after the first, then after the second of the three moves.
        for done in [1, 2] {
            for (place, text) in ["a", "b", "c"].iter().enumerate() {
                fs::write(run_dir.best_checkpoint(place), text).unwrap();
            }
            for above in (2 - done..2).rev() {
                fs::rename(run_dir.best_checkpoint(above), run_dir.best_checkpoint(above + 1)).unwrap();
            }
            put_text("new", 0, 3);
            assert_eq!(files(), ["new", "a", "b"], "{done}");
        }
    }
}
