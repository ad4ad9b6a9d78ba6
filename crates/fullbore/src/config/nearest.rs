use super::schema::Schema;

/// Below this likeness a name says nothing about what was meant.
const LIKE_ENOUGH: f64 = 0.7;

/// What to tell the user who wrote the unknown `key`: the nearest known keys, if any are near.
///
/// Likeness is taken on the whole dotted key with `_` and `.` alike (`batch_size`), and on the last segment alone,
/// for keys that are known by it (`lr`) or stand below a wrong section.
pub(super) fn advice(key: &str, schema: &Schema) -> String {
    if schema.is_known(key) {
        // Written with the dots inside one key of a file.
        let (above, last) = key.rsplit_once('.').unwrap_or(("", key));
        return format!("write `{last}` on its own line below `{}`", above.replace('.', "` below `"));
    }
    let mut near: Vec<(f64, &str)> = schema
        .keys()
        .iter()
        .map(|known| (likeness(key, known), known.as_str()))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .collect();
    near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let best = near.first().map_or(0.0, |(likeness, _)| *likeness);
    let names: Vec<String> = near
        .iter()
        .take_while(|(likeness, _)| *likeness > best - 0.02)
        .take(3)
        .map(|(_, known)| format!("`{known}`"))
        .collect();
    match names.as_slice() {
        [] => "`fullbore init` writes a file with every known key".into(),
        [one] => format!("did you mean {one}?"),
        [others @ .., last] => format!("did you mean {} or {last}?", others.join(", ")),
    }
}

fn likeness(key: &str, known: &str) -> f64 {
    let flat = |text: &str| text.replace(['_', '-'], ".").to_lowercase();
    let whole = strsim::normalized_damerau_levenshtein(&flat(key), &flat(known));
    // A matching last segment is a weaker sign than a matching whole.
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_lowercase();
    let tail = strsim::normalized_damerau_levenshtein(&last(key), &last(known));
    whole.max(0.9 * tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "\
run: {epochs: 1, seed: 0, dir: null}
data: {train: null, size: 1, workers: auto}
batch: {size: 8, micro: auto}
model: {size: 1}
optimizer: {lr: 1e-3, weight_decay: 0.1}
schedule: {min_lr: 0}
";

    #[test]
    fn the_nearest_known_key_is_offered() {
        let schema = Schema::of(KEYS, &[]);
        for (written, meant) in [
            ("optimiser.lr", "did you mean `optimizer.lr`?"),
            ("optimiser", "did you mean `optimizer`?"),
            ("lr", "did you mean `optimizer.lr`?"),
            ("train.lr", "did you mean `optimizer.lr`?"),
            ("batch_size", "did you mean `batch.size`?"),
            ("batch-size", "did you mean `batch.size`?"),
            ("epochs", "did you mean `run.epochs`?"),
            ("run.epoch", "did you mean `run.epochs`?"),
            ("data.trian", "did you mean `data.train`?"),
            ("optimizer.weightdecay", "did you mean `optimizer.weight_decay`?"),
            ("size", "did you mean `data.size`, `batch.size` or `model.size`?"),
            ("data.train", "write `train` on its own line below `data`"),
            ("zebra", "`fullbore init` writes a file with every known key"),
            ("", "`fullbore init` writes a file with every known key"),
        ] {
            assert_eq!(advice(written, &schema), meant, "{written}");
        }
    }
}
