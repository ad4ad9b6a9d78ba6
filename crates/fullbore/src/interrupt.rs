//! Ctrl-C and SIGTERM: the first asks the run to save and stop, the second ends the program at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit_codes::INTERRUPTED;

/// The system takes no handlers.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the handlers for Ctrl-C and SIGTERM cannot be set")]
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
    Ok(stop)
}
