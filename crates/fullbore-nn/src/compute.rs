//! Where a model computes, and in which arithmetic: the keys `device` and `precision`.

use fullbore_torch::{Device, Error, Kind, set_tf32};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best there is.
    Auto,
    /// This one.
    Named(Device),
}

/// Arithmetic of forward and backward; weights, losses and norms are fp32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionChoice {
    /// bf16 where the device computes faster in it, else fp32.
    Auto,
    /// IEEE single precision.
    Fp32,
    /// Single precision, but convolutions and matrix products round their factors to TF32, where the device is CUDA;
    /// elsewhere it is fp32.
    Tf32,
    /// bfloat16 for convolutions and matrix products.
    Bf16,
    /// IEEE half precision for convolutions and matrix products, with a loss scale. For GPUs without bf16: CPUs compute
    /// it some fifty times slower than fp32.
    Fp16,
}

impl DeviceChoice {
    /// The device itself, checked.
    ///
    /// # Errors
    /// When the named device is not there; says which are.
    pub fn resolve(self) -> Result<Device, Error> {
        let runtime = fullbore_torch::start();
        match self {
            DeviceChoice::Auto => Ok(runtime.best_device()),
            DeviceChoice::Named(device) => runtime.check_device(device),
        }
    }
}

impl PrecisionChoice {
    /// The type that convolutions run in, `None` for fp32.
    pub fn resolve(self, device: Device) -> Option<Kind> {
        match self {
            PrecisionChoice::Fp32 | PrecisionChoice::Tf32 => None,
            PrecisionChoice::Bf16 => Some(Kind::BFloat16),
            PrecisionChoice::Fp16 => Some(Kind::Half),
            PrecisionChoice::Auto => match device {
                Device::Cuda(_) => Some(Kind::BFloat16),
                _ => cpu_has_fast_bf16().then_some(Kind::BFloat16),
            },
        }
    }
}

impl PrecisionChoice {
    /// Tells libtorch how to compute in fp32, where that was asked for. Holds for the whole process.
    ///
    /// # Errors
    /// When libtorch refuses.
    pub fn apply(self) -> Result<(), Error> {
        match self {
            PrecisionChoice::Fp32 => set_tf32(false),
            PrecisionChoice::Tf32 => set_tf32(true),
            PrecisionChoice::Auto | PrecisionChoice::Bf16 | PrecisionChoice::Fp16 => Ok(()),
        }
    }

    /// The arithmetic that a device really gives: `fp32`, `tf32`, `bf16` or `fp16`.
    pub fn name_on(self, device: Device) -> &'static str {
        match (self, device) {
            (PrecisionChoice::Tf32, Device::Cuda(_)) => "tf32",
            _ => precision_name(self.resolve(device)),
        }
    }
}

/// Whether the CPU is faster in bf16 than in fp32.
fn cpu_has_fast_bf16() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| has_fast_bf16(&text))
}

/// The same, from the text of `/proc/cpuinfo`: with matrix instructions (AMX), or with AVX-512's bf16 instructions on an
/// AMD processor. Measured with these: a U-Net step takes 0.6 of the time of fp32 on AMD's, 1.4 times as long on Intel's.
fn has_fast_bf16(cpuinfo: &str) -> bool {
    let has = |word: &str| cpuinfo.split_whitespace().any(|other| other == word);
    has("amx_bf16") || has("AuthenticAMD") && has("avx512_bf16")
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DeviceChoice::Auto => serializer.serialize_str("auto"),
            DeviceChoice::Named(device) => serializer.serialize_str(&device_name(*device)),
        }
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Named(Device::Cpu)),
            "cuda" => Ok(DeviceChoice::Named(Device::Cuda(0))),
            other => match other.strip_prefix("cuda:").and_then(|n| n.parse().ok()) {
                Some(index) => Ok(DeviceChoice::Named(Device::Cuda(index))),
                None => {
                    Err(de::Error::invalid_value(de::Unexpected::Str(other), &"auto, cpu, cuda or cuda:N"))
                }
            },
        }
    }
}

/// The name that `device:` accepts: `cpu`, `cuda:0`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".into(),
        Device::Vulkan => "vulkan".into(),
    }
}

/// The name of a lower precision, or `fp32`.
pub fn precision_name(precision: Option<Kind>) -> &'static str {
    match precision {
        None => "fp32",
        Some(Kind::BFloat16) => "bf16",
        Some(_) => "fp16",
    }
}

#[cfg(test)]
mod tests {
    use fullbore_torch::{start, tf32};

    use super::*;

    #[test]
    fn tf32_is_named_where_it_is() {
        let named = |choice: PrecisionChoice| [Device::Cpu, Device::Cuda(0)].map(|on| choice.name_on(on));
        assert_eq!(named(PrecisionChoice::Tf32), ["fp32", "tf32"]);
        assert_eq!(named(PrecisionChoice::Fp32), ["fp32", "fp32"]);
        assert_eq!(named(PrecisionChoice::Fp16), ["fp16", "fp16"]);
    }

    #[test]
    fn bf16_is_for_the_processors_that_gain_by_it() {
        let cpu = |vendor: &str, flags: &str| {
            has_fast_bf16(&format!("vendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n"))
        };
        assert!(cpu("GenuineIntel", "avx512f avx512_bf16 amx_bf16 amx_tile"));
        assert!(cpu("AuthenticAMD", "avx512f avx512_bf16"));
        assert!(!cpu("GenuineIntel", "avx512f avx512_bf16"));
        assert!(!cpu("AuthenticAMD", "avx2"));
    }

    #[test]
    fn fp32_and_tf32_say_what_they_mean() {
        start();
        for (choice, expected) in
            [(PrecisionChoice::Tf32, true), (PrecisionChoice::Bf16, true), (PrecisionChoice::Fp32, false)]
        {
            choice.apply().unwrap();
            assert_eq!(tf32(), expected, "{choice:?}");
        }
    }
}
