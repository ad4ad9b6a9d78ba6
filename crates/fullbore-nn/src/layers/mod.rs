//! What the models are built from. Initial values and names are PyTorch's.

pub mod conv;
pub mod norm;
pub mod recompute;
