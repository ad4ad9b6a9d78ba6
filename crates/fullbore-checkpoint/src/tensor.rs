use std::borrow::Cow;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    U8,
    Bool,
}

impl Dtype {
    /// Every element type that a checkpoint can hold.
    pub const ALL: [Dtype; 8] =
        [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I64, Dtype::I32, Dtype::U8, Dtype::Bool];

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U8 | Dtype::Bool => 1,
        }
    }

    pub(crate) fn to_safetensors(self) -> safetensors::Dtype {
        match self {
            Dtype::F64 => safetensors::Dtype::F64,
            Dtype::F32 => safetensors::Dtype::F32,
            Dtype::F16 => safetensors::Dtype::F16,
            Dtype::BF16 => safetensors::Dtype::BF16,
            Dtype::I64 => safetensors::Dtype::I64,
            Dtype::I32 => safetensors::Dtype::I32,
            Dtype::U8 => safetensors::Dtype::U8,
            Dtype::Bool => safetensors::Dtype::BOOL,
        }
    }

    pub(crate) fn from_safetensors(dtype: safetensors::Dtype) -> Option<Self> {
        Dtype::ALL.into_iter().find(|known| known.to_safetensors() == dtype)
    }
}

/// A tensor by name: row-major, little-endian elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor<'a> {
    /// State key, for example `down1.conv.0.weight`.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, outermost first; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements: `shape` product times `dtype.size()` bytes.
    pub bytes: Cow<'a, [u8]>,
}

impl NamedTensor<'_> {
    /// Bytes that `shape` and `dtype` ask for, or `None` when that overflows.
    pub(crate) fn expected_bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.size(), |bytes, &side| bytes.checked_mul(side))
    }
}
