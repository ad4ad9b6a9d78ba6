//! From sampled channels to finished ones: colour, gamma, noise, normalisation.

use fullbore_augment::AugmentParams;
use fullbore_torch::{Kind, Result, Tensor};

use super::{Frame, of_each, upload};

const WHITE: f32 = 255.0;
/// The low 32 bits.
const WORD: i64 = 0xFFFF_FFFF;

/// The normalisation, `r -> scale r + summand` with `r` in 0..1, f32 `[1, C, 1, 1]` each.
#[derive(Debug)]
pub(super) struct Tone {
    frame: Frame,
    pub(super) scale: Vec<f32>,
    pub(super) summand: Vec<f32>,
    scale_on_device: Tensor,
    summand_on_device: Tensor,
    /// What white becomes.
    highest: Tensor,
}

impl Tone {
    pub(super) fn new(frame: Frame, mean: &[f32], std: &[f32]) -> Result<Self> {
        let scale: Vec<f32> = std.iter().map(|s| 1.0 / s).collect();
        let summand: Vec<f32> = mean.iter().zip(std).map(|(m, s)| -m / s).collect();
        let on_device = |numbers: &[f32]| upload(numbers, &[1, frame.channels as i64, 1, 1], frame.device);
        let (scale_on_device, summand_on_device) = (on_device(&scale)?, on_device(&summand)?);
        let highest = scale_on_device.add(&summand_on_device)?;
        Ok(Self { frame, scale, summand, scale_on_device, summand_on_device, highest })
    }

    /// Finished pixels, cover and boxes aside, of `samples` f32 `[n, C, h, w]` in 0..=255.
    pub(super) fn finish(&self, samples: Tensor, params: &[AugmentParams]) -> Result<Tensor> {
        let direct = params.iter().all(|p| p.gamma == 1.0 && p.noise_std <= 0.0);
        let image = self.colour(samples, params, direct)?;
        if direct {
            if params.iter().any(|p| p.colour != AugmentParams::IDENTITY.colour) {
                image.clamp_between_(&self.summand_on_device, &self.highest)?;
            }
            return Ok(image);
        }
        image.clamp_(0.0, 1.0)?;
        let n = params.len() as i64;
        let image = match params.iter().any(|p| p.gamma != 1.0) {
            true => image.pow(&upload(&of_each(params, |p| [p.gamma]), &[n, 1, 1, 1], self.frame.device)?)?,
            false => image,
        };
        if params.iter().any(|p| p.noise_std > 0.0) {
            let std = of_each(params, |p| [p.noise_std.max(0.0)]);
            let std = upload(&std, &[n, 1, 1, 1], self.frame.device)?;
            image.addcmul_(&self.normal_numbers(params)?, &std)?;
            image.clamp_(0.0, 1.0)?;
        }
        self.summand_on_device.addcmul(&image, &self.scale_on_device)
    }

    /// The colour matrix: to 0..1, or straight to normalised numbers when `direct`.
    fn colour(&self, samples: Tensor, params: &[AugmentParams], direct: bool) -> Result<Tensor> {
        let (n, channels) = (params.len() as i64, self.frame.channels);
        let mut columns = [(); 4].map(|()| Vec::with_capacity(params.len() * channels));
        for p in params {
            for channel in 0..channels {
                let mut row: [f32; 4] = std::array::from_fn(|i| p.colour[4 * channel + i]);
                if channels == 1 {
                    row = [row[0] + row[1] + row[2], 0.0, 0.0, row[3]];
                }
                let (scale, summand) = match direct {
                    true => (self.scale[channel], self.summand[channel]),
                    false => (1.0, 0.0),
                };
                for (i, column) in columns.iter_mut().enumerate() {
                    column.push(if i < 3 { row[i] * scale / WHITE } else { row[i] * scale + summand });
                }
            }
        }
        let upload = |numbers: &[f32]| upload(numbers, &[n, channels as i64, 1, 1], self.frame.device);
        let mixes = |p: &AugmentParams| [1, 2, 4, 6, 8, 9].iter().any(|&i| p.colour[i] != 0.0);
        let summand = upload(&columns[3])?;
        if channels == 1 || !params.iter().any(mixes) {
            // Each channel keeps to itself.
            let own: Vec<f32> = (0..params.len() * channels).map(|i| columns[i % channels][i]).collect();
            return summand.addcmul(&samples, &upload(&own)?);
        }
        let from = |i: i64| samples.narrow(1, i, 1);
        let image = summand.addcmul(&from(0)?, &upload(&columns[0])?)?;
        image.addcmul_(&from(1)?, &upload(&columns[1])?)?;
        image.addcmul_(&from(2)?, &upload(&columns[2])?)?;
        Ok(image)
    }

    /// Nearly normal numbers f32 `[n, C, h, w]`: `normal_of(keyed_hash(..))` of every pixel and channel, in i64 cut to 32
    /// bits.
    fn normal_numbers(&self, params: &[AugmentParams]) -> Result<Tensor> {
        // The factors of `keyed_hash`, the last as the negative number with the same low bits: no product overflows.
        const FACTORS: [i64; 3] = [0x9E37_79B1, 0x7FEB_352D, 0x846C_A68B - (1 << 32)];
        let Frame { out, channels, device, .. } = self.frame;
        let (n, channels, [w, h]) =
            (params.len() as i64, channels as i64, [out.width, out.height].map(i64::from));
        let keys: Vec<i64> = of_each(params, |p| p.noise_key.map(i64::from));
        let keys = Tensor::from_slice(&keys)?.reshape(&[n, 2, 1, 1])?.send_to(device)?;
        let pixels = Tensor::arange(h * w, Kind::Int64, device)?.reshape(&[1, 1, h, w])?;
        pixels.mul_int_(4)?;
        let numbers =
            pixels.add(&Tensor::arange(channels, Kind::Int64, device)?.reshape(&[1, channels, 1, 1])?)?;
        numbers.bitwise_and_(WORD)?;

        let times = |hash: &Tensor, factor: i64| {
            hash.mul_int_(factor)?;
            hash.bitwise_and_(WORD)
        };
        numbers.mul_int_(FACTORS[0])?;
        let hash = numbers.add(&keys.narrow(1, 0, 1)?)?;
        hash.bitwise_and_(WORD)?;
        hash.bitwise_xor_(&hash.shift_right(16)?)?;
        times(&hash, FACTORS[1])?;
        hash.bitwise_xor_(&hash.shift_right(15)?)?;
        hash.bitwise_xor_(&keys.narrow(1, 1, 1)?)?;
        times(&hash, FACTORS[2])?;
        hash.bitwise_xor_(&hash.shift_right(16)?)?;

        // Four bytes become two sums of two, then one.
        let odd = hash.shift_right(8)?;
        odd.bitwise_and_(0x00FF_00FF)?;
        hash.bitwise_and_(0x00FF_00FF)?;
        hash.add_(&odd)?;
        let sum = hash.add(&hash.shift_right(16)?)?;
        sum.bitwise_and_(0xFFFF)?;
        let normal = sum.to_kind(Kind::Float)?;
        normal.add_scalar_(-510.0)?;
        normal.mul_scalar_(1.0 / 147.800_54)?;
        Ok(normal)
    }
}
