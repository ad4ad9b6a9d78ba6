//! How a step reaches the device: the key `step`.

use fullbore_nn::compute::device_name;
use fullbore_nn::layers::recompute::Activation;
use fullbore_torch::{Device, Graph};
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

/// What a mode means on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Whether micro-batches are recorded.
    pub(crate) graph: bool,
    /// The way and the reason for it.
    pub(crate) words: String,
}

impl StepMode {
    /// How steps run on `device`.
    ///
    /// # Errors
    /// [`StepMode::Graph`] where nothing can be recorded.
    pub(crate) fn resolve(self, device: Device, activation: Activation) -> Result<Resolved, PlanError> {
        self.decide(device, activation, Graph::is_possible(device))
    }

    /// Whether that is by recordings. False where they are asked for and cannot be: evaluations need none.
    pub(crate) fn records(self, device: Device, activation: Activation) -> bool {
        self.resolve(device, activation).is_ok_and(|resolved| resolved.graph)
    }

    fn decide(self, device: Device, activation: Activation, possible: bool) -> Result<Resolved, PlanError> {
        let eager = |why: &str| Ok(Resolved { graph: false, words: format!("eager ({why})") });
        let why_not = if !matches!(device, Device::Cuda(_)) {
            Some(format!("graphs are for CUDA devices, not for {}", device_name(device)))
        } else if !possible {
            Some("the program was built without its CUDA plug-in".into())
        } else if activation == Activation::Recompute {
            Some("activation: recompute cannot be recorded".into())
        } else {
            None
        };
        match (self, why_not) {
            (StepMode::Eager, _) => eager("as asked"),
            (StepMode::Auto, Some(why)) => eager(&why),
            (StepMode::Graph, Some(why)) => Err(refuse("step", "graph", format!("auto or eager: {why}"))),
            (StepMode::Auto | StepMode::Graph, None) => {
                let words =
                    "graph (after a few micro-batches; what a micro-batch size leaves over stays eager)";
                Ok(Resolved { graph: true, words: words.into() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUDA: Device = Device::Cuda(0);

    #[test]
    fn graphs_are_refused_with_the_reason() {
        let why = |device, activation, possible| {
            StepMode::Graph.decide(device, activation, possible).unwrap_err().to_string()
        };
        let keep = Activation::Keep;
        let on_cpu = why(Device::Cpu, keep, true);
        assert!(on_cpu.ends_with("auto or eager: graphs are for CUDA devices, not for cpu"), "{on_cpu}");
        assert!(why(CUDA, keep, false).ends_with("without its CUDA plug-in"));
        assert!(why(CUDA, Activation::Recompute, true).ends_with("recompute cannot be recorded"));
        let graph = StepMode::Graph.decide(CUDA, keep, true).unwrap();
        assert!(graph.graph && graph.words.starts_with("graph ("));
    }

    #[test]
    fn auto_is_graph_where_that_is_possible_and_says_why_not() {
        let auto =
            |device, activation, possible| StepMode::Auto.decide(device, activation, possible).unwrap();
        for activation in [Activation::Keep, Activation::Auto] {
            assert!(auto(CUDA, activation, true).graph);
        }
        let words = |device, activation, possible| {
            let Resolved { graph, words } = auto(device, activation, possible);
            assert!(!graph);
            words
        };
        assert_eq!(
            words(Device::Cpu, Activation::Keep, true),
            "eager (graphs are for CUDA devices, not for cpu)"
        );
        assert!(words(CUDA, Activation::Keep, false).contains("plug-in"));
        assert!(words(CUDA, Activation::Recompute, true).contains("recompute"));
        assert_eq!(StepMode::Eager.decide(CUDA, Activation::Keep, true).unwrap().words, "eager (as asked)");
    }

    #[test]
    fn what_is_refused_for_training_records_nothing_in_evaluations() {
        assert!(!StepMode::Graph.records(Device::Cpu, Activation::Keep));
    }
}
