//! The `data:` part of a plan and its checks.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fullbore_types::{Classes, Size};
use indexmap::IndexMap;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cache::CacheMode;
use crate::decode::DecodeLimits;
use crate::faults::FaultPolicy;
use crate::source::{Annotator, Crop, Cropped, Format, Reading, Source, SourceError, open_read_as};

/// Longest side of a canvas in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Most decoding threads.
pub const MAX_WORKERS: usize = 256;
/// Most host batches prepared ahead.
pub const MAX_PREFETCH: usize = 1_024;
/// Most crops of one image per epoch.
pub const MAX_CROPS_PER_IMAGE: u32 = 65_536;
/// Largest margin of [`DataConfig::crop`]; beyond it, what is shown is lost in its surroundings.
pub const MAX_CROP_MARGIN: f64 = 10.0;

/// Seconds that a read may be given: not so few that a busy disk looks dead.
pub const READ_TIMEOUT_SECONDS: RangeInclusive<f64> = 0.1..=86_400.0;

/// The `data:` part of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The data set, in any format of [`Format`]. Required; `None` until the user sets it.
    pub train: Option<PathBuf>,
    /// The same for validation; `None` holds out every [`holdout`](Self::holdout)-th sample of `train`.
    pub val: Option<PathBuf>,
    /// Every n-th sorted image validates: the first, the n+1st, and so on.
    pub holdout: u32,
    /// How [`train`](Self::train) and [`val`](Self::val) are laid out.
    #[serde(default)]
    pub format: Format,
    /// Whose annotations are taken, where two people annotated each image.
    #[serde(default)]
    pub annotator: Annotator,
    /// Coordinate of the centre of the first pixel in CSV and JSONL lists of points: 0, or 0.5 where coordinates begin at
    /// its outer edge, or 1 where pixels are numbered from 1.
    #[serde(default)]
    pub first_pixel: f64,
    /// How much of its image a sample shows.
    #[serde(default)]
    pub crop: Crop,
    /// With [`crop`](Self::crop): share of the side of the square around box or points, added on each side.
    #[serde(default = "default_crop_margin")]
    pub crop_margin: f64,
    /// Size of the canvas that batches are made of.
    pub size: CanvasSize,
    /// How an image comes onto the canvas.
    pub resize: Resize,
    /// With [`Resize::Crop`]: random crops of each image per epoch.
    pub crops_per_image: u32,
    /// 3 (RGB) or 1 (gray).
    pub channels: u8,
    /// Subtracted on the device after scaling to 0..1, one per channel.
    pub mean: Vec<f32>,
    /// Divided by on the device, one per channel.
    pub std: Vec<f32>,
    /// Class name to value in the mask files, in the order of the class indices.
    pub classes: IndexMap<String, u8>,
    /// Mask value that means "not labelled".
    pub void: Option<u8>,
    /// Decoding threads.
    pub workers: Workers,
    /// Host batches prepared ahead of the step.
    pub prefetch: usize,
    /// Leave out the last, smaller batch of an epoch.
    pub drop_last: bool,
    /// Bad training samples that are replaced; one more ends the run. 0: the first one does.
    #[serde(default = "default_max_bad")]
    pub max_bad: usize,
    /// Largest share of bad samples in an epoch.
    #[serde(default = "default_max_bad_share")]
    pub max_bad_share: f64,
    /// Seconds after which a read is given up.
    #[serde(default = "default_read_timeout")]
    pub read_timeout: f64,
    /// Most pixels of one image, as its header tells them; larger ones count as bad.
    #[serde(default = "default_max_pixels")]
    pub max_pixels: u64,
    /// Most bytes of one file; longer ones count as bad.
    #[serde(default = "default_max_file_bytes")]
    pub max_file_bytes: u64,
    /// Where decoded samples are kept from epoch to epoch.
    #[serde(default = "default_cache")]
    pub cache: CacheMode,
    /// Most bytes of the cache and the ring of host batches together; `None` leaves the choice to
    /// [`crate::cache::decide`].
    #[serde(default)]
    pub cache_bytes: Option<u64>,
    /// Folder of a cache on disk; `None`: [`crate::cache::default_folder`].
    #[serde(default)]
    pub cache_dir: Option<PathBuf>,
}

fn default_crop_margin() -> f64 {
    0.25
}

fn default_max_pixels() -> u64 {
    DecodeLimits::default().max_pixels
}

fn default_max_file_bytes() -> u64 {
    DecodeLimits::default().max_bytes
}

fn default_cache() -> CacheMode {
    CacheMode::Off
}

fn default_max_bad() -> usize {
    FaultPolicy::default().max_bad
}

fn default_max_bad_share() -> f64 {
    FaultPolicy::default().max_bad_share
}

fn default_read_timeout() -> f64 {
    FaultPolicy::default().read_timeout.as_secs_f64()
}

impl DataConfig {
    /// Checks every key by itself and against the others of this part.
    ///
    /// # Errors
    /// The first key whose value cannot work, with the values that can.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.train.is_none() {
            return Err(ConfigError::TrainMissing);
        }
        if self.val.is_none() && self.holdout < 2 {
            return Err(value(
                "data.holdout",
                self.holdout,
                "at least 2 while data.val is null: every n-th sample validates, the rest trains",
            ));
        }
        let side = 1..=MAX_SIDE;
        if !side.contains(&self.size.height) || !side.contains(&self.size.width) {
            return Err(value("data.size", self.size, format!("sides from 1 to {MAX_SIDE}")));
        }
        if !(0.0..=1.0).contains(&self.first_pixel) {
            return Err(value("data.first_pixel", self.first_pixel, "0 to 1; mostly 0, 0.5 or 1"));
        }
        self.check_crops()?;
        self.check_channels()?;
        self.check_classes()?;
        if let Workers::Count(n) = self.workers
            && n > MAX_WORKERS
        {
            return Err(value("data.workers", n, format!("auto, or 0 to {MAX_WORKERS} threads")));
        }
        if !(1..=MAX_PREFETCH).contains(&self.prefetch) {
            return Err(value("data.prefetch", self.prefetch, format!("1 to {MAX_PREFETCH} batches")));
        }
        if !(0.0..=1.0).contains(&self.max_bad_share) {
            return Err(value("data.max_bad_share", self.max_bad_share, "a share from 0 to 1"));
        }
        let largest = DecodeLimits::default();
        for (key, value_of, most) in [
            ("data.max_pixels", self.max_pixels, largest.max_pixels),
            ("data.max_file_bytes", self.max_file_bytes, largest.max_bytes),
        ] {
            if !(1..=most).contains(&value_of) {
                return Err(value(key, value_of, format!("1 to {most}")));
            }
        }
        let seconds = READ_TIMEOUT_SECONDS;
        if !seconds.contains(&self.read_timeout) {
            let allowed = format!("{} to {} seconds", seconds.start(), seconds.end());
            return Err(value("data.read_timeout", self.read_timeout, allowed));
        }
        Ok(())
    }

    /// Opens [`train`](Self::train) or [`val`](Self::val) as this part of a plan wants it: see
    /// [`crate::source::open`] for `classes`.
    ///
    /// # Errors
    /// When it cannot be opened, or lacks what is to be cropped around.
    pub fn open(&self, path: &Path, classes: Option<&Classes>) -> Result<Arc<dyn Source>, SourceError> {
        let reading = Reading { annotator: self.annotator, first_pixel: self.first_pixel };
        let source = open_read_as(path, self.format, reading, classes)?;
        Ok(match self.crop {
            Crop::None => source,
            crop => Arc::new(Cropped::new(source, crop, self.crop_margin, path)?),
        })
    }

    /// What the values in the mask files mean, in the order of the class indices.
    pub fn classes(&self) -> Classes {
        Classes {
            names: self.classes.keys().cloned().collect(),
            values: self.classes.values().copied().collect(),
            void_value: self.void,
        }
    }

    /// What one file may ask for.
    pub fn decode_limits(&self) -> DecodeLimits {
        DecodeLimits { max_pixels: self.max_pixels, max_bytes: self.max_file_bytes }
    }

    /// What happens with bad samples, with none known yet.
    ///
    /// # Panics
    /// When [`check`](Self::check) would refuse the read timeout.
    pub fn fault_policy(&self) -> FaultPolicy {
        FaultPolicy {
            max_bad: self.max_bad,
            max_bad_share: self.max_bad_share,
            read_timeout: Duration::from_secs_f64(self.read_timeout),
            known_bad: Vec::new(),
        }
    }

    fn check_crops(&self) -> Result<(), ConfigError> {
        let crops = self.crops_per_image;
        if !(1..=MAX_CROPS_PER_IMAGE).contains(&crops) {
            return Err(value("data.crops_per_image", crops, format!("1 to {MAX_CROPS_PER_IMAGE}")));
        }
        if crops > 1 && self.resize != Resize::Crop {
            return Err(value(
                "data.crops_per_image",
                crops,
                "1 unless data.resize is crop: other canvases hold the whole image",
            ));
        }
        if self.crop != Crop::None && self.resize == Resize::Crop {
            return Err(value(
                "data.crop",
                self.crop,
                "none while data.resize is crop: random windows would cut up what the others are about",
            ));
        }
        if !(0.0..=MAX_CROP_MARGIN).contains(&self.crop_margin) {
            return Err(value("data.crop_margin", self.crop_margin, format!("0 to {MAX_CROP_MARGIN}")));
        }
        Ok(())
    }

    fn check_channels(&self) -> Result<(), ConfigError> {
        if self.channels != 1 && self.channels != 3 {
            return Err(value("data.channels", self.channels, "3 (RGB) or 1 (gray)"));
        }
        let one_per_channel = format!("one number per channel, here {}", self.channels);
        for (key, list) in [("data.mean", &self.mean), ("data.std", &self.std)] {
            if list.len() != usize::from(self.channels) {
                return Err(value(key, format!("{list:?}"), one_per_channel));
            }
        }
        if self.mean.iter().any(|m| !m.is_finite()) {
            return Err(value("data.mean", format!("{:?}", self.mean), "finite numbers"));
        }
        if self.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(value("data.std", format!("{:?}", self.std), "finite numbers above 0"));
        }
        Ok(())
    }

    fn check_classes(&self) -> Result<(), ConfigError> {
        let n = self.classes.len();
        if !(2..=255).contains(&n) {
            let names: Vec<_> = self.classes.keys().take(3).collect();
            let allowed = "2 to 255 classes; background counts as one";
            return Err(value("data.classes", format!("{names:?} ({n} in all)"), allowed));
        }
        let mut by_value: HashMap<u8, &str> = HashMap::new();
        for (name, &mask_value) in &self.classes {
            if name.trim().is_empty() {
                return Err(value(
                    "data.classes",
                    format!("{name:?}: {mask_value}"),
                    "a name for each class",
                ));
            }
            if let Some(other) = by_value.insert(mask_value, name) {
                let both = format!("{other}: {mask_value}, {name}: {mask_value}");
                return Err(value("data.classes", both, "a mask value of its own for each class"));
            }
        }
        if let Some(name) = self.void.and_then(|void| by_value.get(&void)) {
            let void = self.void.unwrap_or_default();
            let allowed = format!("null, or a value that no class has (`{name}` has this one)");
            return Err(value("data.void", void, allowed));
        }
        Ok(())
    }
}

/// Size of the canvas: written as one side in pixels or as `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanvasSize {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl From<CanvasSize> for Size {
    fn from(size: CanvasSize) -> Self {
        Size::new(size.width, size.height)
    }
}

impl fmt::Display for CanvasSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.height == self.width {
            true => write!(f, "{}", self.height),
            false => write!(f, "[{}, {}]", self.height, self.width),
        }
    }
}

impl Serialize for CanvasSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.height == self.width {
            true => serializer.serialize_u32(self.height),
            false => [self.height, self.width].serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CanvasSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SideOrPair;
        impl<'de> Visitor<'de> for SideOrPair {
            type Value = CanvasSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a side in pixels or [height, width]")
            }

            fn visit_u64<E: de::Error>(self, side: u64) -> Result<CanvasSize, E> {
                let side = u32::try_from(side)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(side), &self))?;
                Ok(CanvasSize { height: side, width: side })
            }

            fn visit_i64<E: de::Error>(self, side: i64) -> Result<CanvasSize, E> {
                match u64::try_from(side) {
                    Ok(side) => self.visit_u64(side),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(side), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CanvasSize, A::Error> {
                let short = |len| de::Error::invalid_length(len, &"[height, width]");
                let height = seq.next_element()?.ok_or_else(|| short(0))?;
                let width = seq.next_element()?.ok_or_else(|| short(1))?;
                match seq.next_element::<u32>()? {
                    Some(_) => Err(short(3)),
                    None => Ok(CanvasSize { height, width }),
                }
            }
        }
        deserializer.deserialize_any(SideOrPair)
    }
}

/// How an image comes onto the canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resize {
    /// The whole image, stretched to the canvas: the aspect ratio may change.
    Stretch,
    /// The whole image at its own aspect ratio, centred; the padding is ignored by losses and metrics.
    Letterbox,
    /// Native pixels: a random window in training, the whole image in evaluation.
    Crop,
}

/// Decoding threads: written as `auto` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// Chosen from the number of cores, then adjusted to what is measured.
    Auto,
    /// That many threads; 0 decodes inline in the thread that asks for the batch.
    Count(usize),
}

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Workers::Auto => serializer.serialize_str("auto"),
            Workers::Count(n) => serializer.serialize_u64(n as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrCount;
        impl Visitor<'_> for AutoOrCount {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number of threads")
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Workers, E> {
                usize::try_from(n)
                    .map(Workers::Count)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Workers, E> {
                match u64::try_from(n) {
                    Ok(n) => self.visit_u64(n),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(n), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Workers, E> {
                match word {
                    "auto" => Ok(Workers::Auto),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(AutoOrCount)
    }
}

/// A key of the `data:` part that cannot work as it stands.
#[derive(Debug, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum ConfigError {
    /// No training data named.
    #[error("data.train is required")]
    #[diagnostic(
        code(config::data::train),
        help(
            "give a folder with images/ and masks/, or what else data.format knows: --set data.train=path/to/folder"
        )
    )]
    TrainMissing,
    /// A value outside what the key allows.
    #[error("{key} is {value}, which cannot work")]
    #[diagnostic(code(config::data::value), help("{key} allows {allowed}"))]
    Value {
        /// Full name of the key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be set to.
        allowed: String,
    },
}

fn value(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, value: value.to_string(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> DataConfig {
        serde_json::from_value(json!({
            "train": "set", "val": null, "holdout": 5, "format": "auto", "size": 256, "resize": "stretch",
            "crops_per_image": 1, "channels": 3, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
            "classes": {"zebra": 0, "apple": 255}, "void": null, "workers": "auto", "prefetch": 4,
            "drop_last": true, "cache": "auto", "cache_bytes": null
        }))
        .unwrap()
    }

    fn refused<T>(change: impl FnOnce(&mut DataConfig) -> T) -> (String, String) {
        let mut config = good();
        change(&mut config);
        match config.check().unwrap_err() {
            ConfigError::Value { key, value, .. } => (key.to_string(), value),
            other => (other.to_string(), String::new()),
        }
    }

    #[test]
    fn the_defaults_pass_and_classes_keep_their_order() {
        let config = good();
        config.check().unwrap();
        assert_eq!(config.classes().names, ["zebra", "apple"]);
        assert_eq!(config.classes().values, [0, 255]);
    }

    #[test]
    fn it_reads_back_what_it_writes() {
        let mut config = good();
        config.size = CanvasSize { height: 240, width: 320 };
        config.workers = Workers::Count(3);
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"size\":[240,320]") && text.contains("\"workers\":3"), "{text}");
        assert_eq!(serde_json::from_str::<DataConfig>(&text).unwrap(), config);
    }

    #[test]
    fn every_refusal_names_its_key_and_value() {
        assert_eq!(refused(|c| c.train = None).0, "data.train is required");
        assert_eq!(refused(|c| c.holdout = 1), ("data.holdout".into(), "1".into()));
        assert_eq!(refused(|c| c.size.width = 0), ("data.size".into(), "[256, 0]".into()));
        assert_eq!(refused(|c| c.size.height = MAX_SIDE + 1).0, "data.size");
        assert_eq!(refused(|c| c.crops_per_image = 0).0, "data.crops_per_image");
        assert_eq!(refused(|c| c.crops_per_image = 2).0, "data.crops_per_image");
        let crops = refused(|c| (c.resize, c.crop) = (Resize::Crop, Crop::Box));
        assert_eq!(crops, ("data.crop".into(), "box".into()));
        assert_eq!(refused(|c| c.crop_margin = -0.1), ("data.crop_margin".into(), "-0.1".into()));
        assert_eq!(refused(|c| c.crop_margin = f64::NAN).0, "data.crop_margin");
        assert_eq!(refused(|c| c.first_pixel = 1.5), ("data.first_pixel".into(), "1.5".into()));
        assert_eq!(refused(|c| c.first_pixel = f64::NAN).0, "data.first_pixel");
        assert_eq!(refused(|c| c.channels = 4), ("data.channels".into(), "4".into()));
        assert_eq!(refused(|c| c.mean = vec![0.5]), ("data.mean".into(), "[0.5]".into()));
        assert_eq!(refused(|c| c.mean[1] = f32::NAN).0, "data.mean");
        assert_eq!(refused(|c| c.std[1] = 0.0).0, "data.std");
        assert_eq!(refused(|c| c.classes.pop()).0, "data.classes");
        assert_eq!(
            refused(|c| c.classes.insert("twin".into(), 255)),
            ("data.classes".into(), "apple: 255, twin: 255".into())
        );
        assert_eq!(refused(|c| c.classes.insert("  ".into(), 7)).0, "data.classes");
        assert_eq!(refused(|c| c.void = Some(255)), ("data.void".into(), "255".into()));
        assert_eq!(refused(|c| c.workers = Workers::Count(257)).0, "data.workers");
        assert_eq!(refused(|c| c.prefetch = 0), ("data.prefetch".into(), "0".into()));
        assert_eq!(refused(|c| c.prefetch = 1025).0, "data.prefetch");
        assert_eq!(refused(|c| c.max_bad_share = 1.5), ("data.max_bad_share".into(), "1.5".into()));
        assert_eq!(refused(|c| c.max_bad_share = f64::NAN).0, "data.max_bad_share");
        assert_eq!(refused(|c| c.read_timeout = 0.0), ("data.read_timeout".into(), "0".into()));
        assert_eq!(refused(|c| c.read_timeout = f64::INFINITY).0, "data.read_timeout");
    }

    #[test]
    fn a_plan_without_words_on_bad_samples_has_the_usual_policy() {
        assert_eq!(good().fault_policy(), FaultPolicy::default());
    }

    #[test]
    fn a_validation_folder_makes_the_holdout_idle() {
        let mut config = good();
        config.val = Some("val".into());
        config.holdout = 0;
        config.check().unwrap();
    }

    #[test]
    fn wrong_types_say_what_was_expected() {
        let size = |v| serde_json::from_value::<CanvasSize>(v).map_err(|e| e.to_string());
        assert!(size(json!("big")).unwrap_err().contains("a side in pixels or [height, width]"));
        assert!(size(json!(-3)).unwrap_err().contains("a side in pixels"));
        assert!(size(json!([1])).unwrap_err().contains("[height, width]"));
        assert!(size(json!([1, 2, 3])).unwrap_err().contains("[height, width]"));
        let workers = |v| serde_json::from_value::<Workers>(v).map_err(|e| e.to_string());
        assert!(workers(json!("many")).unwrap_err().contains("`auto` or a number of threads"));
        assert!(workers(json!(-1)).unwrap_err().contains("`auto` or a number of threads"));
        assert_eq!(workers(json!(0)).unwrap(), Workers::Count(0));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let mut object = serde_json::to_value(good()).unwrap();
        object["batch"] = json!(1);
        assert!(serde_json::from_value::<DataConfig>(object).unwrap_err().to_string().contains("batch"));
    }
}
