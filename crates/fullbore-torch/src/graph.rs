//! Work that is recorded once and replayed as a whole (CUDA graphs; `torch.cuda.CUDAGraph`): the device then does not wait
//! for the host to ask for every operation.

use std::fmt;

use crate::cuda::{CudaGraph, has_plugin};
use crate::{Device, Result};

/// Recorded work. A replay reads and writes the very memory that the work used when it was recorded: what changes from
/// replay to replay is written into that memory before.
///
/// Recorded is what the device does, and nothing else: what the work changes on the host, it changes once, and each value
/// that it takes from the host stays as it was. The CPU has nothing that could record; there a replay runs the work again.
pub struct Graph {
    /// Freed before the tensors that the work holds.
    recorded: Option<CudaGraph>,
    work: Box<dyn Fn() -> Result<()>>,
}

impl Graph {
    /// Whether `device` can record: CUDA with the plug-in, and the CPU in its way.
    pub fn is_possible(device: Device) -> bool {
        match device {
            Device::Cuda(_) => has_plugin(),
            _ => true,
        }
    }

    /// Records `work` without doing it; on CUDA it is called for that once, now, on a stream of recordings' own, and on the
    /// CPU it is not called. Memory that it takes and gives back is kept for replays, shared with `beside` and those that
    /// share with it: what is left in it after a replay is lost with the next one of any of them.
    ///
    /// The work must have run before, so that algorithms are chosen and kernels loaded. It owns every tensor that it reads
    /// or writes, also what backward writes: gradients. It must not wait for the device, nor bring values from the host.
    ///
    /// # Errors
    /// Those of `work`, [`crate::Error::OutOfMemory`] when there is no room for it, and what the driver refuses. Nothing
    /// has been done then, and the thread goes on as before.
    pub fn record(
        device: Device,
        beside: Option<&Graph>,
        work: impl Fn() -> Result<()> + 'static,
    ) -> Result<Self> {
        let mut recorded = None;
        if let Device::Cuda(index) = device {
            let mut graph = CudaGraph::begin(index, beside.and_then(|graph| graph.recorded.as_ref()))?;
            // After an error dropping the graph ends the recording.
            work()?;
            graph.end()?;
            recorded = Some(graph);
        }
        Ok(Self { recorded, work: Box::new(work) })
    }

    /// Does the work. The host waits for nothing on CUDA.
    ///
    /// # Errors
    /// Those of the work on the CPU, which may have done a part of it; on CUDA what the driver refuses.
    pub fn replay(&self) -> Result<()> {
        match &self.recorded {
            // SAFETY: `work` owns what it used, as `record` asks for, and lives as long as this.
            Some(graph) => unsafe { graph.replay() },
            None => (self.work)(),
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}
