//! Memory readings of a device, in one form for GPUs and the CPU.

use crate::error::{Result, check};
use crate::{Device, HostMemory, allocator, ffi};

/// What a device's memory holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Held by live tensors.
    pub in_use: u64,
    /// Held by the allocator: live tensors and blocks kept for reuse.
    pub reserved: u64,
    /// Highest `in_use` since the last [`reset_device_peak`].
    pub peak: u64,
    /// All there is, where the device can tell (a GPU's memory; on the CPU the budget, if one is set).
    pub total: Option<u64>,
    /// What the device, or the host's system, could still give to anyone. `None` where it does not tell.
    pub free: Option<u64>,
}

/// Reads a device's memory. Does not wait for running work.
pub fn device_memory(device: Device) -> Result<DeviceMemory> {
    let Device::Cuda(_) = device else {
        let cpu = allocator::cpu_memory();
        return Ok(DeviceMemory {
            in_use: cpu.in_use,
            reserved: cpu.in_use + cpu.cached,
            peak: cpu.peak,
            total: cpu.budget,
            free: HostMemory::read().map(|host| host.usable()),
        });
    };
    let index = ffi::device_index(device);
    let (mut free, mut total, mut in_use, mut reserved, mut peak) = (0, 0, 0, 0, 0);
    // SAFETY: valid out-parameters.
    check("device_memory", unsafe { ffi::fb_device_memory(index, &mut free, &mut total) })?;
    // SAFETY: valid out-parameters.
    check("device_memory", unsafe {
        ffi::fb_device_allocator(index, &mut in_use, &mut reserved, &mut peak)
    })?;
    Ok(DeviceMemory { in_use, reserved, peak, total: Some(total), free: Some(free) })
}

/// Starts a new measurement of a device's peak.
pub fn reset_device_peak(device: Device) -> Result<()> {
    match device {
        Device::Cuda(_) => {
            // SAFETY: a plain value.
            check("reset_peak", unsafe { ffi::fb_device_reset_peak(ffi::device_index(device)) })
        }
        _ => {
            allocator::reset_cpu_peak();
            Ok(())
        }
    }
}

/// Gives memory that the allocator keeps for reuse back to the device or the system.
pub fn empty_device_cache(device: Device) -> Result<()> {
    match device {
        // SAFETY: no arguments.
        Device::Cuda(_) => check("empty_cache", unsafe { ffi::fb_device_empty_cache() }),
        _ => {
            allocator::release_cached_cpu_memory();
            Ok(())
        }
    }
}

/// Waits until a device has done all work given to it. Returns at once for the CPU.
pub fn synchronize(device: Device) -> Result<()> {
    match device {
        Device::Cuda(_) => {
            // SAFETY: a plain value.
            check("synchronize", unsafe { ffi::fb_device_synchronize(ffi::device_index(device)) })
        }
        _ => Ok(()),
    }
}
