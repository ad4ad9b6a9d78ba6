//! What a governor is told, and what it answers.

use std::fmt;

use crate::budget::in_words;

/// One attempt at a step, or at a forward pass of an evaluation or a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Samples of its largest micro-batch.
    pub samples: usize,
    /// Bytes of one sample, as a measure of its size.
    pub sample_bytes: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is done.
    Done,
    /// Memory ran out.
    OutOfMemory,
}

/// What to do before the next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Nothing,
    /// Free memory. `aggressive`: also what can be made again, such as cached samples and batches waiting ready.
    CleanUp {
        /// Whether it is about the host's memory or the device's.
        of_host: bool,
        /// How much to free.
        aggressive: bool,
        /// The reason in words.
        why: String,
    },
    /// Smaller micro-batches. After running out of memory: free all of the attempt first, and clean up aggressively.
    Halve(Change),
    /// Larger micro-batches.
    Grow(Change),
    /// The smallest micro-batch does not fit: clean up as for [`Halve`](Self::Halve), and recompute activations in
    /// backward from now on. Never taken back.
    Recompute,
    /// Nothing helps; the attempt cannot be done. A prediction may leave this sample out and go on.
    GiveUp {
        /// The reason in words.
        why: String,
        /// What would fit, in words.
        fits: String,
    },
}

/// Another size of micro-batches. Displays as the reason for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Samples of the attempt.
    pub from: usize,
    /// Samples from now on.
    pub to: usize,
    /// The reason.
    pub why: WhyMicro,
    /// When fewer samples than a group share BatchNorm statistics from now on: samples of a group. Results are then
    /// not the same as with whole groups.
    pub below_group: Option<usize>,
}

/// Why the size of micro-batches was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyMicro {
    /// Memory ran out.
    OutOfMemory,
    /// Memory was nearly full.
    NearlyFull {
        /// Most bytes that tensors held.
        peak: u64,
        /// Bytes that there are.
        limit: u64,
    },
    /// Twice the samples have room.
    Room {
        /// Most bytes that tensors held.
        peak: u64,
        /// Bytes that there are.
        limit: u64,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            WhyMicro::OutOfMemory => f.write_str("out of memory")?,
            WhyMicro::NearlyFull { peak, limit } => {
                write!(f, "memory was nearly full: {} of {}", in_words(peak), in_words(limit))?;
            }
            WhyMicro::Room { peak, limit } => {
                write!(f, "there is room again: {} of {} in use", in_words(peak), in_words(limit))?;
            }
        }
        match self.below_group {
            Some(group) => {
                write!(f, "; BatchNorm statistics are now over {} samples instead of {group}", self.to)
            }
            None => Ok(()),
        }
    }
}
