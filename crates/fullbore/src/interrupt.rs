//! Ctrl-C and SIGTERM: the first asks the run to save and stop, the second ends the program at once. A file that grows
//! beyond the limit of `ulimit -f` is an error like a full disk, not the end of the program.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::exit_codes::INTERRUPTED;

/// The system takes no handlers.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the handlers of signals cannot be set")]
#[diagnostic(code(bug::signals), help("please report this"))]
pub(crate) struct SignalsError(#[from] std::io::Error);

/// A flag that the first signal raises.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>, SignalsError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in the order of registration: the first signal finds the flag down, the second up.
        flag::register_conditional_shutdown(signal, INTERRUPTED, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    // A signal that somebody waits for does not kill; the write then fails.
    flag::register(SIGXFSZ, Arc::default())?;
    Ok(stop)
}
