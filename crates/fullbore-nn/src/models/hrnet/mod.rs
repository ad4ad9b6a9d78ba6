//! HRNet: branches of several resolutions side by side, joined again and again (Deep High-Resolution Representation
//! Learning, 2019). State-dict keys are those that all its code bases share; the heads are the facial landmark network's
//! and the pose network's.

mod head;
mod module;

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Family, Model, ModelConfig, ModelSize};
use crate::Scope;
use crate::layers::conv::Init;
use crate::layers::conv_norm::{ConvNorm, Style};
use crate::layers::norm::{BatchNorm2d, NormConfig};
use crate::layers::recompute::Recomputable;
use crate::layers::residual::{Residual, ResidualKind};
use head::HeadLayers;
use module::Module;

pub(super) const FAMILY: Family = Family {
    keys: &["model.width", "model.head"],
    check: |_| Ok(()),
    build: |scope, config, channels, norm| Ok(Box::new(HrNet::new(scope, config, channels, norm)?)),
    side_multiple: |_| 32,
    heads: &["head.3", "final_layer"],
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

/// Adds a branch of half the resolution of the coarsest one. The first time, the only branch gets its width too.
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
