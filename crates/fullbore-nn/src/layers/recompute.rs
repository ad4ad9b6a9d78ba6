//! Blocks whose activations may be computed twice instead of kept: the key `activation`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fullbore_torch::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::Scope;

/// What becomes of a block's inner results between forward and backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// They are kept until memory runs out with one sample; from then on as [`Recompute`](Self::Recompute).
    #[default]
    Auto,
    /// They stay in memory.
    Keep,
    /// Backward computes them again: less memory, one more forward pass, the same results.
    Recompute,
}

/// A part of a network that obeys [`crate::Params::set_recompute`].
#[derive(Debug)]
pub struct Recomputable<B> {
    block: B,
    parameters: Vec<Tensor>,
    on: Arc<AtomicBool>,
}

impl<B: Clone + Send + 'static> Recomputable<B> {
    /// Builds the block in `scope`. It must use no parameters but those that it adds there; a clone of it shares them.
    pub fn new(scope: Scope<'_>, build: impl FnOnce(Scope<'_>) -> Result<B>) -> Result<Self> {
        let on = scope.recompute_switch();
        let (block, parameters) = scope.collect(build)?;
        Ok(Self { block, parameters, on })
    }

    /// `compute` of the block and `inputs`, of which there is at least one.
    pub fn forward<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        compute: impl Fn(&B, &[Tensor; N]) -> Result<Tensor> + Send + 'static,
    ) -> Result<Tensor> {
        if !self.on.load(Ordering::Relaxed) {
            return compute(&self.block, &inputs.map(Tensor::clone));
        }
        // The graph may outlive the network, and run it on another thread.
        let block = self.block.clone();
        fullbore_torch::recompute(inputs, &self.parameters, move |inputs| compute(&block, inputs))
    }
}
