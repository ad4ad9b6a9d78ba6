//! How a step reaches the device: the key `step`.

use fullbore_nn::compute::device_name;
use fullbore_torch::Device;
use serde::{Deserialize, Serialize};

use crate::plan::{PlanError, refuse};

/// How a step reaches the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepMode {
    /// The fastest way that there is.
    #[default]
    Auto,
    /// Operation by operation.
    Eager,
    /// Recorded once, and replayed as a whole by the device.
    Graph,
}

impl StepMode {
    /// How steps run on `device`, and why, in words.
    ///
    /// # Errors
    /// [`StepMode::Graph`], which no device can do yet.
    pub(crate) fn resolve(self, device: Device) -> Result<&'static str, PlanError> {
        let on_cuda = matches!(device, Device::Cuda(_));
        match self {
            StepMode::Auto if on_cuda => Ok("eager (graphs are not built yet)"),
            StepMode::Auto => Ok("eager (graphs are for CUDA devices)"),
            StepMode::Eager => Ok("eager (as asked)"),
            StepMode::Graph if on_cuda => {
                Err(refuse("step", "graph", "auto or eager: graphs are not built yet"))
            }
            StepMode::Graph => {
                let device = device_name(device);
                Err(refuse(
                    "step",
                    "graph",
                    format!("auto or eager: graphs are for CUDA devices, not for {device}"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_refused_with_the_reason() {
        let why = |device| StepMode::Graph.resolve(device).unwrap_err().to_string();
        assert!(why(Device::Cpu).ends_with("auto or eager: graphs are for CUDA devices, not for cpu"));
        assert!(why(Device::Cuda(0)).ends_with("graphs are not built yet"));
        for mode in [StepMode::Auto, StepMode::Eager] {
            for device in [Device::Cpu, Device::Cuda(0)] {
                assert!(mode.resolve(device).unwrap().starts_with("eager ("));
            }
        }
    }
}
