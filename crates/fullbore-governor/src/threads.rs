//! How the cores are shared between the model's threads and those that load data.

/// Where the model trains, which decides who needs the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trains {
    /// On a GPU.
    OnGpu {
        /// Whether the data threads augment too.
        augment_on_cpu: bool,
    },
    /// On the CPU.
    OnCpu,
}

/// Threads of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPlan {
    /// Threads that one operation of the model is split over (`torch.set_num_threads`).
    pub compute: usize,
    /// Data threads to start with, where the user leaves it to us.
    pub workers: usize,
    /// Fewest data threads that they may come to by what the loader measures.
    pub fewest_workers: usize,
    /// Most of them.
    pub most_workers: usize,
}

/// Busiest that this program should make the host of a GPU, as a share of its cores: beyond it kernels are launched
/// late and the GPU waits (SPDL, arXiv 2504.20067).
const GPU_HOST: f64 = 0.4;
/// Most data threads to start with where the model trains on the CPU.
const CPU_WORKERS: usize = 8;
/// Most threads for the few operations on the host of a GPU.
const GPU_COMPUTE: usize = 4;

impl ThreadPlan {
    /// The rule to start with on `cores`.
    ///
    /// With a GPU: half of the cores load data, 2 to 4 when the device augments, 4 to 8 when they augment, and all
    /// together stay under 40 % of the cores where there are enough of them. On the CPU: the model may use all cores,
    /// because a data thread that waits takes nothing from it, and as many load data, 8 at most: the model's threads wait for the
    /// slowest of them, so that loading costs least where it takes the same from each (on 2 cores, 1.10 of the rate that one data
    /// thread leaves).
    pub fn start(cores: usize, trains: Trains) -> Self {
        let cores = cores.max(1);
        match trains {
            Trains::OnCpu => {
                let workers = cores.min(CPU_WORKERS);
                let most_workers = (cores / 2).max(workers);
                Self { compute: cores, workers, fewest_workers: workers, most_workers }
            }
            Trains::OnGpu { augment_on_cpu } => {
                let share = ((cores as f64 * GPU_HOST) as usize).max(2);
                let [least, most] = if augment_on_cpu { [4, 8] } else { [2, 4] };
                let workers = (cores / 2).clamp(least, most).min(share - 1);
                let compute = (share - workers).min(GPU_COMPUTE);
                Self { compute, workers, fewest_workers: 1, most_workers: share - compute }
            }
        }
    }
}

/// Threads that decode pictures for a network, and as many that write what it found. Beside a GPU as if they augmented, since
/// PNG files are as much work; on the CPU a quarter of the cores, 8 at most: the network needs the others.
pub fn data_threads_of_predictions(cores: usize, on_gpu: bool) -> usize {
    match on_gpu {
        true => ThreadPlan::start(cores, Trains::OnGpu { augment_on_cpu: true }).workers,
        false => (cores / 4).clamp(1, CPU_WORKERS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Trains = Trains::OnGpu { augment_on_cpu: false };
    const CPU_AUGMENTS: Trains = Trains::OnGpu { augment_on_cpu: true };

    fn start(cores: usize, trains: Trains) -> (usize, usize, usize) {
        let ThreadPlan { compute, workers, most_workers, .. } = ThreadPlan::start(cores, trains);
        (compute, workers, most_workers)
    }

    #[test]
    fn hosts_of_gpus_stay_under_40_percent() {
        assert_eq!(start(32, DEVICE), (4, 4, 8));
        assert_eq!(start(32, CPU_AUGMENTS), (4, 8, 8));
        assert_eq!(start(16, DEVICE), (2, 4, 4));
        assert_eq!(start(16, CPU_AUGMENTS), (1, 5, 5));
        assert_eq!(start(8, DEVICE), (1, 2, 2));
        assert_eq!(start(96, CPU_AUGMENTS), (4, 8, 34), "never more just because there are cores");
    }

    #[test]
    fn small_machines_have_one_of_each() {
        for trains in [DEVICE, CPU_AUGMENTS] {
            assert_eq!([0, 1, 2, 4].map(|cores| start(cores, trains)), [(1, 1, 1); 4]);
        }
    }

    #[test]
    fn predictions_leave_most_of_the_cores_to_the_network() {
        assert_eq!([0, 2, 16, 64].map(|cores| data_threads_of_predictions(cores, false)), [1, 1, 4, 8]);
        assert_eq!([2, 16].map(|cores| data_threads_of_predictions(cores, true)), [1, 5]);
    }

    #[test]
    fn a_model_on_the_cpu_may_use_all_cores() {
        assert_eq!([0, 1, 2].map(|cores| start(cores, Trains::OnCpu)), [(1, 1, 1), (1, 1, 1), (2, 2, 2)]);
        assert_eq!(start(16, Trains::OnCpu), (16, 8, 8));
        assert_eq!(start(64, Trains::OnCpu), (64, 8, 32));
    }
}
