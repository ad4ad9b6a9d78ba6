//! Optimizers, fused: one crossing and no host sync per step.

pub mod adamw;

pub use adamw::{AdamW, OptimizerConfig, OptimizerName};
