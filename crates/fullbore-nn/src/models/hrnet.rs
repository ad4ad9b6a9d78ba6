//! HRNet: branches of several resolutions side by side, joined again and again (Deep High-Resolution Representation
//! Learning, 2019). State-dict keys are those that all its code bases share; the heads are the facial landmark network's
//! and the pose network's.

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Family, Model, ModelConfig, ModelSize};
use crate::Scope;
use crate::layers::conv::{Conv2d, ConvConfig, Init};
use crate::layers::conv_norm::{ConvNorm, Style};
use crate::layers::norm::{BatchNorm2d, Norm, NormConfig};
use crate::layers::recompute::Recomputable;
use crate::layers::residual::{Residual, ResidualKind};

pub(super) const FAMILY: Family = Family {
    keys: &["model.width", "model.head"],
    check: |_| Ok(()),
    build: |scope, config, channels, norm| Ok(Box::new(HrNet::new(scope, config, channels, norm)?)),
    side_multiple: |_| 32,
    output_stride: 4,
};

/// Which HRNet: the channels of its finest branch, or one of the two small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Width {
    /// 18 channels.
    W18,
    /// 32 channels.
    W32,
    /// 48 channels.
    W48,
    /// 16 channels, one module in each stage.
    SmallV1,
    /// 18 channels, fewer modules and blocks than [`Width::W18`].
    SmallV2,
}

/// What makes maps of the branches, and how coarse branches join finer ones inside the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// All branches, side by side at the finest resolution: the facial landmark network. Joins are bilinear.
    Concatenated,
    /// The finest branch alone: the pose network. Joins repeat pixels.
    Pose,
}

/// The numbers of a [`Width`].
struct Shape {
    channels: i64,
    first_planes: i64,
    first_blocks: usize,
    /// Modules of stages 2, 3 and 4.
    modules: [usize; 3],
    /// Residual blocks of a branch of a module.
    blocks: usize,
}

impl Width {
    fn shape(self) -> Shape {
        let full =
            |channels| Shape { channels, first_planes: 64, first_blocks: 4, modules: [1, 4, 3], blocks: 4 };
        match self {
            Width::W18 => full(18),
            Width::W32 => full(32),
            Width::W48 => full(48),
            Width::SmallV1 => {
                Shape { first_planes: 32, first_blocks: 1, modules: [1, 1, 1], blocks: 2, ..full(16) }
            }
            Width::SmallV2 => Shape { first_blocks: 2, modules: [1, 3, 2], blocks: 2, ..full(18) },
        }
    }
}

/// Stem to stride 4, one stage at that resolution, three stages that each add a branch of half the resolution, head.
#[derive(Debug)]
pub struct HrNet {
    stem: [Recomputable<ConvNorm>; 2],
    first: Vec<Recomputable<Residual>>,
    stages: Vec<Stage>,
    head: HeadLayers,
}

impl HrNet {
    /// Builds the network from `channels[0]` to `channels[1]`. Keys: `conv1`, `bn1`, `conv2`, `bn2`, `layer1`,
    /// `transition1..3`, `stage2..4`, and `head` or `final_layer`.
    pub fn new(
        mut scope: Scope<'_>,
        config: &ModelConfig,
        channels: [i64; 2],
        norm: &NormConfig,
    ) -> Result<Self> {
        let head = config.head.unwrap_or(Head::Concatenated);
        let width = config.width.unwrap_or(match config.size {
            ModelSize::Small => Width::W18,
            ModelSize::Base => Width::W32,
            ModelSize::Large => Width::W48,
        });
        let shape = width.shape();
        let momentum = match head {
            Head::Concatenated => 0.01,
            Head::Pose => BatchNorm2d::MOMENTUM,
        };
        let style = Style { init: Init::Normal(0.001), norm: *norm, momentum };

        let mut stem = |keys, channels| {
            Recomputable::new(scope.here(), |scope| ConvNorm::new(scope, keys, channels, 3, 2, &style))
        };
        let stem = [stem(["conv1", "bn1"], [channels[0], 64])?, stem(["conv2", "bn2"], [64, 64])?];
        let kind = ResidualKind::Bottleneck;
        let mut from = 64;
        let mut first = Vec::with_capacity(shape.first_blocks);
        for i in 0..shape.first_blocks {
            first.push(Recomputable::new(scope.sub(format!("layer1.{i}")), |scope| {
                Residual::new(scope, kind, from, shape.first_planes, 1, &style)
            })?);
            from = kind.channels(shape.first_planes);
        }
        let mut widths = vec![from];
        let mut stages = Vec::with_capacity(shape.modules.len());
        for (i, modules) in shape.modules.into_iter().enumerate() {
            let wanted: Vec<i64> = (0..i + 2).map(|branch| shape.channels << branch).collect();
            let transition = Transition::new(scope.here(), &widths, &wanted, &style)?;
            let modules = (0..modules).map(|module| {
                let is_last = i + 1 == shape.modules.len() && module + 1 == modules;
                let targets = if head == Head::Pose && is_last { 1 } else { wanted.len() };
                let scope = scope.sub(format!("stage{}.{module}", i + 2));
                Module::new(scope, &wanted, shape.blocks, targets, head, &style)
            });
            stages.push(Stage { transition, modules: modules.collect::<Result<_>>()? });
            widths = wanted;
        }
        let head = HeadLayers::new(scope, head, &widths, channels[1], &style)?;
        Ok(Self { stem, first, stages, head })
    }
}

impl Model for HrNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for conv in &self.stem {
            x = conv.forward([&x], |conv, [x]| conv.forward_relu(x))?;
        }
        for block in &self.first {
            x = block.forward([&x], |block, [x]| block.forward(x))?;
        }
        let mut branches = vec![x];
        for stage in &self.stages {
            branches = stage.transition.forward(branches)?;
            for module in &stage.modules {
                branches = module.forward(branches)?;
            }
        }
        self.head.forward(&branches)
    }
}

#[derive(Debug)]
struct Stage {
    transition: Transition,
    modules: Vec<Module>,
}

/// Adds a branch of half the resolution of the coarsest one; the first time, the branch that there is gets its width too.
#[derive(Debug)]
struct Transition {
    first: Option<Recomputable<ConvNorm>>,
    down: Recomputable<ConvNorm>,
}

impl Transition {
    /// From branches of the channels `have` to `wanted`, which is one longer. Keys `transitionN.0` (the first time) and
    /// `transitionN.N.0`.
    fn new(mut scope: Scope<'_>, have: &[i64], wanted: &[i64], style: &Style) -> Result<Self> {
        let number = have.len();
        let mut scope = scope.sub(format!("transition{number}"));
        let mut conv = |name: String, from, to, stride| {
            Recomputable::new(scope.sub(name), |scope| {
                ConvNorm::new(scope, ["0", "1"], [from, to], 3, stride, style)
            })
        };
        let first = if number == 1 { Some(conv("0".into(), have[0], wanted[0], 1)?) } else { None };
        let down = conv(format!("{number}.0"), have[number - 1], wanted[number], 2)?;
        Ok(Self { first, down })
    }

    fn forward(&self, mut branches: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let coarsest = &branches[branches.len() - 1];
        let added = self.down.forward([coarsest], |conv, [x]| conv.forward_relu(x))?;
        if let Some(first) = &self.first {
            branches[0] = first.forward([&branches[0]], |conv, [x]| conv.forward_relu(x))?;
        }
        branches.push(added);
        Ok(branches)
    }
}

/// Residual blocks on every branch, then every branch joined into every target.
#[derive(Debug)]
struct Module {
    branches: Vec<Recomputable<Vec<Residual>>>,
    fuses: Vec<Recomputable<Fuse>>,
}

impl Module {
    /// Branches of `widths` channels; the first `targets` of them go on. Keys `branches.B.K`, `fuse_layers.I.J`.
    fn new(
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

    fn forward(&self, mut branches: Vec<Tensor>) -> Result<Vec<Tensor>> {
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
                let (height, width) = (factor * size[2], factor * size[3]);
                match head {
                    Head::Concatenated => x.upsample_bilinear(height, width, false),
                    Head::Pose => x.upsample_nearest(height, width),
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

#[derive(Debug)]
enum HeadLayers {
    Concatenated(Recomputable<Concatenated>),
    Pose(Conv2d),
}

/// All branches at the finest resolution, one on top of the other: 1x1 convolution, normalisation, ReLU, 1x1 convolution.
#[derive(Clone, Debug)]
struct Concatenated {
    first: Conv2d,
    norm: Norm,
    last: Conv2d,
}

impl HeadLayers {
    /// Keys `head.0`, `head.1` and `head.3`, or `final_layer`.
    fn new(mut scope: Scope<'_>, head: Head, widths: &[i64], out: i64, style: &Style) -> Result<Self> {
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

    fn forward(&self, branches: &[Tensor]) -> Result<Tensor> {
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
        let x = self.norm.forward(&self.first.forward(&x)?)?.relu_()?;
        self.last.forward(&x)
    }
}
