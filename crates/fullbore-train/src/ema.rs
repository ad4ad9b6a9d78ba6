//! Exponential moving average of weights and buffers, `e = d e + (1 - d) p` after every step.

use fullbore_nn::Params;
use fullbore_torch::{Result, Tensor, TensorList};

/// The average, and room to put the raw weights aside while it is evaluated: all memory exists from the start.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    names: Vec<String>,
    raw: TensorList,
    average: TensorList,
    aside: TensorList,
}

impl Ema {
    /// An average that begins at the present weights.
    pub fn new(params: &Params, decay: f64) -> Result<Self> {
        use fullbore_nn::params::Entry;
        let (names, tensors): (Vec<_>, Vec<_>) = params
            .entries()
            .filter_map(|(name, entry)| match entry {
                Entry::Parameter(tensor) | Entry::Buffer(tensor) => Some((name.to_string(), tensor)),
                Entry::Counter(_) => None,
            })
            .unzip();
        let raw = TensorList::new(tensors)?;
        Ok(Self { decay, names, average: raw.copy()?, aside: raw.copy()?, raw })
    }

    /// Moves the average towards the present weights.
    pub fn update(&self) -> Result<()> {
        self.average.lerp_(&self.raw, 1.0 - self.decay)
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
