//! A row of numbers that vector code likes.

use std::ops::{Deref, DerefMut};

/// Rows are padded to whole blocks of this many numbers, so that vector loops have no rest.
pub(super) const BLOCK: usize = 16;

/// A row of f32, whole blocks, beginning with a cache line: a store of sixteen numbers never touches two lines.
#[derive(Debug)]
pub(super) struct Row {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Row {
    /// Zeros for `width` pixels and the padding.
    pub(super) fn new(width: u32) -> Self {
        let len = (width as usize).next_multiple_of(BLOCK);
        let memory = vec![0.0; len + BLOCK];
        // Moving the vector does not move its memory.
        let start = memory.as_ptr().align_offset(BLOCK * size_of::<f32>()).min(BLOCK);
        Self { memory, start, len }
    }
}

impl Deref for Row {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

impl DerefMut for Row {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.len]
    }
}
