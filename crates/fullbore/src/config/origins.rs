use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The embedded defaults.
    Default,
    /// A settings file.
    File {
        /// As named on the command line.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A `--set` option.
    Set,
    /// An option of its own, as it is written.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Set => f.write_str("--set"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// The origin of every value, by dotted key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Where the value of `key` comes from. Keys below a value that is given as a whole have its origin, and
    /// what nobody wrote is [`Origin::Default`].
    pub fn of(&self, key: &str) -> Origin {
        let mut prefix = key;
        loop {
            if let Some(origin) = self.0.get(prefix) {
                return origin.clone();
            }
            match prefix.rfind('.') {
                Some(dot) => prefix = &prefix[..dot],
                None => return Origin::Default,
            }
        }
    }

    /// Values that do not come from the defaults, sorted by key.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (key.as_str(), origin))
    }

    pub(super) fn set(&mut self, key: String, origin: Origin) {
        self.0.insert(key, origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_below_a_whole_value_has_its_origin() {
        let mut origins = Origins::default();
        let file = Origin::File { path: "a.yaml".into(), line: 3 };
        origins.set("data.classes".into(), file.clone());
        origins.set("batch.size".into(), Origin::Set);
        assert_eq!(origins.of("data.classes.cell"), file);
        assert_eq!(origins.of("data.classes"), file);
        assert_eq!(origins.of("data.class"), Origin::Default);
        assert_eq!(origins.of("data"), Origin::Default);
        assert_eq!(origins.of("batch.size").to_string(), "--set");
        assert_eq!(file.to_string(), "a.yaml:3");
        assert_eq!(origins.changed().map(|(key, _)| key).collect::<Vec<_>>(), ["batch.size", "data.classes"]);
    }
}
