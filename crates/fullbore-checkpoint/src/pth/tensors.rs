//! From a pickle's tensors and an archive's storages to row-major bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::archive::Archive;
use super::error::{PthProblem, damaged};
use super::pickle::{Known, Pickled, Value};
use crate::{Dtype, NamedTensor};

/// Tensors may share storages, and a stride of 0 repeats elements: up to this many times the file's length comes out.
const MAX_GROWTH: u64 = 4;
/// What any file may come to, however short.
const ALWAYS_ALLOWED_BYTES: u64 = 1 << 20;
/// PyTorch's own bound.
const MAX_SIDES: usize = 64;

/// A tensor that is known but not read.
#[derive(Debug)]
struct View<'a> {
    name: &'a str,
    dtype: Dtype,
    key: &'a str,
    /// Elements of the storage.
    storage_len: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Elements of the tensor.
    len: usize,
}

/// Reads the tensors of `named`, each storage once. `top` is the folder within the archive.
pub(super) fn read<'a, R: Read + Seek>(
    archive: &mut Archive<R>,
    top: &str,
    pickled: &Pickled<'a>,
    named: &BTreeMap<&'a str, Value<'a>>,
) -> Result<BTreeMap<String, NamedTensor<'static>>, PthProblem> {
    let mut by_storage: BTreeMap<&str, Vec<View<'a>>> = BTreeMap::new();
    let allowed = archive.n_bytes().saturating_mul(MAX_GROWTH).saturating_add(ALWAYS_ALLOWED_BYTES);
    let mut total = 0_u64;
    for (&name, &value) in named {
        let view = view(pickled, name, value)?;
        total = total.saturating_add((view.len * view.dtype.size()) as u64);
        if total > allowed {
            return Err(PthProblem::TooLarge(format!("tensors of more than {allowed} bytes")));
        }
        by_storage.entry(view.key).or_default().push(view);
    }
    let mut tensors = BTreeMap::new();
    for (key, views) in by_storage {
        let part = format!("{top}/data/{key}");
        for view in &views {
            let needed = (view.storage_len * view.dtype.size()) as u64;
            if archive.len_of(&part).is_some_and(|got| got < needed) {
                return damaged(format!("`{}` needs more bytes than `{part}` has", view.name));
            }
        }
        let storage = archive.read(&part)?;
        for view in views {
            let bytes = Cow::Owned(view.gather(&storage)?);
            let tensor =
                NamedTensor { name: view.name.to_string(), dtype: view.dtype, shape: view.shape, bytes };
            tensors.insert(tensor.name.clone(), tensor);
        }
    }
    Ok(tensors)
}

fn view<'a>(pickled: &Pickled<'a>, name: &'a str, value: Value<'a>) -> Result<View<'a>, PthProblem> {
    let wrong =
        || PthProblem::Damaged(format!("the tensor `{}` is not described rightly", name.escape_debug()));
    let [storage, offset, shape, strides, ..] = pickled.tensor(value).ok_or_else(wrong)? else {
        return Err(wrong());
    };
    let [Value::Text("storage"), Value::Known(Known::Storage(class)), Value::Text(key), _, storage_len] =
        pickled.storage(*storage).ok_or_else(wrong)?
    else {
        return Err(wrong());
    };
    let Some(dtype) = dtype_of(class) else {
        return Err(PthProblem::Dtype { name: name.escape_debug().to_string(), class: class.to_string() });
    };
    let sides = |value: Value<'a>| {
        let sides = pickled.tuple(value).filter(|sides| sides.len() <= MAX_SIDES).ok_or_else(wrong)?;
        sides.iter().map(|&side| to_usize(side).ok_or_else(wrong)).collect::<Result<Vec<_>, _>>()
    };
    let (shape, strides) = (sides(*shape)?, sides(*strides)?);
    let (storage_len, offset) =
        (to_usize(*storage_len).ok_or_else(wrong)?, to_usize(*offset).ok_or_else(wrong)?);
    // No side may overflow, not even beside a side of 0.
    let room = shape.iter().try_fold(dtype.size(), |bytes, &side| bytes.checked_mul(side.max(1)));
    if shape.len() != strides.len()
        || room.is_none_or(|bytes| bytes > isize::MAX as usize)
        || storage_len.checked_mul(dtype.size()).is_none()
    {
        return Err(wrong());
    }
    let len = shape.iter().product();
    let last = shape.iter().zip(&strides).try_fold(offset, |last, (&side, &stride)| {
        last.checked_add(side.saturating_sub(1).checked_mul(stride)?)
    });
    if len > 0 && last.is_none_or(|last| last >= storage_len) {
        return damaged(format!("the tensor `{}` lies beyond its storage", name.escape_debug()));
    }
    Ok(View { name, dtype, key, storage_len, offset, shape, strides, len })
}

impl View<'_> {
    /// The tensor's elements in row-major order.
    fn gather(&self, storage: &[u8]) -> Result<Vec<u8>, PthProblem> {
        let size = self.dtype.size();
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(self.len * size).is_err() {
            let needed_bytes = (self.len * size) as u64;
            return Err(PthProblem::Memory { name: self.name.to_string(), needed_bytes });
        }
        if self.len == 0 {
            return Ok(bytes);
        }
        // The innermost sides that lie row-major are copied at once, the others are counted like an odometer.
        let mut run = 1;
        let mut outer = self.shape.len();
        while outer > 0 && (self.strides[outer - 1] == run || self.shape[outer - 1] == 1) {
            outer -= 1;
            run *= self.shape[outer];
        }
        let mut place = vec![0; outer];
        let mut at = self.offset;
        loop {
            bytes.extend_from_slice(&storage[at * size..(at + run) * size]);
            let Some(side) = (0..outer).rev().find(|&side| place[side] + 1 < self.shape[side]) else { break };
            place[side] += 1;
            place[side + 1..].fill(0);
            at = self.offset
                + place.iter().zip(&self.strides).map(|(place, stride)| place * stride).sum::<usize>();
        }
        Ok(bytes)
    }
}

fn to_usize(value: Value<'_>) -> Option<usize> {
    match value {
        Value::Int(number) => number.try_into().ok(),
        _ => None,
    }
}

fn dtype_of(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::Bool,
        _ => return None,
    })
}
