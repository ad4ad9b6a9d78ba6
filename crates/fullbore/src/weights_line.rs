//! One line about the weights that a run began with.

use fullbore_events::LoadedWeights;

/// Names beyond these are counted only: the run's events list them all.
const SHOWN: usize = 3;

/// The line.
pub(crate) fn weights_line(loaded: &LoadedWeights) -> String {
    let LoadedWeights { path, applied, entries, stripped, passed_over, summed, missing, unused, mismatched } =
        loaded;
    let mut line = format!("weights: {applied} of {entries} from {path}");
    for (what, names) in [
        ("of another shape, left fresh", mismatched),
        ("not in the file, left fresh", missing),
        ("not in the model", unused),
        ("taken off its names", stripped),
        ("passed over", passed_over),
    ] {
        if !names.is_empty() {
            line.push_str(&format!("; {what}: {}", some_of(names)));
        }
    }
    if let Some(name) = summed {
        line.push_str(&format!("; summed over its input channels: {name}"));
    }
    line
}

fn some_of(names: &[String]) -> String {
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(applied: u64, missing: &[&str], mismatched: &[&str], summed: Option<&str>) -> String {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        weights_line(&LoadedWeights {
            path: "a.pth".into(),
            applied,
            entries: 5,
            stripped: texts(&["state_dict", "module."]),
            summed: summed.map(String::from),
            missing: texts(missing),
            mismatched: texts(mismatched),
            ..LoadedWeights::default()
        })
    }

    #[test]
    fn what_matters_is_on_one_line() {
        assert_eq!(
            line(5, &[], &[], None),
            "weights: 5 of 5 from a.pth; taken off its names: state_dict, module."
        );
        assert_eq!(
            line(
                3,
                &["a", "b", "c", "d", "e"],
                &["w: the model has [1], the file [2]"],
                Some("conv1.weight")
            ),
            "weights: 3 of 5 from a.pth; of another shape, left fresh: w: the model has [1], the file [2]; not in the \
             file, left fresh: a, b, c and 2 more; taken off its names: state_dict, module.; summed over its input \
             channels: conv1.weight"
        );
    }
}
