//! The module that HRNet's stages repeat: branches side by side, then joined.

use fullbore_torch::{Result, Tensor};

use super::Head;
use crate::Scope;
use crate::layers::conv_norm::{ConvNorm, Style};
use crate::layers::recompute::Recomputable;
use crate::layers::residual::{Residual, ResidualKind};

/// Residual blocks on every branch, then every branch joined into every target.
#[derive(Debug)]
pub(super) struct Module {
    branches: Vec<Recomputable<Vec<Residual>>>,
    fuses: Vec<Recomputable<Fuse>>,
}

impl Module {
    /// Branches of `widths` channels; the first `targets` of them go on. Keys `branches.B.K`, `fuse_layers.I.J`.
    pub(super) fn new(
        mut scope: Scope<'_>,
        widths: &[i64],
        blocks: usize,
        targets: usize,
        head: Head,
        style: &Style,
    ) -> Result<Self> {
        let mut branches = Vec::with_capacity(widths.len());
        for (i, &width) in widths.iter().enumerate() {
            branches.push(Recomputable::new(scope.sub(format!("branches.{i}")), |mut scope| {
                (0..blocks)
                    .map(|k| Residual::new(scope.sub(k), ResidualKind::Basic, width, width, 1, style))
                    .collect()
            })?);
        }
        let fuses = (0..targets)
            .map(|target| {
                let scope = scope.sub(format!("fuse_layers.{target}"));
                Recomputable::new(scope, |scope| Fuse::new(scope, widths, target, head, style))
            })
            .collect::<Result<_>>()?;
        Ok(Self { branches, fuses })
    }

    /// Branches, finest first, to those that go on.
    pub(super) fn forward(&self, mut branches: Vec<Tensor>) -> Result<Vec<Tensor>> {
        for (blocks, x) in self.branches.iter().zip(&mut branches) {
            *x = blocks.forward([x], |blocks, [x]| {
                blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x))
            })?;
        }
        self.fuses
            .iter()
            .map(|fuse| match branches.as_slice() {
                [a, b] => fuse.forward([a, b], |fuse, branches| fuse.forward(branches)),
                [a, b, c] => fuse.forward([a, b, c], |fuse, branches| fuse.forward(branches)),
                [a, b, c, d] => fuse.forward([a, b, c, d], |fuse, branches| fuse.forward(branches)),
                _ => unreachable!("stages have two to four branches"),
            })
            .collect()
    }
}

/// The sum of all branches at the resolution and width of one of them, then ReLU.
#[derive(Clone, Debug)]
struct Fuse {
    target: usize,
    terms: Vec<Term>,
}

/// How a branch comes to the target's resolution and width.
#[derive(Clone, Debug)]
enum Term {
    Same,
    Finer { conv: ConvNorm, factor: i64, head: Head },
    Coarser(Vec<ConvNorm>),
}

impl Fuse {
    fn new(mut scope: Scope<'_>, widths: &[i64], target: usize, head: Head, style: &Style) -> Result<Self> {
        let to = widths[target];
        let mut terms = Vec::with_capacity(widths.len());
        for (source, &from) in widths.iter().enumerate() {
            let mut scope = scope.sub(source);
            terms.push(if source == target {
                Term::Same
            } else if source > target {
                let conv = ConvNorm::new(scope, ["0", "1"], [from, to], 1, 1, style)?;
                Term::Finer { conv, factor: 1 << (source - target), head }
            } else {
                let steps = target - source;
                let step = |k| {
                    let to = if k + 1 == steps { to } else { from };
                    ConvNorm::new(scope.sub(k), ["0", "1"], [from, to], 3, 2, style)
                };
                Term::Coarser((0..steps).map(step).collect::<Result<_>>()?)
            });
        }
        Ok(Self { target, terms })
    }

    /// Every term but the target's own branch is new memory: the sum is made in the first of them.
    fn forward(&self, branches: &[Tensor]) -> Result<Tensor> {
        let first = usize::from(self.target == 0);
        let sum = self.terms[first].forward(&branches[first])?;
        for (i, (term, x)) in self.terms.iter().zip(branches).enumerate() {
            if i != first {
                sum.add_(&term.forward(x)?)?;
            }
        }
        sum.relu_()
    }
}

impl Term {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Term::Same => Ok(x.clone()),
            Term::Finer { conv, factor, head } => {
                let x = conv.forward(x)?;
                let size = x.size();
                match head {
                    Head::Concatenated => x.upsample_bilinear(factor * size[2], factor * size[3], false),
                    Head::Pose => x.repeat_pixels(*factor),
                }
            }
            Term::Coarser(convs) => {
                let (last, first) = convs.split_last().expect("a coarser branch is at least one step away");
                let x = first.iter().try_fold(x.clone(), |x, conv| conv.forward_relu(&x))?;
                last.forward(&x)
            }
        }
    }
}
