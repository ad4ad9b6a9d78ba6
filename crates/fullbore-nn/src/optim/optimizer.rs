//! An optimizer over a model's parameters: groups, state, one step.

use fullbore_torch::{
    Clip, Gate, Moments, Result, Tensor, TensorList, UpdateGroup, UpdateRule, optimizer_step,
};

use super::groups::{Group, Grouping, freeze};
use super::{OptimizerConfig, OptimizerName, SettingError};
use crate::Params;

/// Any of the optimizers and its state. All memory exists from the start: an update cannot run out of it.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    clip: Clip,
    groups: Vec<Group>,
    names: Vec<String>,
    params: TensorList,
    gate: Gate,
}

/// An optimizer's numbers and the state that it keeps for each parameter.
#[derive(Debug)]
enum Rule {
    Adam { decoupled: bool, betas: (f64, f64), eps: f64, exp_avgs: TensorList, exp_avg_sqs: TensorList },
    Sgd { momentum: f64, nesterov: bool, buffers: Option<TensorList> },
    RmsProp { alpha: f64, eps: f64, momentum: f64, square_avgs: TensorList, buffers: Option<TensorList> },
}

/// Why an optimizer cannot be made.
#[derive(Debug)]
pub enum OptimizerError {
    /// A setting does not fit the model.
    Setting(SettingError),
    /// libtorch.
    Torch(fullbore_torch::Error),
}

impl Optimizer {
    /// An optimizer of the parameters that no group of `config` freezes; the others stop asking for gradients. With
    /// `scaled` the loss is multiplied by [`Gate::scale_loss`], as fp16 wants it.
    ///
    /// # Errors
    /// A group that names no parameter; nothing left to train; no memory for the state.
    pub fn new(
        params: &Params,
        config: &OptimizerConfig,
        scaled: bool,
    ) -> std::result::Result<Self, OptimizerError> {
        let parameters: Vec<_> = params.parameters().collect();
        let sorts: Vec<_> =
            parameters.iter().map(|(name, tensor)| (*name, tensor.size().len() <= 1)).collect();
        let Grouping { order, groups } = Grouping::new(&sorts, config)?;
        freeze(params, config)?;
        let list = TensorList::new(order.iter().map(|&place| parameters[place].1))?;
        Ok(Self {
            rule: Rule::new(config, &list)?,
            clip: match (config.clip, config.clip_value) {
                (Some(norm), _) => Clip::Norm(norm),
                (None, Some(value)) => Clip::Value(value),
                (None, None) => Clip::Off,
            },
            groups,
            names: order.iter().map(|&place| parameters[place].0.to_string()).collect(),
            gate: Gate::new(params.device(), scaled)?,
            params: list,
        })
    }

    /// Updates the parameters from their gradients with learning rate `lr`. Returns the gradient norm before
    /// clipping, 0-dim on the device. A norm or `loss` (0-dim, without its scale) that is not finite leaves
    /// parameters and state as they were and is counted in [`Optimizer::gate`].
    pub fn step(&self, lr: f64, loss: &Tensor) -> Result<Tensor> {
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|group| UpdateGroup {
                end: group.end,
                lr: lr * group.lr_factor,
                weight_decay: group.weight_decay,
            })
            .collect();
        optimizer_step(&self.params, self.rule.as_update(), &groups, self.clip, loss, &self.gate)
    }

    /// Which steps counted, and the loss scale.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Forgets the gradients (`zero_grad(set_to_none=True)`).
    pub fn drop_grads(&self) -> Result<()> {
        self.params.drop_grads()
    }

    /// Sets the gradients that there are to zero; they stay where they are (`zero_grad(set_to_none=False)`).
    pub fn zero_grads(&self) -> Result<()> {
        self.params.zero_grads()
    }

    /// Names and tensors of the state, with PyTorch's words before each parameter's name: `exp_avg.NAME`,
    /// `exp_avg_sq.NAME`, `momentum_buffer.NAME`, `square_avg.NAME`; then `step`, the counts of skipped steps and the
    /// loss scale. Storage is shared, so copying into them restores a state.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let Gate { step, skipped_in_row, skipped, scaler, .. } = &self.gate;
        let mut state: Vec<(String, Tensor)> =
            [("step", step), ("skipped_in_row", skipped_in_row), ("skipped", skipped)]
                .into_iter()
                .chain(scaler.iter().flat_map(|s| [("scaler.scale", &s.scale), ("scaler.growth", &s.growth)]))
                .map(|(name, tensor)| (name.to_string(), tensor.clone()))
                .collect();
        for (word, list) in self.rule.lists() {
            for (i, name) in self.names.iter().enumerate() {
                state.push((format!("{word}.{name}"), list.get(i)?));
            }
        }
        Ok(state)
    }
}

impl Rule {
    fn new(config: &OptimizerConfig, params: &TensorList) -> Result<Self> {
        let zeros = || params.zeros_like();
        let momentum = config.momentum.unwrap_or(0.0);
        let buffers = || (momentum > 0.0).then(zeros).transpose();
        let eps = config.eps.unwrap_or(1e-8);
        Ok(match config.name {
            OptimizerName::Adamw | OptimizerName::Adam => Rule::Adam {
                decoupled: config.name == OptimizerName::Adamw,
                betas: config.betas.unwrap_or((0.9, 0.999)),
                eps,
                exp_avgs: zeros()?,
                exp_avg_sqs: zeros()?,
            },
            OptimizerName::Sgd => {
                Rule::Sgd { momentum, nesterov: config.nesterov.unwrap_or(false), buffers: buffers()? }
            }
            OptimizerName::Rmsprop => Rule::RmsProp {
                alpha: config.alpha.unwrap_or(0.99),
                eps,
                momentum,
                square_avgs: zeros()?,
                buffers: buffers()?,
            },
        })
    }

    fn as_update(&self) -> UpdateRule<'_> {
        match *self {
            Rule::Adam { decoupled, betas, eps, ref exp_avgs, ref exp_avg_sqs } => {
                let moments = Moments { exp_avgs, exp_avg_sqs, betas, eps };
                if decoupled { UpdateRule::AdamW(moments) } else { UpdateRule::Adam(moments) }
            }
            Rule::Sgd { momentum, nesterov, ref buffers } => {
                UpdateRule::Sgd { buffers: buffers.as_ref(), momentum, nesterov }
            }
            Rule::RmsProp { alpha, eps, momentum, ref square_avgs, ref buffers } => {
                UpdateRule::RmsProp { square_avgs, buffers: buffers.as_ref(), alpha, eps, momentum }
            }
        }
    }

    /// The lists of state, with PyTorch's words for them.
    fn lists(&self) -> Vec<(&'static str, &TensorList)> {
        match self {
            Rule::Adam { exp_avgs, exp_avg_sqs, .. } => {
                vec![("exp_avg", exp_avgs), ("exp_avg_sq", exp_avg_sqs)]
            }
            Rule::Sgd { buffers, .. } => buffers.iter().map(|list| ("momentum_buffer", list)).collect(),
            Rule::RmsProp { square_avgs, buffers, .. } => {
                let buffers = buffers.iter().map(|list| ("momentum_buffer", list));
                [("square_avg", square_avgs)].into_iter().chain(buffers).collect()
            }
        }
    }
}

impl From<SettingError> for OptimizerError {
    fn from(error: SettingError) -> Self {
        OptimizerError::Setting(error)
    }
}

impl From<fullbore_torch::Error> for OptimizerError {
    fn from(error: fullbore_torch::Error) -> Self {
        OptimizerError::Torch(error)
    }
}
