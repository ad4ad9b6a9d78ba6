//! Network operations, as in `torch.nn.functional`.

use crate::error::Result;
use crate::tensor::{Tensor, wrap};
use crate::{Kind, ffi};

/// What [`Tensor::grid_sample`] finds outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The outermost pixels.
    Edge,
    /// The image mirrored about its outer pixel edges.
    Mirrored,
}

/// How [`Tensor::batch_norm`] normalises, with the words of `torch.nn.functional.batch_norm`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm<'a> {
    /// Scale, f32 `[C]`.
    pub weight: &'a Tensor,
    /// Shift, f32 `[C]`.
    pub bias: &'a Tensor,
    /// Running mean and variance, f32 `[C]`: updated in training, used otherwise.
    pub running: Option<(&'a Tensor, &'a Tensor)>,
    /// Whether the batch's own statistics normalise.
    pub training: bool,
    /// The batch's share in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub eps: f64,
}

fn inner(t: Option<&Tensor>) -> Option<&tch::Tensor> {
    t.map(|t| &t.0)
}

impl Tensor {
    /// `conv2d` with square stride and padding. `self` `[B, Cin, H, W]`, `weight` `[Cout, Cin, kh, kw]`, `bias` `[Cout]`.
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, stride: i64, padding: i64) -> Result<Self> {
        wrap(
            "conv2d",
            self.0.f_conv2d(&weight.0, inner(bias), [stride, stride], [padding, padding], [1, 1], 1),
        )
    }

    /// `conv_transpose2d` with square stride and padding. `self` `[B, Cin, H, W]`, `weight` `[Cin, Cout, kh, kw]`,
    /// `bias` `[Cout]`.
    pub fn conv_transpose2d(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        stride: i64,
        padding: i64,
    ) -> Result<Self> {
        let (stride, padding) = ([stride, stride], [padding, padding]);
        wrap(
            "conv_transpose2d",
            self.0.f_conv_transpose2d(&weight.0, inner(bias), stride, padding, [0, 0], 1, [1, 1]),
        )
    }

    /// `self` `[B, C, H, W]` normalised, in memory of its own.
    pub fn batch_norm(&self, norm: &BatchNorm<'_>) -> Result<Self> {
        let (mean, variance) = norm.running.unzip();
        wrap(
            "batch_norm",
            self.0.f_batch_norm(
                Some(&norm.weight.0),
                Some(&norm.bias.0),
                inner(mean),
                inner(variance),
                norm.training,
                norm.momentum,
                norm.eps,
                true,
            ),
        )
    }

    /// The same, then `added` of the same shape added, then ReLU. On the CPU, in f32 or bf16 and channels_last order, that is one
    /// operation when training (8 passes over memory instead of 14) and where nothing is recorded for gradients.
    pub fn batch_norm_relu(&self, norm: &BatchNorm<'_>, added: Option<&Tensor>) -> Result<Self> {
        let pointer = |t: Option<&Tensor>| t.map_or(std::ptr::null_mut(), Tensor::pointer);
        let (mean, variance) = norm.running.unzip();
        // SAFETY: live tensors, null where there is none, and a valid out-parameter.
        Self::from_shim("batch_norm_relu", |out| unsafe {
            ffi::fb_norm_relu(
                self.pointer(),
                norm.weight.pointer(),
                norm.bias.pointer(),
                pointer(added),
                pointer(mean),
                pointer(variance),
                norm.training.into(),
                norm.momentum,
                norm.eps,
                out,
            )
        })
    }

    /// `group_norm` over `groups` channel groups.
    pub fn group_norm(&self, groups: i64, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Self> {
        wrap("group_norm", self.0.f_group_norm(groups, Some(&weight.0), Some(&bias.0), eps, true))
    }

    /// max(x, 0).
    pub fn relu(&self) -> Result<Self> {
        wrap("relu", self.0.f_relu())
    }

    /// max(x, 0) in place.
    pub fn relu_(&self) -> Result<Self> {
        wrap("relu_", self.0.shallow_clone().f_relu_())
    }

    /// 2x2 max pooling with stride 2.
    pub fn max_pool2(&self) -> Result<Self> {
        wrap("max_pool2d", self.0.f_max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false))
    }

    /// Max pooling over `kernel` x `kernel` windows.
    pub fn max_pool2d(&self, kernel: i64, stride: i64, padding: i64) -> Result<Self> {
        let pair = |n| [n, n];
        wrap("max_pool2d", self.0.f_max_pool2d(pair(kernel), pair(stride), pair(padding), [1, 1], false))
    }

    /// `[B, C, H, W]` to `[B, C, times H, times W]` by repeating pixels (`torch.nn.functional.interpolate`, mode nearest). The
    /// gradient stays in channels_last order, which libtorch's own does not on the CPU.
    pub fn repeat_pixels(&self, times: i64) -> Result<Self> {
        // SAFETY: a live tensor and a valid out-parameter.
        Self::from_shim("upsample_nearest2d", |out| unsafe {
            ffi::fb_repeat_pixels(self.pointer(), times, out)
        })
    }

    /// Bilinear resize to (height, width).
    pub fn upsample_bilinear(&self, height: i64, width: i64, align_corners: bool) -> Result<Self> {
        wrap("upsample_bilinear2d", self.0.f_upsample_bilinear2d([height, width], align_corners, None, None))
    }

    /// Bilinear samples (`grid_sample`, half-pixel convention) of `self` `[B, C, H, W]` at `grid` `[B, h, w, 2]`, x before
    /// y, where -1 and 1 are the outer pixel edges: `[B, C, h, w]`, row-major. Points that are no numbers give some pixel.
    pub fn grid_sample(&self, grid: &Tensor, outside: Outside) -> Result<Self> {
        let (bilinear, outside) = (
            0,
            match outside {
                Outside::Edge => 1,
                Outside::Mirrored => 2,
            },
        );
        wrap("grid_sampler_2d", self.0.f_grid_sampler_2d(&grid.0, bilinear, outside, false))
    }

    /// Pads the last two dimensions by repeating the outermost elements.
    pub fn pad2d_edge(&self, left: i64, right: i64, top: i64, bottom: i64) -> Result<Self> {
        wrap("replication_pad2d", self.0.f_replication_pad2d([left, right, top, bottom]))
    }

    /// Each channel of `self` `[B, C, H, W]` convolved with a kernel of its own from `weight` `[C, 1, kh, kw]`, unpadded.
    pub fn conv2d_depthwise(&self, weight: &Tensor) -> Result<Self> {
        let groups = weight.0.size()[0];
        wrap("conv2d", self.0.f_conv2d(&weight.0, None::<&tch::Tensor>, [1, 1], [0, 0], [1, 1], groups))
    }

    /// Pads the last two dimensions with zeros.
    pub fn pad2d(&self, left: i64, right: i64, top: i64, bottom: i64) -> Result<Self> {
        wrap("constant_pad_nd", self.0.f_constant_pad_nd([left, right, top, bottom]))
    }

    /// 1 / (1 + e^-x).
    pub fn sigmoid(&self) -> Result<Self> {
        wrap("sigmoid", self.0.f_sigmoid())
    }

    /// Softmax over a dimension, in f32.
    pub fn softmax(&self, dim: i64) -> Result<Self> {
        wrap("softmax", self.0.f_softmax(dim, Kind::Float))
    }

    /// Logarithm of the softmax over a dimension, in f32.
    pub fn log_softmax(&self, dim: i64) -> Result<Self> {
        wrap("log_softmax", self.0.f_log_softmax(dim, Kind::Float))
    }

    /// Binary cross entropy of logits, element by element. `weight` multiplies each element's loss, `pos_weight` (0-dim)
    /// the part that pulls towards 1.
    pub fn bce_with_logits(
        &self,
        target: &Tensor,
        weight: Option<&Tensor>,
        pos_weight: Option<&Tensor>,
    ) -> Result<Self> {
        wrap(
            "binary_cross_entropy_with_logits",
            self.0.f_binary_cross_entropy_with_logits(
                &target.0,
                inner(weight),
                inner(pos_weight),
                tch::Reduction::None,
            ),
        )
    }

    /// Cross entropy of each pixel. `self` `[B, C, H, W]` logits, `target` `[B, H, W]` i64; pixels whose target is
    /// `ignore_index` give 0.
    pub fn cross_entropy(&self, target: &Tensor, ignore_index: i64) -> Result<Self> {
        self.cross_entropy_reduced(target, ignore_index, tch::Reduction::None)
    }

    /// Sum over pixels of [`Tensor::cross_entropy`].
    pub fn cross_entropy_sum(&self, target: &Tensor, ignore_index: i64) -> Result<Self> {
        self.cross_entropy_reduced(target, ignore_index, tch::Reduction::Sum)
    }

    fn cross_entropy_reduced(
        &self,
        target: &Tensor,
        ignore_index: i64,
        reduction: tch::Reduction,
    ) -> Result<Self> {
        let weight = None::<&tch::Tensor>;
        wrap("cross_entropy", self.0.f_cross_entropy_loss(&target.0, weight, reduction, ignore_index, 0.0))
    }
}
