//! The loaders on real files, in memory and on disk.

mod cache;
mod data_set;
mod eval;
mod faults;
mod real_data;
mod stream;
