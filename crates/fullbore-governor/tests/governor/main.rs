//! The governor's decisions, on chosen numbers and in simulated memories.

mod chosen_numbers;
mod simulated_memory;
