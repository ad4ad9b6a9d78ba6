//! Settings of the whole process that must be right before anything else runs.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// libtorch's thread pool reads these when it is loaded. Threads that wait for work spin for a while, then sleep: too
/// long takes the cores away from the threads that decode, too short costs a system call in every small operation.
/// Measured on 2 noisy cores, U-Net at 128 px: never spinning took 1.2 to 1.6 times as long as this, always spinning
/// between 0.8 and 1.1 (records/2026-11-21-cpu/spin_count.txt has one of the runs).
const WAIT_POLICY: (&str, &str) = ("OMP_WAIT_POLICY", "passive");
const SPIN_COUNT: (&str, &str) = ("GOMP_SPINCOUNT", "10000");

/// Keeps freed memory, and starts the program once more when the environment lacks what libtorch reads at load time.
pub fn tune_environment() {
    fullbore_torch::keep_freed_memory();
    let given = |(name, _): (&str, &str)| std::env::var_os(name).is_some();
    if given(WAIT_POLICY) || given(SPIN_COUNT) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let arguments = std::env::args_os().skip(1);
    // Returns only when it fails; the run then goes on with the pool's default, a little slower.
    let _error = Command::new(program).args(arguments).envs([WAIT_POLICY, SPIN_COUNT]).exec();
}
