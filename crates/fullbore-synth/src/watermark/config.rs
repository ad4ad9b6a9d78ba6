use std::path::PathBuf;

use fullbore_data::CanvasSize;
use serde::{Deserialize, Serialize};

/// Shortest side of an image in pixels: letters need some room.
pub const MIN_SIDE: u32 = 32;
/// Longest side of an image in pixels.
pub const MAX_SIDE: u32 = 2_048;
/// Most images in one split.
pub const MAX_IMAGES: u32 = 1_000_000;

/// What a set of watermarked images should be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatermarkConfig {
    /// Every image is a function of this, its split and its number.
    pub seed: u64,
    /// Training images; with 0 the split is left out, as with the two below.
    pub train: u32,
    /// Validation images.
    pub val: u32,
    /// Test images.
    pub test: u32,
    /// Size of every image.
    pub size: CanvasSize,
    /// Folder of photos to lay marks over, searched with all its folders; `None` invents scenes instead.
    pub photos: Option<PathBuf>,
    /// Share of images without a mark, 0 to 1: each is clean with this probability.
    pub clean: f64,
    /// Least and most opacity of a mark, above 0 and up to 1.
    pub opacity: [f64; 2],
    /// Least and most height of capital letters over that of the image, above 0 and up to 1. Letters are never less
    /// than [`MIN_CAPITALS`](super::MIN_CAPITALS) pixels high.
    pub height: [f64; 2],
    /// Where marks lie, all equally likely.
    pub styles: Vec<Style>,
    /// How marks mix with what lies beneath, all equally likely.
    pub blends: Vec<Blend>,
    /// Colours of marks; white is three times as likely as gray or black, twice as likely as colour. Where one would
    /// hardly show, another is taken.
    pub inks: Vec<Ink>,
    /// Share of marks with a line along the letters' edges, 0 to 1; a third of them are nothing but that line. The line
    /// counts as letters.
    pub outlined: f64,
}

impl Default for WatermarkConfig {
    fn default() -> Self {
        WatermarkConfig {
            seed: 0,
            train: 800,
            val: 100,
            test: 100,
            size: CanvasSize { height: 256, width: 256 },
            photos: None,
            clean: 0.15,
            opacity: [0.1, 0.7],
            height: [0.02, 0.25],
            styles: vec![Style::Single, Style::Corner, Style::Diagonal, Style::Tiled],
            blends: vec![Blend::Normal, Blend::Multiply, Blend::Overlay],
            inks: vec![Ink::White, Ink::Gray, Ink::Black, Ink::Colour],
            outlined: 0.3,
        }
    }
}

impl WatermarkConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first that cannot work, with what it allows.
    pub fn check(&self) -> Result<(), ConfigError> {
        for split in Split::ALL {
            if self.count(split) > MAX_IMAGES {
                return Err(value(split.name(), self.count(split), format!("0 to {MAX_IMAGES} images")));
            }
        }
        if Split::ALL.iter().all(|&split| self.count(split) == 0) {
            return Err(value("train", 0, "at least 1 image while val and test are 0, too"));
        }
        let side = MIN_SIDE..=MAX_SIDE;
        if !side.contains(&self.size.height) || !side.contains(&self.size.width) {
            return Err(value("size", self.size, format!("sides from {MIN_SIDE} to {MAX_SIDE} pixels")));
        }
        for (key, share) in [("clean", self.clean), ("outlined", self.outlined)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(value(key, share, "a share from 0 to 1"));
            }
        }
        for (key, range) in [("opacity", self.opacity), ("height", self.height)] {
            let [low, high] = range;
            // NaN fails this, too.
            if !(0.0 < low && low <= high && high <= 1.0) {
                return Err(value(key, format!("{range:?}"), "[least, most], above 0 and up to 1"));
            }
        }
        if self.styles.is_empty() {
            return Err(value("styles", "[]", "at least one of single, corner, diagonal, tiled"));
        }
        if self.blends.is_empty() {
            return Err(value("blends", "[]", "at least one of normal, multiply, overlay"));
        }
        if self.inks.is_empty() {
            return Err(value("inks", "[]", "at least one of white, gray, black, colour"));
        }
        Ok(())
    }

    /// Images of a split.
    pub fn count(&self, split: Split) -> u32 {
        match split {
            Split::Train => self.train,
            Split::Val => self.val,
            Split::Test => self.test,
        }
    }
}

/// A part of the set: a folder that training, validation or testing reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Val,
    /// To judge by.
    Test,
}

impl Split {
    /// All three, in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// Name of its folder and its setting.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

/// Where marks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// One text anywhere, level or at any angle, at times partly outside the image.
    Single,
    /// One small level text near a corner or the middle of a side.
    Corner,
    /// One large text through the middle, slanted.
    Diagonal,
    /// The same text again and again over the whole image, mostly slanted.
    Tiled,
}

/// How a mark's colour `m` and the image's `b` mix, per channel, before opacity weighs the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blend {
    /// `m`.
    Normal,
    /// `b m`: darkens.
    Multiply,
    /// `2 b m` where `b` is below one half, else `1 - 2 (1 - b) (1 - m)`: more contrast.
    Overlay,
}

/// The colour of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ink {
    /// White.
    White,
    /// Any gray.
    Gray,
    /// Black or nearly so.
    Black,
    /// Any hue, or the colour of a pixel of the image.
    Colour,
}

/// A setting that cannot work as it stands.
#[derive(Debug, PartialEq, thiserror::Error, miette::Diagnostic)]
#[error("{key} is {value}, which cannot work")]
#[diagnostic(code(config::synth::value), help("{key} allows {allowed}"))]
pub struct ConfigError {
    /// Name of the setting.
    pub key: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be set to.
    pub allowed: String,
}

fn value(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> ConfigError {
    ConfigError { key, value: value.to_string(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(change: impl FnOnce(&mut WatermarkConfig) -> T) -> (&'static str, String) {
        let mut config = WatermarkConfig::default();
        change(&mut config);
        let error = config.check().unwrap_err();
        (error.key, error.value)
    }

    #[test]
    fn the_defaults_pass_and_read_back() {
        let config = WatermarkConfig::default();
        config.check().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<WatermarkConfig>(&text).unwrap(), config);
    }

    #[test]
    fn every_refusal_names_its_key_and_value() {
        assert_eq!(refused(|c| c.val = MAX_IMAGES + 1), ("val", "1000001".into()));
        assert_eq!(refused(|c| [c.train, c.val, c.test] = [0; 3]).0, "train");
        assert_eq!(refused(|c| c.size.width = 31), ("size", "[256, 31]".into()));
        assert_eq!(refused(|c| c.size.height = 2049).0, "size");
        assert_eq!(refused(|c| c.clean = 1.5), ("clean", "1.5".into()));
        assert_eq!(refused(|c| c.clean = f64::NAN).0, "clean");
        assert_eq!(refused(|c| c.opacity = [0.0, 0.5]), ("opacity", "[0.0, 0.5]".into()));
        assert_eq!(refused(|c| c.opacity = [0.6, 0.5]).0, "opacity");
        assert_eq!(refused(|c| c.height[1] = 1.1).0, "height");
        assert_eq!(refused(|c| c.height[0] = f64::NAN).0, "height");
        assert_eq!(refused(|c| c.styles.clear()).0, "styles");
        assert_eq!(refused(|c| c.blends.clear()).0, "blends");
    }
}
