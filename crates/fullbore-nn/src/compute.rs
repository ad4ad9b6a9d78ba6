//! Where a model computes, and in which arithmetic: the keys `device` and `precision`.

use fullbore_torch::{Device, Error, Kind};
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
            PrecisionChoice::Fp32 => None,
            PrecisionChoice::Bf16 => Some(Kind::BFloat16),
            PrecisionChoice::Fp16 => Some(Kind::Half),
            PrecisionChoice::Auto => match device {
                Device::Cuda(_) => Some(Kind::BFloat16),
                _ => cpu_has_fast_bf16().then_some(Kind::BFloat16),
            },
        }
    }
}

/// Whether the CPU has matrix instructions for bf16 (AMX). Without them bf16 loses to fp32: with AVX-512's own bf16
/// instructions a U-Net step took 1.4 times as long.
fn cpu_has_fast_bf16() -> bool {
    std::fs::read_to_string("/proc/cpuinfo")
        .is_ok_and(|text| text.split_whitespace().any(|flag| flag == "amx_bf16"))
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

/// The name that `precision:` accepts.
pub fn precision_name(precision: Option<Kind>) -> &'static str {
    match precision {
        None => "fp32",
        Some(Kind::BFloat16) => "bf16",
        Some(_) => "fp16",
    }
}
