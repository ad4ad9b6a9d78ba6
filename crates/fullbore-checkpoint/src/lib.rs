//! Named tensors and run state in one file, written atomically and checked when read. No libtorch: tensors are
//! plain bytes.
//!
//! A checkpoint is a [safetensors](https://github.com/huggingface/safetensors) file, so Python reads it with
//! `safetensors.torch.load_file`. Everything that is not a tensor is text in its `__metadata__`. Two entries
//! there belong to this crate:
//!
//! - `fullbore.format`: the version of what the file promises, now `1`;
//! - `fullbore.crc32`: the CRC-32 of the whole file, in eight hexadecimal digits, computed with these digits as
//!   zeros. One flipped bit anywhere makes [`read`] fail; a file without any `fullbore.` entry was made by
//!   others and is read without this check.
//!
//! The header is sorted and the tensors lie in name order within falling element size, so the same content
//! always gives the same bytes.
//!
//! [`read_weights`] takes the weights out of files that others wrote, PyTorch's among them ([`pth`]).

mod checksum;
mod error;
pub mod pth;
mod read;
mod tensor;
pub mod training;
mod weights;
mod write;

pub use error::CheckpointError;
pub use pth::{PthError, PthProblem};
pub use read::{Checkpoint, MAX_HEADER_BYTES, read, read_metadata};
pub use tensor::{Dtype, NamedTensor};
pub use weights::{ForeignWeights, WeightsError, read_weights};
pub use write::{remove_unfinished, write};

/// Version of the file's meaning that this crate writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const FORMAT_KEY: &str = "fullbore.format";
const CRC_KEY: &str = "fullbore.crc32";
const OWN_PREFIX: &str = "fullbore.";
