//! The loaders on real files, in memory and on disk.

mod cache;
mod damage;
mod data_set;
mod eval;
mod faults;
mod formats;
mod points;
mod real_data;
mod regions;
mod replacing;
mod stream;
mod stuck;
