//! Convolutions, and the initial values that PyTorch or a network's authors give them. PyTorch's own are drawn in its
//! order, so that `torch.manual_seed` gives the same weights.

use fullbore_torch::{Device, Kind, Result, Tensor};

use crate::Scope;

/// `torch.nn.Conv2d` with a square kernel, padded so that stride 1 keeps the size.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

/// The numbers of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvConfig {
    /// Side of the kernel.
    pub kernel: i64,
    /// Step between windows.
    pub stride: i64,
    /// Whether a bias is added.
    pub bias: bool,
    /// What the weights begin with.
    pub init: Init,
}

/// What weights begin with, as in `torch.nn.init`. Biases begin at 0 but for [`Init::Torch`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// PyTorch's own: `kaiming_uniform_(a=sqrt(5))`, biases U(±1/sqrt(fan_in)).
    Torch,
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
    KaimingFanOut,
    /// `kaiming_uniform_(mode="fan_in", nonlinearity="relu")`.
    KaimingFanIn,
    /// `xavier_uniform_`.
    Xavier,
    /// `normal_(std=..)`.
    Normal(f64),
}

impl Conv2d {
    /// A convolution from `channels_in` to `channels_out`.
    pub fn new(scope: Scope<'_>, channels_in: i64, channels_out: i64, config: ConvConfig) -> Result<Self> {
        let ConvConfig { kernel, stride, bias, init } = config;
        let bias = bias.then_some(channels_out);
        let (weight, bias) =
            weight_and_bias(scope, &[channels_out, channels_in, kernel, kernel], bias, init)?;
        Ok(Self { weight, bias, stride, padding: kernel / 2 })
    }

    /// `x` `[B, Cin, H, W]` to `[B, Cout, H / stride, W / stride]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.weight, self.bias.as_ref(), self.stride, self.padding)
    }
}

/// `torch.nn.ConvTranspose2d` with an even kernel, cropped so that sides grow by the stride exactly.
#[derive(Clone, Debug)]
pub struct Upconv {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Upconv {
    /// An up-convolution from `channels_in` to `channels_out`.
    pub fn new(scope: Scope<'_>, channels_in: i64, channels_out: i64, config: ConvConfig) -> Result<Self> {
        let ConvConfig { kernel, stride, bias, init } = config;
        let bias = bias.then_some(channels_out);
        let (weight, bias) =
            weight_and_bias(scope, &[channels_in, channels_out, kernel, kernel], bias, init)?;
        Ok(Self { weight, bias, stride, padding: (kernel - stride) / 2 })
    }

    /// `x` `[B, Cin, H, W]` to `[B, Cout, stride H, stride W]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv_transpose2d(&self.weight, self.bias.as_ref(), self.stride, self.padding)
    }
}

/// `size` is [out, in, kh, kw], or [in, out, kh, kw] for transposed convolutions: PyTorch takes the second entry for
/// the fan-in in both cases.
fn weight_and_bias(
    mut scope: Scope<'_>,
    size: &[i64; 4],
    bias: Option<i64>,
    init: Init,
) -> Result<(Tensor, Option<Tensor>)> {
    let fan = |channels: i64| (channels * size[2] * size[3]) as f64;
    let (fan_in, fan_out) = (fan(size[1]), fan(size[0]));
    let weight = Tensor::empty(size, Kind::Float, Device::Cpu)?;
    // torch.nn.init: a uniform draw is within sqrt(3) standard deviations, and those are gain / sqrt(fan).
    let uniform = |std: f64| weight.uniform_(-3.0f64.sqrt() * std, 3.0f64.sqrt() * std);
    let relu_gain = 2.0f64.sqrt();
    match init {
        Init::Torch => uniform((2.0 / (1.0 + 5.0f64.sqrt().powi(2))).sqrt() / fan_in.sqrt())?,
        Init::KaimingFanOut => weight.normal_(relu_gain / fan_out.sqrt())?,
        Init::KaimingFanIn => uniform(relu_gain / fan_in.sqrt())?,
        Init::Xavier => uniform((2.0 / (fan_in + fan_out)).sqrt())?,
        Init::Normal(std) => weight.normal_(std)?,
    }
    let weight = scope.parameter("weight", &weight)?;
    let Some(n) = bias else { return Ok((weight, None)) };
    let bias = Tensor::zeros(&[n], Kind::Float, Device::Cpu)?;
    if init == Init::Torch {
        let bound = 1.0 / fan_in.sqrt();
        bias.uniform_(-bound, bound)?;
    }
    Ok((weight, Some(scope.parameter("bias", &bias)?)))
}
