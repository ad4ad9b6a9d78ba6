//! Forward and backward over one micro-batch: what a step repeats, and what a graph records.

use std::rc::Rc;

use fullbore_feed::{HeatmapBatch, MicroBatch, MicroTargets};
use fullbore_nn::losses::{HeatmapLossConfig, HeatmapTargets, LossConfig, StepTotals};
use fullbore_nn::models::Model;
use fullbore_torch::{Autocast, Device, Error, Gate, Kind, Result, Tensor};

/// Network, loss and loss scale: all of a step that is the same for every micro-batch.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    pub(crate) model: Rc<dyn Model>,
    pub(crate) device: Device,
    /// Lower precision of convolutions, `None` for fp32.
    pub(crate) precision: Option<Kind>,
    pub(crate) loss: LossConfig,
    /// Resolutions of masks that have a loss.
    pub(crate) levels: usize,
    pub(crate) gate: Gate,
}

/// A micro-batch, and what its loss is a share of.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) batch: MicroBatch,
    pub(crate) totals: Totals,
}

/// What the shares of a step are shares of.
#[derive(Clone, Debug)]
pub(crate) enum Totals {
    /// Labelled pixels.
    Masks(StepTotals),
    /// Weights of all landmarks, 0-dim f32.
    Landmarks(HeatmapLossConfig, Tensor),
}

impl Pass {
    /// Forward: the share of the micro-batch in the step's loss, 0-dim f32.
    pub(crate) fn share(&self, input: &Input) -> Result<Tensor> {
        let images = &input.batch.images;
        match (&input.batch.targets, &input.totals) {
            (MicroTargets::Masks(masks), Totals::Masks(totals)) if self.levels > 1 => {
                self.loss.share_levels(&self.deep_logits(images)?, masks, totals)
            }
            (MicroTargets::Masks(masks), Totals::Masks(totals)) => {
                self.loss.share(&self.logits(images)?, masks, totals)
            }
            (
                MicroTargets::Heatmaps(HeatmapBatch { maps, points, weights }),
                Totals::Landmarks(loss, total),
            ) => {
                let (maps, points, weights) = (maps.clone(), points.clone(), weights.clone());
                loss.share(&self.logits(images)?, &HeatmapTargets { maps, points, weights }, total)
            }
            _ => Err(wrong_targets()),
        }
    }

    /// Backward: adds to the gradients.
    pub(crate) fn backward(&self, share: &Tensor) -> Result<()> {
        self.gate.scale_loss(share)?.backward()
    }

    /// Logits in f32 for network input, in the run's precision.
    pub(crate) fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let logits = {
            let _autocast = Autocast::new(self.device, self.precision)?;
            self.model.forward(images)?
        };
        logits.to_kind(Kind::Float)
    }

    /// The same at all levels that have a head, the finest first: for training alone.
    fn deep_logits(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let levels = {
            let _autocast = Autocast::new(self.device, self.precision)?;
            self.model.forward_levels(images)?
        };
        levels.iter().map(|logits| logits.to_kind(Kind::Float)).collect()
    }
}

impl Input {
    /// The same input in memory of its own.
    pub(crate) fn copy(&self) -> Result<Self> {
        let totals = match &self.totals {
            Totals::Masks(totals) => Totals::Masks(totals.copy()?),
            Totals::Landmarks(loss, total) => Totals::Landmarks(*loss, total.copy()?),
        };
        Ok(Self { batch: self.batch.copy()?, totals })
    }

    /// Writes another input of the same sizes into this one's memory.
    pub(crate) fn overwrite(&self, with: &Input) -> Result<()> {
        self.tensors().into_iter().zip(with.tensors()).try_for_each(|(old, new)| old.copy_(new))
    }

    /// All that is on the device.
    pub(crate) fn tensors(&self) -> Vec<&Tensor> {
        let mut tensors: Vec<_> = self.batch.tensors().collect();
        match &self.totals {
            Totals::Masks(totals) => tensors.extend(totals.tensors()),
            Totals::Landmarks(_, total) => tensors.push(total),
        }
        tensors
    }
}

/// The error of targets that the loss is not for.
pub(crate) fn wrong_targets() -> Error {
    Error::Invalid { op: "step".into(), message: "the loss is for another task than the data".into() }
}
