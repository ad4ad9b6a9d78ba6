//! `torch.optim.AdamW(fused=True)` with gradient clipping inside the step.

use fullbore_torch::{AdamWStep, Kind, Result, Tensor, TensorList, adamw_step};
use serde::{Deserialize, Serialize};

use crate::Params;

/// The `optimizer` part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which optimizer.
    pub name: OptimizerName,
    /// Peak learning rate; the schedule scales it.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rates of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Largest global gradient norm; `None`: no clipping.
    pub clip: Option<f64>,
}

/// The optimizers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// [`AdamW`].
    Adamw,
}

/// AdamW and its moments. All memory exists from the start: an update cannot run out of it.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerConfig,
    names: Vec<String>,
    params: TensorList,
    exp_avgs: TensorList,
    exp_avg_sqs: TensorList,
    step: Tensor,
}

impl AdamW {
    /// An optimizer of all parameters.
    pub fn new(params: &Params, config: OptimizerConfig) -> Result<Self> {
        let list = params.parameter_list()?;
        Ok(Self {
            config,
            names: params.parameters().map(|(name, _)| name.to_string()).collect(),
            exp_avgs: list.zeros_like()?,
            exp_avg_sqs: list.zeros_like()?,
            step: Tensor::zeros(&[], Kind::Float, params.device())?,
            params: list,
        })
    }

    /// Updates the parameters from their gradients with learning rate `lr`. Returns the gradient norm before
    /// clipping, 0-dim on the device. A norm that is not finite leaves weights and moments as they were.
    pub fn step(&self, lr: f64) -> Result<Tensor> {
        let OptimizerConfig { weight_decay, betas, eps, clip, .. } = self.config;
        let settings = AdamWStep { lr, betas, weight_decay, eps, max_norm: clip };
        adamw_step(&self.params, &self.exp_avgs, &self.exp_avg_sqs, &self.step, settings)
    }

    /// Forgets the gradients (`zero_grad(set_to_none=True)`).
    pub fn drop_grads(&self) -> Result<()> {
        self.params.drop_grads()
    }

    /// Names and tensors of the optimizer's state: `exp_avg.NAME`, `exp_avg_sq.NAME`, `step`; storage shared, so
    /// copying into them restores a state.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = vec![("step".to_string(), self.step.clone())];
        for (i, name) in self.names.iter().enumerate() {
            state.push((format!("exp_avg.{name}"), self.exp_avgs.get(i)?));
            state.push((format!("exp_avg_sq.{name}"), self.exp_avg_sqs.get(i)?));
        }
        Ok(state)
    }
}
