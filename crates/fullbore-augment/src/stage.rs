//! All operations with their probabilities and ranges, filled in: what holds in one epoch.

/// An operation: how often, and between which values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Op {
    pub(crate) p: f64,
    pub(crate) range: [f64; 2],
}

const fn op(p: f64, lo: f64, hi: f64) -> Op {
    Op { p, range: [lo, hi] }
}

/// Operations in force. Angles in degrees, noise where white is 1, blur in canvas pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stage {
    pub(crate) hflip: f64,
    pub(crate) vflip: f64,
    pub(crate) rotate: Op,
    pub(crate) scale: Op,
    pub(crate) shift: Op,
    pub(crate) shear: Op,
    pub(crate) crop: Op,
    pub(crate) crop_aspect: [f64; 2],
    pub(crate) brightness: Op,
    pub(crate) contrast: Op,
    pub(crate) saturation: Op,
    pub(crate) hue: Op,
    pub(crate) gamma: Op,
    pub(crate) noise: Op,
    pub(crate) erase: Op,
    pub(crate) erase_aspect: [f64; 2],
    pub(crate) erase_count: u32,
    pub(crate) blur: Op,
    /// The range is a share of the largest displacement that cannot fold, an eighth of a cell.
    pub(crate) elastic: Op,
    pub(crate) elastic_cells: u32,
}

impl Stage {
    /// Everything off; the ranges are those of an operation that is only switched on.
    pub(crate) const NONE: Stage = Stage {
        hflip: 0.0,
        vflip: 0.0,
        rotate: op(0.0, -15.0, 15.0),
        scale: op(0.0, 0.8, 1.25),
        shift: op(0.0, -0.1, 0.1),
        shear: op(0.0, -10.0, 10.0),
        crop: op(0.0, 0.5, 1.0),
        crop_aspect: [0.8, 1.25],
        brightness: op(0.0, 0.8, 1.2),
        contrast: op(0.0, 0.8, 1.2),
        saturation: op(0.0, 0.7, 1.3),
        hue: op(0.0, -15.0, 15.0),
        gamma: op(0.0, 0.8, 1.25),
        noise: op(0.0, 0.0, 0.04),
        erase: op(0.0, 0.01, 0.08),
        erase_aspect: [0.5, 2.0],
        erase_count: 2,
        blur: op(0.0, 0.3, 1.5),
        elastic: op(0.0, 0.0, 0.5),
        elastic_cells: 4,
    };

    pub(crate) const MINIMAL: Stage = Stage { hflip: 0.5, ..Self::NONE };

    pub(crate) const STANDARD: Stage = Stage {
        rotate: op(1.0, -15.0, 15.0),
        brightness: op(1.0, 0.8, 1.2),
        contrast: op(1.0, 0.8, 1.2),
        ..Self::MINIMAL
    };

    pub(crate) const STRONG: Stage = Stage {
        rotate: op(0.8, -30.0, 30.0),
        scale: op(0.5, 0.8, 1.25),
        shift: op(0.5, -0.1, 0.1),
        shear: op(0.3, -10.0, 10.0),
        crop: op(0.3, 0.5, 1.0),
        brightness: op(0.8, 0.7, 1.3),
        contrast: op(0.8, 0.7, 1.3),
        saturation: op(0.5, 0.7, 1.3),
        hue: op(0.3, -15.0, 15.0),
        gamma: op(0.3, 0.8, 1.25),
        noise: op(0.3, 0.0, 0.04),
        erase: op(0.3, 0.01, 0.08),
        blur: op(0.2, 0.3, 1.5),
        elastic: op(0.2, 0.0, 0.5),
        ..Self::MINIMAL
    };

    /// The stage `t` of the way from `self` to `other`, `t` in 0..=1. Counts and grids are those of `other`.
    pub(crate) fn towards(&self, other: &Stage, t: f64) -> Stage {
        let mix = |a: f64, b: f64| a + (b - a) * t;
        let range = |a: [f64; 2], b: [f64; 2]| [mix(a[0], b[0]), mix(a[1], b[1])];
        // An operation that one side leaves off keeps the other side's range: only its probability moves.
        let op = |a: Op, b: Op| Op {
            p: mix(a.p, b.p),
            range: match (a.p > 0.0, b.p > 0.0) {
                (true, true) => range(a.range, b.range),
                (true, false) => a.range,
                (false, _) => b.range,
            },
        };
        Stage {
            hflip: mix(self.hflip, other.hflip),
            vflip: mix(self.vflip, other.vflip),
            rotate: op(self.rotate, other.rotate),
            scale: op(self.scale, other.scale),
            shift: op(self.shift, other.shift),
            shear: op(self.shear, other.shear),
            crop: op(self.crop, other.crop),
            crop_aspect: range(self.crop_aspect, other.crop_aspect),
            brightness: op(self.brightness, other.brightness),
            contrast: op(self.contrast, other.contrast),
            saturation: op(self.saturation, other.saturation),
            hue: op(self.hue, other.hue),
            gamma: op(self.gamma, other.gamma),
            noise: op(self.noise, other.noise),
            erase: op(self.erase, other.erase),
            erase_aspect: range(self.erase_aspect, other.erase_aspect),
            erase_count: other.erase_count,
            blur: op(self.blur, other.blur),
            elastic: op(self.elastic, other.elastic),
            elastic_cells: other.elastic_cells,
        }
    }

    /// True when no operation ever happens.
    pub(crate) fn is_off(&self) -> bool {
        let ops = [
            self.rotate,
            self.scale,
            self.shift,
            self.shear,
            self.crop,
            self.brightness,
            self.contrast,
            self.saturation,
            self.hue,
            self.gamma,
            self.noise,
            self.erase,
            self.blur,
            self.elastic,
        ];
        self.hflip == 0.0 && self.vflip == 0.0 && ops.iter().all(|op| op.p == 0.0)
    }

    /// One line for each operation that can happen. `elastic_limit_px`: what a share of 1 means.
    pub(crate) fn describe(&self, elastic_limit_px: f64) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, p) in [("horizontal flip", self.hflip), ("vertical flip", self.vflip)] {
            if p > 0.0 {
                lines.push(format!("{name} p {}", number(p)));
            }
        }
        let mut line = |name: &str, op: Op, unit: &str, factor: f64, more: String| {
            if op.p > 0.0 {
                let [lo, hi] = op.range.map(|v| number(v * factor));
                lines.push(format!("{name} p {}, {lo} to {hi}{unit}{more}", number(op.p)));
            }
        };
        let plain = String::new;
        line("rotation", self.rotate, " degrees", 1.0, plain());
        line("scale", self.scale, "", 1.0, plain());
        line("shift", self.shift, " of the side", 1.0, plain());
        line("shear", self.shear, " degrees", 1.0, plain());
        let [lo, hi] = self.crop_aspect.map(number);
        line("crop", self.crop, " of the area", 1.0, format!(", aspect {lo} to {hi}"));
        line("brightness", self.brightness, "", 1.0, plain());
        line("contrast", self.contrast, "", 1.0, plain());
        line("saturation", self.saturation, "", 1.0, plain());
        line("hue", self.hue, " degrees", 1.0, plain());
        line("gamma", self.gamma, "", 1.0, plain());
        line("noise", self.noise, " std", 1.0, plain());
        let [lo, hi] = self.erase_aspect.map(number);
        let boxes = format!(", aspect {lo} to {hi}, up to {} boxes", self.erase_count);
        line("erase", self.erase, " of the area", 1.0, boxes);
        line("blur (an extra pass)", self.blur, " px", 1.0, plain());
        let grid = format!(", grid {}", self.elastic_cells);
        line("elastic (an extra term)", self.elastic, " px", elastic_limit_px, grid);
        lines
    }
}

/// At most four decimals, without trailing zeros.
fn number(v: f64) -> String {
    format!("{}", (v * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blending_moves_probabilities_and_ranges_in_step() {
        let half = Stage::STANDARD.towards(&Stage::STRONG, 0.5);
        assert_eq!(half.rotate, op(0.9, -22.5, 22.5));
        // Off in the first: its range is that of the second from the start.
        assert_eq!(Stage::MINIMAL.towards(&Stage::STRONG, 0.25).blur, op(0.05, 0.3, 1.5));
        assert_eq!(Stage::STRONG.towards(&Stage::NONE, 0.0).rotate, Stage::STRONG.rotate);
        assert_eq!(Stage::MINIMAL.towards(&Stage::STRONG, 1.0), Stage::STRONG);
    }

    #[test]
    fn the_presets_say_what_they_do() {
        assert!(Stage::NONE.is_off() && Stage::NONE.describe(8.0).is_empty());
        assert_eq!(
            Stage::STANDARD.describe(8.0),
            [
                "horizontal flip p 0.5",
                "rotation p 1, -15 to 15 degrees",
                "brightness p 1, 0.8 to 1.2",
                "contrast p 1, 0.8 to 1.2"
            ]
        );
        let strong = Stage::STRONG.describe(8.0);
        assert_eq!(strong.len(), 15);
        assert_eq!(strong.last().unwrap(), "elastic (an extra term) p 0.2, 0 to 4 px, grid 4");
    }
}
