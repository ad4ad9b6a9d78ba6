//! What the models are built from. Names are PyTorch's.

pub mod conv;
pub mod conv_norm;
pub mod norm;
pub mod recompute;
pub mod residual;
pub mod resnet;
