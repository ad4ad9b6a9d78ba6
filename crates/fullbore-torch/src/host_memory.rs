//! The host's memory, as the kernel and the process's control group tell it.

use std::fs;

/// Bytes that this process may use.
#[derive(Clone, Copy, Debug)]
pub struct HostMemory {
    /// All there is.
    pub total: u64,
    /// What can be used without pushing other programs out.
    pub available: u64,
    /// Limit of the control group, where it has one.
    pub limit: Option<u64>,
}

impl HostMemory {
    /// Reads it; `None` where the kernel does not tell.
    pub fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
            .iter()
            .find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
            // Version 1 writes a huge number where there is no limit.
            .filter(|&bytes| bytes < 1 << 60);
        Some(Self { total: field("MemTotal:")?, available: field("MemAvailable:")?, limit })
    }

    /// Bytes that this process can still get: beyond them the kernel kills it.
    pub fn usable(&self) -> u64 {
        self.limit.map_or(self.available, |limit| limit.min(self.available))
    }
}
