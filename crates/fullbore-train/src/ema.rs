//! Exponential moving average of weights and buffers, `e = d e + (1 - d) p` after every step.

use fullbore_nn::Params;
use fullbore_nn::params::Entry;
use fullbore_torch::{Result, Tensor, TensorList};
use serde::{Deserialize, Serialize};

/// The `ema` part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// Share of the old average that a step keeps; `None`: no average.
    pub decay: Option<f64>,
    /// Keep less at first: `min(decay, (1 + t) / (10 + t))` at step `t`, so that the initial weights are forgotten soon.
    pub warmup: bool,
}

impl EmaConfig {
    /// Share of the old average that step `t` keeps, counted from 1.
    fn keeps(self, decay: f64, t: u64) -> f64 {
        if self.warmup { decay.min((1 + t) as f64 / (10 + t) as f64) } else { decay }
    }
}

/// The average, and room to put the raw weights aside while it is evaluated: all memory exists from the start.
#[derive(Debug)]
pub struct Ema {
    config: EmaConfig,
    decay: f64,
    names: Vec<String>,
    raw: TensorList,
    average: TensorList,
    aside: TensorList,
}

impl Ema {
    /// An average that begins at the present weights; `None` when `config` wants none.
    pub fn new(params: &Params, config: EmaConfig) -> Result<Option<Self>> {
        let Some(decay) = config.decay else { return Ok(None) };
        let (names, tensors): (Vec<_>, Vec<_>) = params
            .entries()
            .filter_map(|(name, entry)| match entry {
                Entry::Parameter(tensor) | Entry::Buffer(tensor) => Some((name.to_string(), tensor)),
                Entry::Counter(_) => None,
            })
            .unzip();
        let raw = TensorList::new(tensors)?;
        Ok(Some(Self { config, decay, names, average: raw.copy()?, aside: raw.copy()?, raw }))
    }

    /// Moves the average towards the present weights after step `t` of the run, counted from 1. Nothing moves where the
    /// 0-dim tensor `unless` is 1; the device decides, the host does not wait.
    pub fn update(&self, t: u64, unless: &Tensor) -> Result<()> {
        self.average.lerp_(&self.raw, 1.0 - self.config.keeps(self.decay, t), Some(unless))
    }

    /// Begins the average anew at the present weights.
    pub fn restart(&self) -> Result<()> {
        self.average.copy_(&self.raw)
    }

    /// Runs `work` with the averaged weights in the model, then puts the raw ones back, also after an error.
    pub fn with_average<T, E: From<fullbore_torch::Error>>(
        &self,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        self.aside.copy_(&self.raw)?;
        self.raw.copy_(&self.average)?;
        let result = work();
        self.raw.copy_(&self.aside)?;
        result
    }

    /// Names and tensors of the average, storage shared.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        self.names.iter().enumerate().map(|(i, name)| Ok((name.clone(), self.average.get(i)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use fullbore_torch::{Device, Kind};

    use super::*;

    #[test]
    fn the_warm_up_keeps_less_until_the_decay_is_reached() {
        let config = EmaConfig { decay: Some(0.9), warmup: true };
        // (1 + t) / (10 + t) is 2/11, 0.9 after 80 steps.
        for (t, share) in [(1, 2.0 / 11.0), (10, 11.0 / 20.0), (79, 80.0 / 89.0), (80, 0.9), (1000, 0.9)] {
            assert!((config.keeps(0.9, t) - share).abs() < 1e-15, "{t}");
        }
        assert_eq!(EmaConfig { warmup: false, ..config }.keeps(0.9, 1), 0.9);
    }

    #[test]
    fn the_average_follows_the_weights_but_for_steps_that_do_not_count() {
        fullbore_torch::start();
        let mut params = Params::new(Device::Cpu);
        let start = Tensor::from_slice(&[1.0f32, 2.0]).unwrap();
        let weight = params.root().parameter("weight", &start).unwrap();
        let ema = Ema::new(&params, EmaConfig { decay: Some(0.75), warmup: false }).unwrap().unwrap();
        let average = ema.state().unwrap().remove(0).1;
        weight.detach().unwrap().fill_(5.0).unwrap();
        let flag = Tensor::ones(&[], Kind::Float, Device::Cpu).unwrap();
        ema.update(1, &flag).unwrap();
        assert_eq!(average.to_vec_f32().unwrap(), [1.0, 2.0]);
        flag.fill_(0.0).unwrap();
        ema.update(2, &flag).unwrap();
        assert_eq!(average.to_vec_f32().unwrap(), [2.0, 2.75]);

        let inside = ema.with_average(|| weight.to_vec_f32()).unwrap();
        assert_eq!((inside, weight.to_vec_f32().unwrap()), (vec![2.0, 2.75], vec![5.0, 5.0]));
    }
}
