//! Which device prepares batches and which trains on them.

use std::fmt;
use std::time::Duration;

use crate::buffer::BufferPlan;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest delay before training starts, in seconds.
const MOST_DELAY: f64 = 3600.0;

/// The `placement:` part of a plan. Both devices or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlacementConfig {
    /// Prepares batches; `None`: the device that trains does.
    pub data_gpu: Option<Seat>,
    /// Trains. The same device as [`data_gpu`](Self::data_gpu) is allowed: the two share it.
    pub model_gpu: Option<Seat>,
    /// Seconds that training waits at least, while the buffer is filled.
    pub start_delay: f64,
}

/// A device: written as the number of a GPU, or as `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seat {
    /// The host's processor.
    Cpu,
    /// The GPU of that number.
    Gpu(usize),
}

/// A GPU of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSeen {
    /// Its number.
    pub index: usize,
    /// Its name, where the driver tells.
    pub name: Option<String>,
}

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One device prepares batches beside training on them: the usual case.
    Single(Seat),
    /// One device prepares batches, another trains on them. With the same device twice, or the CPU for both, the same
    /// stages run beside each other there.
    Pair {
        /// Prepares.
        data: Seat,
        /// Trains.
        model: Seat,
    },
}

/// A wish that this machine, or another setting, does not allow.
#[derive(Clone, Debug, PartialEq, thiserror::Error, miette::Diagnostic)]
pub enum PlacementError {
    /// A GPU that is not there.
    #[error(
        "insufficient GPUs for multi-GPU mode: asked for GPU {data} (data) and GPU {model} (model), this machine has \
         {there}"
    )]
    #[diagnostic(code(config::placement::insufficient_gpus), help("{instead}"))]
    InsufficientGpus {
        /// Number of the data GPU.
        data: usize,
        /// Number of the model GPU.
        model: usize,
        /// What there is, in words.
        there: String,
        /// What to do.
        instead: String,
    },
    /// One device of two.
    #[error("{set} is set and {missing} is not")]
    #[diagnostic(
        code(config::placement::one_of_two),
        help("set both for multi-GPU mode, or drop {set}: `device` alone says where training runs")
    )]
    OneOfTwo {
        /// The key that is set.
        set: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// A GPU and the CPU.
    #[error("placement.data_gpu is {data} and placement.model_gpu is {model}")]
    #[diagnostic(
        code(config::placement::mixed),
        help("name two GPUs; to prepare on the CPU for one GPU, drop both and set augment.device=cpu")
    )]
    Mixed {
        /// Where batches were to be prepared.
        data: Seat,
        /// Where to train.
        model: Seat,
    },
    /// The model on two devices.
    #[error("device is {device} and placement.model_gpu is {model}: the model trains on one of them")]
    #[diagnostic(code(config::placement::two_devices), help("drop `device`, or give both the same device"))]
    TwoDevices {
        /// The key `device`.
        device: Seat,
        /// The key `placement.model_gpu`.
        model: Seat,
    },
    /// A delay that cannot be waited.
    #[error("placement.start_delay is {seconds}, which cannot work")]
    #[diagnostic(
        code(config::placement::start_delay),
        help("placement.start_delay allows 0 to {MOST_DELAY} seconds")
    )]
    Delay {
        /// What it was set to.
        seconds: f64,
    },
}

impl PlacementConfig {
    /// Checks what does not depend on the machine.
    ///
    /// # Errors
    /// A delay that cannot be waited, one device of two, a GPU together with the CPU.
    pub fn check(&self) -> Result<(), PlacementError> {
        if !(0.0..=MOST_DELAY).contains(&self.start_delay) {
            return Err(PlacementError::Delay { seconds: self.start_delay });
        }
        self.pair().map(drop)
    }

    /// The shortest wait before training.
    pub fn start_delay(&self) -> Duration {
        Duration::try_from_secs_f64(self.start_delay).unwrap_or_default()
    }

    /// Decides on a machine with `gpus`. `device` is the key `device` where the user has set it; `best` is the
    /// device to take otherwise, and known to be there.
    ///
    /// # Errors
    /// What [`check`](Self::check) finds, GPUs that are not there, and a `device` that contradicts.
    pub fn place(
        &self,
        gpus: &[GpuSeen],
        device: Option<Seat>,
        best: Seat,
    ) -> Result<Placement, PlacementError> {
        let Some((data, model)) = self.pair()? else {
            return Ok(Placement::Single(device.unwrap_or(best)));
        };
        if let Some(device) = device.filter(|device| *device != model) {
            return Err(PlacementError::TwoDevices { device, model });
        }
        let there = |index| gpus.iter().any(|gpu| gpu.index == index);
        if let (Seat::Gpu(data), Seat::Gpu(model)) = (data, model)
            && !(there(data) && there(model))
        {
            return Err(PlacementError::InsufficientGpus {
                data,
                model,
                there: in_words(gpus),
                instead: instead(gpus),
            });
        }
        Ok(Placement::Pair { data, model })
    }

    fn pair(&self) -> Result<Option<(Seat, Seat)>, PlacementError> {
        const KEYS: [&str; 2] = ["placement.data_gpu", "placement.model_gpu"];
        match (self.data_gpu, self.model_gpu) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(PlacementError::OneOfTwo { set: KEYS[0], missing: KEYS[1] }),
            (None, Some(_)) => Err(PlacementError::OneOfTwo { set: KEYS[1], missing: KEYS[0] }),
            (Some(data), Some(model)) if (data == Seat::Cpu) != (model == Seat::Cpu) => {
                Err(PlacementError::Mixed { data, model })
            }
            (Some(data), Some(model)) => Ok(Some((data, model))),
        }
    }
}

fn in_words(gpus: &[GpuSeen]) -> String {
    let one = |gpu: &GpuSeen| match &gpu.name {
        Some(name) => format!("GPU {} ({name})", gpu.index),
        None => format!("GPU {}", gpu.index),
    };
    match gpus {
        [] => "none".into(),
        [only] => format!("one: {}", one(only)),
        several => {
            format!("{}: {}", several.len(), several.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

fn instead(gpus: &[GpuSeen]) -> String {
    let drop = "drop --data-gpu and --model-gpu";
    match gpus {
        [] => format!("{drop} to train on the CPU"),
        [only] => format!(
            "{drop} for single-GPU buffered mode, or give both the number {}: the GPU does both beside each other",
            only.index
        ),
        [first, second, ..] => format!(
            "use --data-gpu {} --model-gpu {}, or {drop} for single-GPU buffered mode",
            first.index, second.index
        ),
    }
}

impl Placement {
    /// Where the model is.
    pub fn model(&self) -> Seat {
        match *self {
            Placement::Single(seat) | Placement::Pair { model: seat, .. } => seat,
        }
    }

    /// Where batches are prepared.
    pub fn data(&self) -> Seat {
        match *self {
            Placement::Single(seat) | Placement::Pair { data: seat, .. } => seat,
        }
    }

    /// The mode for people, with what waits ready and the least wait before training.
    pub fn announce(&self, buffer: &BufferPlan, start_delay: Duration) -> String {
        let mode = match *self {
            Placement::Single(Seat::Cpu) => "CPU mode: data and model share the processor".into(),
            Placement::Single(Seat::Gpu(gpu)) => format!("Single-GPU Buffered Mode: GPU {gpu}"),
            Placement::Pair { data: Seat::Gpu(data), model: Seat::Gpu(model) } if data != model => {
                format!("Multi-GPU Mode: data GPU {data}, model GPU {model}")
            }
            Placement::Pair { model: Seat::Gpu(gpu), .. } => {
                format!("Multi-GPU Mode on one GPU: GPU {gpu} for data and model")
            }
            Placement::Pair { .. } => "Multi-GPU Mode on the CPU: data and model beside each other".into(),
        };
        if buffer.size == 0 {
            return mode;
        }
        let wait = match start_delay.as_secs_f64() {
            0.0 => "starts when it is full".into(),
            seconds => format!("starts when it is full, after {seconds:.1} s at the earliest"),
        };
        format!("{mode}, {buffer}, {wait}")
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seat::Cpu => f.write_str("cpu"),
            Seat::Gpu(index) => write!(f, "{index}"),
        }
    }
}

impl Serialize for Seat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Seat::Cpu => serializer.serialize_str("cpu"),
            Seat::Gpu(index) => serializer.serialize_u64(*index as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Seat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Device;

        impl de::Visitor<'_> for Device {
            type Value = Seat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a GPU, or cpu")
            }

            fn visit_u64<E: de::Error>(self, index: u64) -> Result<Seat, E> {
                usize::try_from(index)
                    .map(Seat::Gpu)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(index), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seat, E> {
                match text {
                    "cpu" => Ok(Seat::Cpu),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;
    use proptest::prelude::*;
    use serde_json::json;

    fn gpus(n: usize) -> Vec<GpuSeen> {
        let name = |index| (index == 0).then(|| "H100".into());
        (0..n).map(|index| GpuSeen { index, name: name(index) }).collect()
    }

    fn wish(data: Option<Seat>, model: Option<Seat>) -> PlacementConfig {
        PlacementConfig { data_gpu: data, model_gpu: model, start_delay: 0.0 }
    }

    fn two(data: usize, model: usize) -> PlacementConfig {
        wish(Some(Seat::Gpu(data)), Some(Seat::Gpu(model)))
    }

    #[test]
    fn modes_are_found_and_announced() {
        let announce = |config: PlacementConfig, n, best, seconds| {
            let placement = config.place(&gpus(n), None, best).unwrap();
            let buffer = BufferPlan { size: 50, bytes: 1 << 30, cut: false };
            placement.announce(&buffer, Duration::from_secs_f64(seconds))
        };
        assert_eq!(
            announce(two(0, 1), 2, Seat::Gpu(0), 2.0),
            "Multi-GPU Mode: data GPU 0, model GPU 1, buffer of 50 batches, starts when it is full, after 2.0 s at \
             the earliest"
        );
        assert_eq!(
            announce(wish(None, None), 1, Seat::Gpu(0), 0.0),
            "Single-GPU Buffered Mode: GPU 0, buffer of 50 batches, starts when it is full"
        );
        let starts = |config, best, words: &str| {
            let text = announce(config, 1, best, 0.0);
            assert!(text.starts_with(words), "{text}");
        };
        starts(wish(None, None), Seat::Cpu, "CPU mode: data and model share the processor, buffer");
        starts(two(0, 0), Seat::Gpu(0), "Multi-GPU Mode on one GPU: GPU 0 for data and model");
        starts(wish(Some(Seat::Cpu), Some(Seat::Cpu)), Seat::Gpu(0), "Multi-GPU Mode on the CPU");
    }

    #[test]
    fn missing_gpus_are_told_with_what_exists_and_what_to_drop() {
        let refused = |config: PlacementConfig, n| {
            let error = config.place(&gpus(n), None, Seat::Cpu).unwrap_err();
            (error.to_string(), error.help().unwrap().to_string())
        };
        let (message, help) = refused(two(0, 1), 1);
        assert_eq!(
            message,
            "insufficient GPUs for multi-GPU mode: asked for GPU 0 (data) and GPU 1 (model), this machine has one: \
             GPU 0 (H100)"
        );
        assert!(
            help.starts_with("drop --data-gpu and --model-gpu for single-GPU buffered mode, or"),
            "{help}"
        );
        assert!(help.contains("give both the number 0"), "{help}");
        let (message, help) = refused(two(0, 1), 0);
        assert!(
            message.ends_with("this machine has none") && help.ends_with("to train on the CPU"),
            "{help}"
        );
        let (message, help) = refused(two(5, 1), 3);
        assert!(message.ends_with("has 3: GPU 0 (H100), GPU 1, GPU 2"), "{message}");
        assert!(help.starts_with("use --data-gpu 0 --model-gpu 1"), "{help}");
    }

    #[test]
    fn wishes_that_contradict_are_refused() {
        let code = |config: PlacementConfig, device| {
            config.place(&gpus(2), device, Seat::Gpu(0)).unwrap_err().code().unwrap().to_string()
        };
        let gpu = Some(Seat::Gpu(0));
        assert_eq!(code(wish(gpu, None), None), "config::placement::one_of_two");
        assert_eq!(code(wish(None, gpu), None), "config::placement::one_of_two");
        assert_eq!(code(wish(Some(Seat::Cpu), gpu), None), "config::placement::mixed");
        assert_eq!(code(two(0, 1), gpu), "config::placement::two_devices");
        assert!(two(1, 0).place(&gpus(2), gpu, Seat::Gpu(0)).is_ok());
        for seconds in [-1.0, f64::NAN, 3601.0] {
            let config = PlacementConfig { start_delay: seconds, ..PlacementConfig::default() };
            let error = config.check().unwrap_err();
            assert_eq!(error.help().unwrap().to_string(), "placement.start_delay allows 0 to 3600 seconds");
        }
    }

    #[test]
    fn settings_hold_numbers_or_cpu() {
        let read = |value| serde_json::from_value::<PlacementConfig>(value);
        let config = read(json!({"data_gpu": "cpu", "model_gpu": 1, "start_delay": 2.0})).unwrap();
        assert_eq!(config, PlacementConfig { start_delay: 2.0, ..wish(Some(Seat::Cpu), Some(Seat::Gpu(1))) });
        assert_eq!(read(serde_json::to_value(config).unwrap()).unwrap(), config);
        assert!(
            read(json!({"data_gpu": "first"})).unwrap_err().to_string().contains("number of a GPU, or cpu")
        );
    }

    proptest! {
        #[test]
        fn whatever_is_placed_is_there(
            data in proptest::option::of(0usize..4), model in proptest::option::of(0usize..4), n in 0usize..4,
            device in proptest::option::of(0usize..4),
        ) {
            let config = wish(data.map(Seat::Gpu), model.map(Seat::Gpu));
            let device = device.filter(|gpu| *gpu < n).map(Seat::Gpu);
            let best = if n > 0 { Seat::Gpu(0) } else { Seat::Cpu };
            if let Ok(placement) = config.place(&gpus(n), device, best) {
                for seat in [placement.data(), placement.model()] {
                    prop_assert!(seat == Seat::Cpu || gpus(n).iter().any(|gpu| Seat::Gpu(gpu.index) == seat));
                }
                prop_assert!(device.is_none_or(|device| placement.model() == device));
                prop_assert_eq!(matches!(placement, Placement::Pair { .. }), data.is_some());
            }
        }
    }
}
