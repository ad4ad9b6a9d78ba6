//! Decisions about memory, threads and placement, from plain values: numbers in, decisions out. Knows no clock, no
//! files, no device and no libtorch, so that every rule can be tested on any machine.
//!
//! ```text
//! MemoryConfig (the user's `memory:` section) + Bounds -> Governor
//! an attempt at a step + Readings -> Governor::observe -> Decision: clean up, halve, grow, recompute, give up
//! probes of the real step -> plan_micro -> the micro-batch to begin with, and what fills the memory
//! ```
//!
//! Beside it: how many batches wait ready on the device ([`buffer`]), which device does what ([`placement`]), how cores
//! are shared between the model and the data ([`threads`]), what of all this is changed while a run goes ([`arrangement`]),
//! and failures on purpose ([`faults`]).

pub mod arrangement;
mod budget;
pub mod buffer;
mod ceilings;
mod chain;
mod cleaning;
mod decision;
pub mod faults;
mod governor;
mod memory_config;
mod micro_plan;
pub mod placement;
mod readings;
pub mod threads;

pub use budget::{Budget, BudgetError, in_words};
pub use decision::{Attempt, Change, Decision, Outcome, WhyMicro};
pub use governor::{Bounds, Governor, GovernorState};
pub use memory_config::{MemoryConfig, SettingError};
pub use micro_plan::{FixedBytes, MicroPlan, MicroPlanError, Probe, plan_micro};
pub use readings::{DeviceReading, HostReading, Readings};
