use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{Split, WatermarkConfig};

/// Name of the manifest in the folder of a set; it is written last.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Raised whenever the same settings make other images.
const VERSION: u32 = 1;
const GENERATOR: &str = "fullbore synth watermark";

/// What a set is and how it was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What made it.
    pub generator: String,
    /// Version of the generator: another version makes other images.
    pub version: u32,
    /// All settings; the folder of photos as an absolute path.
    pub settings: WatermarkConfig,
    /// Photos there were, readable or not; `None` for invented scenes.
    pub photos_found: Option<usize>,
    /// Images of each split.
    pub images: Counts,
    /// Images without any marked pixel.
    pub clean: Counts,
    /// Photos that were passed over, each with what is wrong with it.
    pub skipped_photos: Vec<String>,
}

/// A number for each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Training.
    pub train: u32,
    /// Validation.
    pub val: u32,
    /// Test.
    pub test: u32,
}

impl Counts {
    /// The number of one split.
    pub(super) fn of_mut(&mut self, split: Split) -> &mut u32 {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
            Split::Test => &mut self.test,
        }
    }
}

impl Manifest {
    /// Of a set to be made with these settings, before any image.
    pub(super) fn new(settings: WatermarkConfig, photos_found: Option<usize>) -> Self {
        let WatermarkConfig { train, val, test, .. } = settings;
        Manifest {
            generator: GENERATOR.into(),
            version: VERSION,
            settings,
            photos_found,
            images: Counts { train, val, test },
            clean: Counts::default(),
            skipped_photos: Vec::new(),
        }
    }

    /// The manifest in a folder; `None` when it has none that can be read as one.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read(folder.join(MANIFEST_FILE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What makes another set different from this one, such as `seed is 1 there and 2 here`; `None` when both were
    /// made alike.
    pub(super) fn difference(&self, there: &Self) -> Option<String> {
        let differs = |key: &str, here: &Value, there: &Value| {
            (here != there).then(|| format!("{key} is {there} there and {here} here"))
        };
        let values = |manifest: &Self| {
            let mut values = serde_json::to_value(&manifest.settings).unwrap_or_default();
            values["generator"] = manifest.generator.clone().into();
            values["version"] = manifest.version.into();
            values["number of photos"] = manifest.photos_found.into();
            values
        };
        let (here, there) = (values(self), values(there));
        let keys = here.as_object().into_iter().flatten();
        keys.filter_map(|(key, value)| differs(key, value, &there[key])).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let here = Manifest::new(WatermarkConfig::default(), Some(3));
        assert_eq!(here.difference(&here), None);
        let mut there = here.clone();
        there.clean.val = 7;
        assert_eq!(here.difference(&there), None);
        there.settings.seed = 5;
        assert_eq!(here.difference(&there).unwrap(), "seed is 5 there and 0 here");
        let there = Manifest { photos_found: Some(4), ..here.clone() };
        assert_eq!(here.difference(&there).unwrap(), "number of photos is 4 there and 3 here");
        let there = Manifest { version: 0, ..here.clone() };
        assert_eq!(here.difference(&there).unwrap(), "version is 0 there and 1 here");
    }
}
