use serde::{Deserialize, Serialize};

/// The `optimizer` part of a plan. Names are PyTorch's; `None` is PyTorch's default for the named optimizer, and what
/// that optimizer does not know must be `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which optimizer.
    pub name: OptimizerName,
    /// Peak learning rate; the schedule scales it.
    pub lr: f64,
    /// Weight decay: apart from the gradient in AdamW (0.01), added to the gradient in the others (0).
    pub weight_decay: Option<f64>,
    /// Adam, AdamW: decay rates of the first and second moment (0.9, 0.999).
    pub betas: Option<(f64, f64)>,
    /// Adam, AdamW, RMSprop: added to the denominator (1e-8).
    pub eps: Option<f64>,
    /// SGD, RMSprop: share of the momentum buffer that a step keeps (0).
    pub momentum: Option<f64>,
    /// SGD: look ahead by one step of the buffer (false).
    pub nesterov: Option<bool>,
    /// RMSprop: share of the average of squared gradients that a step keeps (0.99).
    pub alpha: Option<f64>,
    /// Largest global gradient norm; `None`: no clipping by norm.
    pub clip: Option<f64>,
    /// Largest gradient of a single weight; `None`: no clipping by value.
    pub clip_value: Option<f64>,
    /// Whether weight decay also pulls at norms and biases (parameters with one dimension). True is what PyTorch's
    /// optimizers do when nobody makes groups, so that results can be compared; most recipes want false.
    pub decay_norm_and_bias: bool,
    /// Parts of the network that learn otherwise. A parameter belongs to the first group that names it.
    pub groups: Vec<GroupConfig>,
}

/// The optimizers by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// `torch.optim.AdamW`.
    Adamw,
    /// `torch.optim.Adam`.
    Adam,
    /// `torch.optim.SGD`, dampening 0.
    Sgd,
    /// `torch.optim.RMSprop`, not centred.
    Rmsprop,
}

/// A part of the network that learns otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Names of parameters, `*` for any text: `down1.*`, `*.bias`. A name without `*` also means everything below it.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Multiplies the learning rate.
    #[serde(default = "one")]
    pub lr_factor: f64,
    /// Nothing in it changes: no gradients, and BatchNorm normalises by its running statistics and leaves them alone.
    #[serde(default)]
    pub frozen: bool,
}

fn one() -> f64 {
    1.0
}

/// A setting that cannot work; who checks a whole plan makes its own error of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Dotted key.
    pub key: &'static str,
    /// What it is set to.
    pub value: String,
    /// What would work, and why.
    pub allowed: String,
}

impl OptimizerConfig {
    /// PyTorch's defaults for an optimizer, no clipping, one group.
    pub fn new(name: OptimizerName, lr: f64) -> Self {
        Self {
            name,
            lr,
            weight_decay: None,
            betas: None,
            eps: None,
            momentum: None,
            nesterov: None,
            alpha: None,
            clip: None,
            clip_value: None,
            decay_norm_and_bias: true,
            groups: Vec::new(),
        }
    }

    /// Checks every number, and that none is set that the optimizer does not know.
    pub fn check(&self) -> Result<(), SettingError> {
        self.check_names()?;
        self.check_ranges()?;
        if self.nesterov == Some(true) && self.momentum.unwrap_or(0.0) == 0.0 {
            return Err(refuse("optimizer.nesterov", true, "it wants optimizer.momentum above 0"));
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), SettingError> {
        use OptimizerName::{Adam, Adamw, Rmsprop, Sgd};
        let knows: [(&str, Option<String>, &[OptimizerName]); 5] = [
            ("optimizer.betas", self.betas.map(|betas| format!("{betas:?}")), &[Adamw, Adam]),
            ("optimizer.eps", self.eps.map(|eps| eps.to_string()), &[Adamw, Adam, Rmsprop]),
            ("optimizer.momentum", self.momentum.map(|momentum| momentum.to_string()), &[Sgd, Rmsprop]),
            ("optimizer.nesterov", self.nesterov.map(|nesterov| nesterov.to_string()), &[Sgd]),
            ("optimizer.alpha", self.alpha.map(|alpha| alpha.to_string()), &[Rmsprop]),
        ];
        for (key, value, who) in knows {
            let Some(value) = value.filter(|_| !who.contains(&self.name)) else { continue };
            let who: Vec<_> = who.iter().map(|name| name.key()).collect();
            let allowed =
                format!("null, because optimizer.name is {}; {} may set it", self.name.key(), who.join(", "));
            return Err(refuse(key, value, allowed));
        }
        if let (Some(_), Some(value)) = (self.clip, self.clip_value) {
            return Err(refuse(
                "optimizer.clip_value",
                value,
                "gradients are clipped by optimizer.clip already; make one of the two null",
            ));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), SettingError> {
        let positive = [
            ("optimizer.lr", Some(self.lr)),
            ("optimizer.eps", self.eps),
            ("optimizer.clip", self.clip),
            ("optimizer.clip_value", self.clip_value),
        ];
        for (key, value) in positive {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                return Err(refuse(key, value, "a finite number above 0"));
            }
        }
        if let Some(value) = self.weight_decay.filter(|v| !(v.is_finite() && *v >= 0.0)) {
            return Err(refuse("optimizer.weight_decay", value, "a finite number, 0 or more"));
        }
        let below_one = |v: f64| (0.0..1.0).contains(&v);
        if let Some(betas) = self.betas.filter(|b| !below_one(b.0) || !below_one(b.1)) {
            let allowed = "two numbers from 0 up to, but not including, 1";
            return Err(refuse("optimizer.betas", format!("{betas:?}"), allowed));
        }
        for (key, value) in [("optimizer.momentum", self.momentum), ("optimizer.alpha", self.alpha)] {
            if let Some(value) = value.filter(|v| !below_one(*v)) {
                return Err(refuse(key, value, "from 0 up to, but not including, 1"));
            }
        }
        for group in &self.groups {
            if !(group.lr_factor.is_finite() && group.lr_factor >= 0.0) {
                let allowed = format!("a finite lr_factor, 0 or more (in the group `{}`)", group.pattern);
                return Err(refuse("optimizer.groups", group.lr_factor, allowed));
            }
        }
        Ok(())
    }

    pub(super) fn decay(&self) -> f64 {
        let default = if self.name == OptimizerName::Adamw { 0.01 } else { 0.0 };
        self.weight_decay.unwrap_or(default)
    }
}

impl OptimizerName {
    /// As it is written in settings.
    fn key(self) -> &'static str {
        match self {
            OptimizerName::Adamw => "adamw",
            OptimizerName::Adam => "adam",
            OptimizerName::Sgd => "sgd",
            OptimizerName::Rmsprop => "rmsprop",
        }
    }
}

pub(crate) fn refuse(key: &'static str, value: impl ToString, allowed: impl Into<String>) -> SettingError {
    SettingError { key, value: value.to_string(), allowed: allowed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> OptimizerConfig {
        OptimizerConfig::new(OptimizerName::Sgd, 0.1)
    }

    #[test]
    fn what_an_optimizer_does_not_know_is_refused() {
        use OptimizerName::{Adam, Adamw, Rmsprop, Sgd};
        let set: [(&str, OptimizerConfig, &[OptimizerName]); 5] = [
            ("optimizer.betas", OptimizerConfig { betas: Some((0.5, 0.5)), ..plain() }, &[Adamw, Adam]),
            ("optimizer.eps", OptimizerConfig { eps: Some(1e-6), ..plain() }, &[Adamw, Adam, Rmsprop]),
            ("optimizer.momentum", OptimizerConfig { momentum: Some(0.9), ..plain() }, &[Sgd, Rmsprop]),
            ("optimizer.nesterov", OptimizerConfig { nesterov: Some(false), ..plain() }, &[Sgd]),
            ("optimizer.alpha", OptimizerConfig { alpha: Some(0.9), ..plain() }, &[Rmsprop]),
        ];
        for (key, config, who) in set {
            for name in [Adamw, Adam, Sgd, Rmsprop] {
                let checked = OptimizerConfig { name, ..config.clone() }.check();
                match checked {
                    Ok(()) => assert!(who.contains(&name), "{key} with {name:?}"),
                    Err(error) => assert!(!who.contains(&name) && error.key == key, "{error:?}"),
                }
            }
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_their_key() {
        let adam = OptimizerConfig { name: OptimizerName::Adam, ..plain() };
        let group = GroupConfig { pattern: "x".into(), lr_factor: -1.0, frozen: false };
        for (key, config) in [
            ("optimizer.lr", OptimizerConfig { lr: 0.0, ..plain() }),
            ("optimizer.lr", OptimizerConfig { lr: f64::NAN, ..plain() }),
            ("optimizer.weight_decay", OptimizerConfig { weight_decay: Some(-0.1), ..plain() }),
            ("optimizer.betas", OptimizerConfig { betas: Some((0.9, 1.0)), ..adam.clone() }),
            ("optimizer.eps", OptimizerConfig { eps: Some(0.0), ..adam.clone() }),
            ("optimizer.momentum", OptimizerConfig { momentum: Some(1.0), ..plain() }),
            ("optimizer.nesterov", OptimizerConfig { nesterov: Some(true), ..plain() }),
            ("optimizer.clip", OptimizerConfig { clip: Some(-1.0), ..plain() }),
            ("optimizer.clip_value", OptimizerConfig { clip_value: Some(0.0), ..plain() }),
            ("optimizer.clip_value", OptimizerConfig { clip: Some(1.0), clip_value: Some(1.0), ..plain() }),
            ("optimizer.groups", OptimizerConfig { groups: vec![group], ..plain() }),
        ] {
            assert_eq!(config.check().unwrap_err().key, key, "{config:?}");
        }
        plain().check().unwrap();
    }
}
