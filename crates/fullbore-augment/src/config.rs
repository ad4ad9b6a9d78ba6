//! The `augment:` part of a plan, as written.
//!
//! Each operation is a table whose keys may be left `null`: such a key follows the preset. An operation that the preset
//! leaves off, but of which another key is set, happens with p 0.5; `p: 0` turns an operation off.

use serde::{Deserialize, Serialize};

/// The `augment:` part of a plan. Only training samples are augmented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Where the operations start from.
    pub preset: Preset,
    /// Which side augments. The policy itself does not know it: both give the same result but for rounding.
    pub device: AugmentDevice,
    /// What lies outside the canvas.
    pub border: Border,
    /// `false` where a mirrored image would be wrong (cephalograms, text): the preset's flips are dropped.
    pub allow_flip: bool,
    /// Landmark indices that change places when an image is mirrored. `null` until the user says; `[]` when no
    /// landmark has a side.
    pub flip_pairs: Option<Vec<[usize; 2]>>,
    /// With the preset `progressive`: what comes first, what then, and when.
    pub progressive: Progressive,
    /// Mirror left and right.
    pub hflip: Chance,
    /// Mirror top and bottom.
    pub vflip: Chance,
    /// Rotation about the centre; positive turns counter-clockwise as seen.
    pub rotate: Degrees,
    /// Zoom about the centre, log-uniform; above 1 enlarges.
    pub scale: Ranged,
    /// Shift as a share of the side, drawn for each axis.
    pub shift: Ranged,
    /// Horizontal shear; positive moves what lies below the centre to the right.
    pub shear: Degrees,
    /// A random window of the canvas, stretched to the output.
    pub crop: Crop,
    /// Factor on all channels.
    pub brightness: Ranged,
    /// Factor on the distance from mid-gray.
    pub contrast: Ranged,
    /// Factor on the distance from the pixel's own gray (Rec. 601 luma).
    pub saturation: Ranged,
    /// Rotation of the colours at equal luma.
    pub hue: Degrees,
    /// Exponent on values in 0..1, log-uniform; above 1 darkens.
    pub gamma: Ranged,
    /// Gaussian noise, independent per pixel and channel.
    pub noise: Noise,
    /// Boxes filled with the normalisation mean. Masks and points stay.
    pub erase: Erase,
    /// Gaussian blur of the canvas: an extra pass over it.
    pub blur: Blur,
    /// Smooth random displacement: an extra term per pixel.
    pub elastic: Elastic,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self::of(Preset::None)
    }
}

impl AugmentConfig {
    /// A preset as it is, flips allowed.
    pub fn of(preset: Preset) -> Self {
        Self {
            preset,
            device: AugmentDevice::Auto,
            border: Border::Constant,
            allow_flip: true,
            flip_pairs: None,
            progressive: Progressive::default(),
            hflip: Chance::default(),
            vflip: Chance::default(),
            rotate: Degrees::default(),
            scale: Ranged::default(),
            shift: Ranged::default(),
            shear: Degrees::default(),
            crop: Crop::default(),
            brightness: Ranged::default(),
            contrast: Ranged::default(),
            saturation: Ranged::default(),
            hue: Degrees::default(),
            gamma: Ranged::default(),
            noise: Noise::default(),
            erase: Erase::default(),
            blur: Blur::default(),
            elastic: Elastic::default(),
        }
    }
}

/// Which twin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AugmentDevice {
    /// Whichever is measured to be better.
    #[default]
    Auto,
    /// The loader's workers.
    Cpu,
    /// The device that trains.
    Device,
}

/// A named set of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Nothing but what is set key by key.
    #[default]
    None,
    /// Horizontal flip only.
    Minimal,
    /// Horizontal flip 0.5, rotation by up to 15 degrees, brightness and contrast by up to 0.2.
    Standard,
    /// Every operation but the vertical flip, moderately.
    Strong,
    /// One preset at first, another later: see [`Progressive`].
    Progressive,
}

/// What lies outside the canvas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// The normalisation mean, that is 0 at the network's input; 255 (ignore) in masks.
    #[default]
    Constant,
    /// The canvas mirrored about its outer pixel edges, in masks too.
    Reflect,
    /// The outermost pixels repeated, in masks too.
    Edge,
}

/// Two presets and when one gives way to the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Progressive {
    /// The preset of the first epochs.
    pub first: Preset,
    /// The preset of the later ones.
    pub then: Preset,
    /// Zero-based epoch with which the change begins.
    pub at_epoch: u64,
    /// Epochs over which probabilities and ranges move from one to the other; 0 switches at once.
    pub blend_epochs: u64,
}

impl Default for Progressive {
    fn default() -> Self {
        Self { first: Preset::Minimal, then: Preset::Strong, at_epoch: 50, blend_epochs: 0 }
    }
}

/// An operation that happens or does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chance {
    /// Probability.
    pub p: Option<f64>,
}

/// An operation by an angle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Degrees {
    /// Probability.
    pub p: Option<f64>,
    /// Smallest and largest angle.
    pub degrees: Option<[f64; 2]>,
}

/// An operation by a factor, an exponent or a share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ranged {
    /// Probability.
    pub p: Option<f64>,
    /// Smallest and largest value.
    pub range: Option<[f64; 2]>,
}

/// Random-resized crop. A window that would be wider or higher than the canvas is cut to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Crop {
    /// Probability.
    pub p: Option<f64>,
    /// Area of the window as a share of the canvas.
    pub area: Option<[f64; 2]>,
    /// Width by height of the window relative to the canvas, log-uniform; 1 keeps its shape.
    pub aspect: Option<[f64; 2]>,
}

/// Gaussian noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Probability.
    pub p: Option<f64>,
    /// Standard deviation where white is 1.
    pub std: Option<[f64; 2]>,
}

/// Erased boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erase {
    /// Probability.
    pub p: Option<f64>,
    /// Area of each box as a share of the output.
    pub area: Option<[f64; 2]>,
    /// Width by height of each box relative to the output, log-uniform.
    pub aspect: Option<[f64; 2]>,
    /// Most boxes; their number is drawn from 1 to this.
    pub count: Option<u32>,
}

/// Gaussian blur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blur {
    /// Probability.
    pub p: Option<f64>,
    /// Standard deviation in canvas pixels.
    pub sigma: Option<[f64; 2]>,
}

/// Smooth random displacement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elastic {
    /// Probability.
    pub p: Option<f64>,
    /// Largest displacement along each axis, in output pixels. At most an eighth of a cell, so that nothing folds.
    pub alpha: Option<[f64; 2]>,
    /// Cells along each side of the coarse grid whose nodes move.
    pub grid: Option<u32>,
}
