//! `fullbore doctor`: what the program found on this machine.

use fullbore_nn::compute::{PrecisionChoice, device_name, precision_name};
use fullbore_torch::{CudaState, Device};
use fullbore_train::setup::cores;

use super::CommandError;
use crate::exit_codes;
use crate::render::say;
use fullbore_torch::HostMemory;

/// Prints one `name  value` line per finding.
pub(super) fn run() -> Result<i32, CommandError> {
    let runtime = fullbore_torch::start();
    let best = runtime.best_device();
    line("fullbore", env!("CARGO_PKG_VERSION"));
    let folder = fullbore_torch::library_folder();
    line("libtorch", &format!("{} in {}", fullbore_torch::LIBTORCH_VERSION, folder.display()));
    line("device: auto", &device_name(best));
    line("precision: auto", precision_name(PrecisionChoice::Auto.resolve(best)));
    match &runtime.cuda {
        CudaState::NoDriver => line("GPUs", "none (no NVIDIA driver: libcuda.so.1 does not load)"),
        CudaState::LibrariesMissing(reason) => line("GPUs", &format!("not usable: {reason}")),
        CudaState::Ready(devices) if devices.is_empty() => {
            line("GPUs", "none usable, though a driver is there")
        }
        CudaState::Ready(devices) => {
            for device in devices {
                let name = device.name.as_deref().unwrap_or("unnamed (built without the CUDA plug-in)");
                let capability = device
                    .capability
                    .map_or(String::new(), |c| format!(", compute capability {}.{}", c / 10, c % 10));
                let memory = fullbore_torch::device_memory(Device::Cuda(device.index))?;
                let memory = memory.total.map_or(String::new(), |bytes| format!(", {}", gib(bytes)));
                line(&format!("cuda:{}", device.index), &format!("{name}{capability}{memory}"));
            }
        }
    }
    line("cores", &cores().to_string());
    line("libtorch threads", &fullbore_torch::num_threads().to_string());
    line(
        "instruction set",
        &format!("{} (libtorch's kernels); {}", fullbore_torch::capability(), cpu_flags()),
    );
    line("host memory", &host_memory());
    Ok(exit_codes::OK)
}

fn line(name: &str, value: &str) {
    say!("{name:18}{value}");
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// The extensions that decide which kernels are fast.
#[cfg(target_arch = "x86_64")]
fn cpu_flags() -> String {
    let mut found = Vec::new();
    macro_rules! note {
        ($($name:tt),*) => { $(if std::arch::is_x86_feature_detected!($name) { found.push($name); })* };
    }
    note!("avx2", "fma", "avx512f", "avx512vnni", "avx512bf16", "avx512fp16");
    if found.is_empty() { "none of AVX2 and AVX-512".into() } else { found.join(" ") }
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_flags() -> String {
    std::env::consts::ARCH.into()
}

/// The machine's memory, and the limit of this process's control group where there is one.
fn host_memory() -> String {
    let Some(memory) = HostMemory::read() else { return "unknown".into() };
    let limit = memory
        .limit
        .map_or(String::new(), |bytes| format!(", limited to {} by the control group", gib(bytes)));
    format!("{} free of {}{limit}", gib(memory.available), gib(memory.total))
}
