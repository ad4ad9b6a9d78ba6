//! What steps leave on the device until the host looks.

use fullbore_torch::{Device, Kind, Tensor};

use crate::checkpoint::Progress;
use crate::step::StepDone;

/// Losses since the last log point, summed on the device.
pub(crate) struct LogWindow {
    loss_sum: Tensor,
    grad_norm: Option<Tensor>,
    steps: u64,
    samples: u64,
    /// Mean loss of the last reading; NaN before the first.
    pub(crate) last_loss: f64,
    /// See [`LogReading::non_finite_points`].
    pub(crate) non_finite_points: u32,
}

/// What the steps since the last log point came to.
pub(crate) struct LogReading {
    /// Mean loss.
    pub(crate) loss: f64,
    /// Gradient norm of the last step.
    pub(crate) grad_norm: f64,
    pub(crate) samples: u64,
    /// Log points in a row, this one included, with a loss or gradient that is not finite.
    pub(crate) non_finite_points: u32,
}

impl LogWindow {
    pub(crate) fn new(device: Device) -> fullbore_torch::Result<Self> {
        let loss_sum = Tensor::zeros(&[], Kind::Float, device)?;
        Ok(Self {
            loss_sum,
            grad_norm: None,
            steps: 0,
            samples: 0,
            last_loss: f64::NAN,
            non_finite_points: 0,
        })
    }

    pub(crate) fn add(&mut self, done: StepDone, samples: usize) -> fullbore_torch::Result<()> {
        self.loss_sum.add_(&done.loss)?;
        self.grad_norm = Some(done.grad_norm);
        self.steps += 1;
        self.samples += samples as u64;
        Ok(())
    }

    /// Makes the host wait for the device. `None` when there was no step since the last reading.
    pub(crate) fn read(&mut self) -> fullbore_torch::Result<Option<LogReading>> {
        let Some(grad_norm) = self.grad_norm.take() else { return Ok(None) };
        let loss = self.loss_sum.item()? / self.steps as f64;
        let grad_norm = grad_norm.item()?;
        self.loss_sum.fill_(0.0)?;
        let finite = loss.is_finite() && grad_norm.is_finite();
        self.non_finite_points = if finite { 0 } else { self.non_finite_points + 1 };
        self.last_loss = loss;
        let samples = std::mem::take(&mut self.samples);
        self.steps = 0;
        Ok(Some(LogReading { loss, grad_norm, samples, non_finite_points: self.non_finite_points }))
    }

    /// False when the last reading held a number that is none.
    pub(crate) fn is_finite(&self) -> bool {
        self.non_finite_points == 0
    }

    /// Epoch of the step just done: the position names the next batch.
    pub(crate) fn epoch(&self, progress: &Progress, steps_per_epoch: u64) -> u64 {
        progress.step.saturating_sub(1) / steps_per_epoch.max(1)
    }
}
