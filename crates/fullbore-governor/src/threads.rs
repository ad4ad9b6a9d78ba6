//! How the cores are shared between the model's threads and those that load data: a rule to start with, and for models
//! on the CPU an adjustment by measurement.

use std::fmt;

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
    /// Most data threads that they may come to by what the loader measures.
    pub most_workers: usize,
}

/// Busiest that this program should make the host of a GPU, as a share of its cores: beyond it kernels are launched
/// late and the GPU waits (SPDL, arXiv 2504.20067).
const GPU_HOST: f64 = 0.4;
/// Most threads for the few operations on the host of a GPU.
const GPU_COMPUTE: usize = 4;

impl ThreadPlan {
    /// The rule to start with on `cores`.
    ///
    /// With a GPU: half of the cores load data, 2 to 4 when the device augments, 4 to 8 when they augment, and all
    /// together stay under 40 % of the cores where there are enough of them. On the CPU: the model may use all cores,
    /// because a data thread that waits takes nothing from it, and a quarter of them load data, 8 at most.
    pub fn start(cores: usize, trains: Trains) -> Self {
        let cores = cores.max(1);
        match trains {
            Trains::OnCpu => {
                let workers = (cores / 4).clamp(1, 8);
                Self { compute: cores, workers, most_workers: (cores / 2).max(workers) }
            }
            Trains::OnGpu { augment_on_cpu } => {
                let share = ((cores as f64 * GPU_HOST) as usize).max(2);
                let [least, most] = if augment_on_cpu { [4, 8] } else { [2, 4] };
                let workers = (cores / 2).clamp(least, most).min(share - 1);
                let compute = (share - workers).min(GPU_COMPUTE);
                Self { compute, workers, most_workers: share - compute }
            }
        }
    }
}

/// Work measured over some seconds of training on the CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// Samples trained per second, without evaluations and checkpoints.
    pub samples_per_s: f64,
    /// Share of the time that training waited for data.
    pub data_wait: f64,
    /// Data threads that were busy, on average.
    pub busy_workers: f64,
}

/// The shares of the cores have been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadChange {
    /// Before.
    pub from: ThreadPlan,
    /// From now on.
    pub to: ThreadPlan,
    /// The reason.
    pub why: WhyThreads,
}

/// Why the shares of the cores were changed. Displays as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyThreads {
    /// Training waited for data.
    DataIsShort,
    /// Model and data together had more to do than there are cores.
    Crowded,
    /// Cores were idle.
    CoresIdle,
    /// The last change did not make training faster.
    NoGain,
}

impl fmt::Display for WhyThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyThreads::DataIsShort => "training waited for data: a try with fewer threads for the model",
            WhyThreads::Crowded => "model and data crowd the cores: a try with fewer threads for the model",
            WhyThreads::CoresIdle => "cores were idle: a try with more threads for the model",
            WhyThreads::NoGain => "the last change of threads did not make training faster: taken back",
        })
    }
}

/// A share of its time that training may wait before data gets more.
const WAITS: f64 = 0.05;
/// Below this share it counts as not waiting.
const HARDLY_WAITS: f64 = 0.01;
/// Cores that may be wanted beyond those that there are, or left, before it matters.
const SLACK: f64 = 0.5;
/// Speed that a change has to bring.
const GAIN: f64 = 1.03;
/// Shortest and longest rest after a change that brought nothing, in stretches.
const RESTS: [u32; 2] = [16, 1024];
/// A change moves this part of the cores, and one at least.
const PART: usize = 16;

/// Which side gets more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Data,
    Model,
}

/// Shares the cores while a model trains on the CPU: tries another share for a stretch, keeps it when training became
/// faster, takes it back otherwise and waits twice as long before the next such try. The loader decides by itself how
/// many threads it uses, up to [`ThreadPlan::most_workers`].
#[derive(Clone, Debug)]
pub struct ThreadTuner {
    cores: usize,
    plan: ThreadPlan,
    /// The plan before the present try, its speed, and the side that gained.
    trial: Option<(ThreadPlan, f64, Side)>,
    /// The stretch after a change mixes old and new.
    mixed: bool,
    /// Stretches until a side may be tried again, and the rest after its next failure: data, model.
    rests: [(u32, u32); 2],
}

impl ThreadTuner {
    /// Begins with `plan` on `cores`.
    pub fn new(cores: usize, plan: ThreadPlan) -> Self {
        Self { cores: cores.max(1), plan, trial: None, mixed: true, rests: [(0, RESTS[0]); 2] }
    }

    /// The shares now.
    pub fn plan(&self) -> ThreadPlan {
        self.plan
    }

    /// Judges a stretch of training with the present shares.
    pub fn judge(&mut self, stretch: &Stretch) -> Option<ThreadChange> {
        if std::mem::take(&mut self.mixed) {
            return None;
        }
        for (rest, _) in &mut self.rests {
            *rest = rest.saturating_sub(1);
        }
        if let Some((before, speed, side)) = self.trial.take() {
            if stretch.samples_per_s >= GAIN * speed {
                return None;
            }
            let (rest, next) = &mut self.rests[side as usize];
            *rest = *next;
            *next = (*next * 2).min(RESTS[1]);
            return Some(self.change(before, WhyThreads::NoGain));
        }
        let (side, why) = self.wish(stretch)?;
        if self.rests[side as usize].0 > 0 {
            return None;
        }
        let moved = (self.cores / PART).max(1);
        let ThreadPlan { compute, most_workers, .. } = self.plan;
        let (compute, most_workers) = match side {
            Side::Data => (compute.saturating_sub(moved), most_workers.saturating_add(moved)),
            Side::Model => (compute.saturating_add(moved), most_workers.saturating_sub(moved)),
        };
        let fewest = self.plan.workers.max(1);
        let to = ThreadPlan {
            compute: compute.clamp(1, self.cores),
            most_workers: most_workers.clamp(fewest, fewest.max(self.cores - 1)),
            ..self.plan
        };
        if to.compute == self.plan.compute {
            return None;
        }
        self.trial = Some((self.plan, stretch.samples_per_s, side));
        Some(self.change(to, why))
    }

    fn wish(&self, stretch: &Stretch) -> Option<(Side, WhyThreads)> {
        let busy = self.plan.compute as f64 + stretch.busy_workers;
        let cores = self.cores as f64;
        if stretch.data_wait > WAITS {
            Some((Side::Data, WhyThreads::DataIsShort))
        } else if busy > cores + SLACK {
            Some((Side::Data, WhyThreads::Crowded))
        } else if stretch.data_wait < HARDLY_WAITS && busy + 1.0 <= cores + SLACK {
            Some((Side::Model, WhyThreads::CoresIdle))
        } else {
            None
        }
    }

    fn change(&mut self, to: ThreadPlan, why: WhyThreads) -> ThreadChange {
        let from = std::mem::replace(&mut self.plan, to);
        self.mixed = true;
        ThreadChange { from, to, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEVICE: Trains = Trains::OnGpu { augment_on_cpu: false };
    const CPU_AUGMENTS: Trains = Trains::OnGpu { augment_on_cpu: true };

    fn start(cores: usize, trains: Trains) -> (usize, usize, usize) {
        let ThreadPlan { compute, workers, most_workers } = ThreadPlan::start(cores, trains);
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
    fn a_model_on_the_cpu_may_use_all_cores() {
        assert_eq!([0, 1, 2].map(|cores| start(cores, Trains::OnCpu)), [(1, 1, 1), (1, 1, 1), (2, 1, 1)]);
        assert_eq!(start(16, Trains::OnCpu), (16, 4, 8));
        assert_eq!(start(64, Trains::OnCpu), (64, 8, 32));
    }

    fn stretch(samples_per_s: f64, data_wait: f64, busy_workers: f64) -> Stretch {
        Stretch { samples_per_s, data_wait, busy_workers }
    }

    fn tuner(cores: usize) -> ThreadTuner {
        let mut tuner = ThreadTuner::new(cores, ThreadPlan::start(cores, Trains::OnCpu));
        assert_eq!(tuner.judge(&stretch(1.0, 0.5, 1.0)), None, "the first stretch is start-up");
        tuner
    }

    #[test]
    fn a_try_that_pays_is_kept() {
        let mut tuner = tuner(4);
        let change = tuner.judge(&stretch(10.0, 0.2, 1.0)).unwrap();
        assert_eq!((change.to.compute, change.to.most_workers, change.why), (3, 3, WhyThreads::DataIsShort));
        assert_eq!(tuner.judge(&stretch(1.0, 0.2, 1.0)), None, "old and new are mixed");
        assert_eq!(tuner.judge(&stretch(10.3, 0.03, 1.0)), None);
        assert_eq!(tuner.plan(), change.to);
    }

    #[test]
    fn a_try_that_does_not_pay_is_taken_back_and_rests_ever_longer() {
        let mut tuner = tuner(4);
        let crowded = stretch(10.0, 0.0, 0.6);
        let changes: Vec<_> = (0..200).filter_map(|i| Some((i, tuner.judge(&crowded)?))).collect();
        let tries: Vec<_> =
            changes.iter().filter(|(_, c)| c.why == WhyThreads::Crowded).map(|(i, _)| *i).collect();
        assert_eq!(tries, [0, 19, 54, 121], "16, 32 and 64 stretches of rest");
        assert!(changes.chunks(2).all(|two| two.len() < 2 || two[1].1.why == WhyThreads::NoGain));
        assert_eq!(tuner.plan().compute, 4);
    }

    #[test]
    fn idle_cores_go_to_the_model() {
        let plan = ThreadPlan { compute: 2, workers: 1, most_workers: 3 };
        let mut tuner = ThreadTuner::new(4, plan);
        tuner.judge(&stretch(1.0, 0.0, 1.0));
        let change = tuner.judge(&stretch(10.0, 0.0, 1.0)).unwrap();
        assert_eq!((change.to.compute, change.to.most_workers, change.why), (3, 2, WhyThreads::CoresIdle));
        assert_eq!(tuner.judge(&stretch(10.0, 0.005, 1.6)), None, "mixed");
    }

    #[test]
    fn one_core_is_never_taken_from_the_model() {
        let mut tuner = tuner(1);
        assert!((0..100).all(|_| tuner.judge(&stretch(10.0, 0.9, 1.0)).is_none()));
    }

    /// A machine on which a sample costs the model and a data thread so many seconds of a core.
    fn work(plan: &ThreadPlan, cores: f64, model: f64, decode: f64) -> Stretch {
        let workers = plan.most_workers as f64;
        // Data threads are scheduled first; the model's threads share what is left and lose where they wait.
        let (mut busy, mut speed) = (0.0, 0.0);
        for _ in 0..50 {
            let left = (cores - busy).max(0.1);
            let crowding = if plan.compute as f64 > left { 0.9 } else { 1.0 };
            let rate = (plan.compute as f64).min(left) * crowding / model;
            speed = rate.min(workers / decode);
            busy = (busy + speed * decode) / 2.0;
        }
        let possible = (plan.compute as f64) / model;
        stretch(speed, (1.0 - speed / possible).clamp(0.0, 1.0), busy)
    }

    proptest! {
        #[test]
        fn it_settles_and_never_ends_slower_than_it_began(
            cores in 1usize..65, model in 0.01f64..1.0, decode in 0.0001f64..1.0,
        ) {
            let start = ThreadPlan::start(cores, Trains::OnCpu);
            let mut tuner = ThreadTuner::new(cores, start);
            let mut changes = 0;
            let measure = |plan: &ThreadPlan| work(plan, cores as f64, model, decode);
            for _ in 0..2000 {
                if let Some(change) = tuner.judge(&measure(&tuner.plan())) {
                    prop_assert_eq!(tuner.plan(), change.to);
                    prop_assert!(change.from.compute != change.to.compute);
                    changes += 1;
                }
                let ThreadPlan { compute, workers, most_workers } = tuner.plan();
                prop_assert!((1..=cores).contains(&compute) && workers == start.workers);
                prop_assert!(most_workers >= workers && most_workers < cores.max(start.most_workers + 1));
            }
            let settled = match tuner.trial {
                Some((before, _, _)) => before,
                None => tuner.plan(),
            };
            prop_assert!(measure(&settled).samples_per_s >= measure(&start).samples_per_s * 0.9999);
            // Steps that paid, and two changes for each try that did not.
            prop_assert!(changes <= 32 + 2 * 2 * 8, "{changes} changes");
        }

        #[test]
        fn whatever_is_measured_changes_are_rare(
            cores in 1usize..65,
            stretches in proptest::collection::vec((0.0f64..100.0, 0.0f64..1.0, 0.0f64..64.0), 0..400),
        ) {
            let mut tuner = ThreadTuner::new(cores, ThreadPlan::start(cores, Trains::OnCpu));
            for (samples_per_s, data_wait, busy) in stretches.into_iter().chain([(f64::NAN, f64::NAN, f64::NAN)]) {
                if let Some(change) = tuner.judge(&stretch(samples_per_s, data_wait, busy)) {
                    prop_assert!((1..=cores).contains(&change.to.compute));
                    prop_assert_eq!(tuner.judge(&stretch(samples_per_s, data_wait, busy)), None);
                }
            }
        }
    }
}
