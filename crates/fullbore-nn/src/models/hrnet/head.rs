//! What makes maps of HRNet's branches.

use fullbore_torch::{Result, Tensor};

use super::Head;
use crate::Scope;
use crate::layers::conv::{Conv2d, ConvConfig};
use crate::layers::conv_norm::Style;
use crate::layers::norm::Norm;
use crate::layers::recompute::Recomputable;

/// Branches to maps.
#[derive(Debug)]
pub(super) enum HeadLayers {
    Concatenated(Recomputable<Concatenated>),
    Pose(Conv2d),
}

/// All branches at the finest resolution, side by side: 1x1 convolution, normalisation, ReLU, 1x1 convolution.
#[derive(Clone, Debug)]
pub(super) struct Concatenated {
    first: Conv2d,
    norm: Norm,
    last: Conv2d,
}

impl HeadLayers {
    /// Keys `head.0`, `head.1` and `head.3`, or `final_layer`.
    pub(super) fn new(
        mut scope: Scope<'_>,
        head: Head,
        widths: &[i64],
        out: i64,
        style: &Style,
    ) -> Result<Self> {
        let conv = ConvConfig { kernel: 1, stride: 1, bias: true, init: style.init };
        Ok(match head {
            Head::Pose => HeadLayers::Pose(Conv2d::new(scope.sub("final_layer"), widths[0], out, conv)?),
            Head::Concatenated => {
                let all = widths.iter().sum();
                HeadLayers::Concatenated(Recomputable::new(scope.sub("head"), |mut scope| {
                    Ok(Concatenated {
                        first: Conv2d::new(scope.sub(0), all, all, conv)?,
                        norm: Norm::new(scope.sub(1), all, &style.norm, style.momentum)?,
                        last: Conv2d::new(scope.sub(3), all, out, conv)?,
                    })
                })?)
            }
        })
    }

    /// Branches, finest first, to maps at the finest resolution.
    pub(super) fn forward(&self, branches: &[Tensor]) -> Result<Tensor> {
        match (self, branches) {
            (HeadLayers::Pose(conv), [finest, ..]) => conv.forward(finest),
            (HeadLayers::Concatenated(head), [a, b, c, d]) => {
                head.forward([a, b, c, d], |head, branches| head.forward(branches))
            }
            _ => unreachable!("the last stage gives one branch to the pose head, four to the other"),
        }
    }
}

impl Concatenated {
    fn forward(&self, branches: &[Tensor; 4]) -> Result<Tensor> {
        let [finest, coarser @ ..] = branches;
        let size = finest.size();
        let mut all = vec![finest.clone()];
        for x in coarser {
            all.push(x.upsample_bilinear(size[2], size[3], false)?);
        }
        let x = Tensor::cat(&all.iter().collect::<Vec<_>>(), 1)?;
        drop(all);
        let x = self.norm.forward_relu(&self.first.forward(&x)?, None)?;
        self.last.forward(&x)
    }
}
