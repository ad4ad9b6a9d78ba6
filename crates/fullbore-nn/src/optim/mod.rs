//! Optimizers, fused: one crossing and no host sync per step.

mod config;
mod groups;
mod optimizer;

pub(crate) use config::refuse;
pub use config::{GroupConfig, OptimizerConfig, OptimizerName, SettingError};
pub use optimizer::{Optimizer, OptimizerError};
