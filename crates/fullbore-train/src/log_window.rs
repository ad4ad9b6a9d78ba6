//! What steps leave on the device until the host looks.

use fullbore_torch::{Device, Gate, Kind, Tensor};

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
    /// Steps that changed nothing, in all, at the last reading.
    skipped: u64,
    /// Such steps in a row, up to the last reading.
    pub(crate) skipped_in_row: u64,
    scaled: bool,
}

/// What the steps since the last log point came to.
pub(crate) struct LogReading {
    /// Mean loss.
    pub(crate) loss: f64,
    /// Gradient norm of the last step.
    pub(crate) grad_norm: f64,
    pub(crate) samples: u64,
    /// Steps since the last log point that changed nothing, because loss or gradient was not finite.
    pub(crate) skipped: u64,
    /// Such steps in a row, up to this log point.
    pub(crate) skipped_in_row: u64,
}

impl LogWindow {
    /// Before the first step, or after the steps that `gate` has counted. Makes the host wait for the device.
    pub(crate) fn new(device: Device, gate: &Gate) -> fullbore_torch::Result<Self> {
        let loss_sum = Tensor::zeros(&[], Kind::Float, device)?;
        Ok(Self {
            loss_sum,
            grad_norm: None,
            steps: 0,
            samples: 0,
            last_loss: f64::NAN,
            skipped: gate.skipped.item()? as u64,
            skipped_in_row: 0,
            scaled: gate.scaler.is_some(),
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
    pub(crate) fn read(&mut self, gate: &Gate) -> fullbore_torch::Result<Option<LogReading>> {
        let Some(grad_norm) = self.grad_norm.take() else { return Ok(None) };
        let loss = self.loss_sum.item()? / self.steps as f64;
        let grad_norm = grad_norm.item()?;
        self.loss_sum.fill_(0.0)?;
        let skipped_before = std::mem::replace(&mut self.skipped, gate.skipped.item()? as u64);
        self.skipped_in_row = gate.skipped_in_row.item()? as u64;
        self.last_loss = loss;
        let samples = std::mem::take(&mut self.samples);
        self.steps = 0;
        Ok(Some(LogReading {
            loss,
            grad_norm,
            samples,
            skipped: self.skipped.saturating_sub(skipped_before),
            skipped_in_row: self.skipped_in_row,
        }))
    }

    /// Whether the weights are worth keeping: the last step counted, or it was one that a loss scale makes fail.
    pub(crate) fn is_finite(&self) -> bool {
        self.skipped_in_row == 0 || (self.scaled && self.last_loss.is_finite())
    }

    /// Epoch of the step just done: the position names the next batch.
    pub(crate) fn epoch(&self, progress: &Progress, steps_per_epoch: u64) -> u64 {
        progress.step.saturating_sub(1) / steps_per_epoch.max(1)
    }
}

#[cfg(test)]
mod tests {
    use fullbore_torch::count_host_reads;

    use super::*;

    #[test]
    fn steps_stay_on_the_device_until_the_log_point() {
        fullbore_torch::start();
        let gate = Gate::new(Device::Cpu, false).unwrap();
        let mut window = LogWindow::new(Device::Cpu, &gate).unwrap();
        let of = |value| {
            let tensor = Tensor::ones(&[], Kind::Float, Device::Cpu).unwrap();
            tensor.fill_(value).unwrap();
            tensor
        };
        let steps = [1.0, 2.0, 6.0].map(|loss| StepDone { loss: of(loss), grad_norm: of(0.5) });
        let ((), seen) =
            count_host_reads(|| steps.into_iter().try_for_each(|done| window.add(done, 4))).unwrap();
        assert_eq!((seen.values, seen.copies), (0, 0));
        let (reading, seen) = count_host_reads(|| window.read(&gate)).unwrap();
        let reading = reading.unwrap();
        assert_eq!((reading.loss, reading.grad_norm, reading.samples), (3.0, 0.5, 12));
        assert_eq!(seen.values, 4);
    }
}
