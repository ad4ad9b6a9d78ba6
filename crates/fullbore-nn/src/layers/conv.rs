//! Convolutions with PyTorch's initial values: `kaiming_uniform_(a=sqrt(5))` for weights, U(±1/sqrt(fan_in)) for
//! biases, drawn in PyTorch's order, so that `torch.manual_seed` gives the same weights.

use fullbore_torch::{Device, Kind, Result, Tensor};

use crate::Scope;

/// `torch.nn.Conv2d` with a square kernel.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

/// The numbers of a [`Conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Side of the kernel.
    pub kernel: i64,
    /// Step between windows.
    pub stride: i64,
    /// Zeros added on every side.
    pub padding: i64,
    /// Whether a bias is added.
    pub bias: bool,
}

impl Conv2d {
    /// A convolution from `channels_in` to `channels_out`.
    pub fn new(
        mut scope: Scope<'_>,
        channels_in: i64,
        channels_out: i64,
        config: ConvConfig,
    ) -> Result<Self> {
        let ConvConfig { kernel, stride, padding, bias } = config;
        let (weight, bias) = weight_and_bias(
            &mut scope,
            &[channels_out, channels_in, kernel, kernel],
            bias.then_some(channels_out),
        )?;
        Ok(Self { weight, bias, stride, padding })
    }

    /// `x` [B, Cin, H, W] to [B, Cout, H', W'].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.weight, self.bias.as_ref(), self.stride, self.padding)
    }
}

/// `torch.nn.ConvTranspose2d` with kernel 2 and stride 2: doubles both sides.
#[derive(Clone, Debug)]
pub struct Upconv2 {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Upconv2 {
    /// An up-convolution with bias from `channels_in` to `channels_out`.
    pub fn new(mut scope: Scope<'_>, channels_in: i64, channels_out: i64) -> Result<Self> {
        let (weight, bias) =
            weight_and_bias(&mut scope, &[channels_in, channels_out, 2, 2], Some(channels_out))?;
        Ok(Self { weight, bias })
    }

    /// `x` [B, Cin, H, W] to [B, Cout, 2H, 2W].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv_transpose2d(&self.weight, self.bias.as_ref(), 2)
    }
}

/// `size` is [out, in, kh, kw], or [in, out, kh, kw] for transposed convolutions: PyTorch takes the second entry as
/// the fan-in in both cases.
fn weight_and_bias(
    scope: &mut Scope<'_>,
    size: &[i64; 4],
    bias: Option<i64>,
) -> Result<(Tensor, Option<Tensor>)> {
    let fan_in = (size[1] * size[2] * size[3]) as f64;
    // torch.nn.init: bound = sqrt(3) * gain / sqrt(fan_in) with gain = sqrt(2 / (1 + a^2)), a = sqrt(5).
    let gain = (2.0 / (1.0 + 5.0f64.sqrt().powi(2))).sqrt();
    let bound = 3.0f64.sqrt() * (gain / fan_in.sqrt());
    let weight = Tensor::empty(size, Kind::Float, Device::Cpu)?;
    weight.uniform_(-bound, bound)?;
    let weight = scope.parameter("weight", &weight)?;
    let bias = match bias {
        None => None,
        Some(n) => {
            let bound = 1.0 / fan_in.sqrt();
            let bias = Tensor::empty(&[n], Kind::Float, Device::Cpu)?;
            bias.uniform_(-bound, bound)?;
            Some(scope.parameter("bias", &bias)?)
        }
    };
    Ok((weight, bias))
}
