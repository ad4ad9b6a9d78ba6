//! A reader of the pickles that `torch.save` writes (protocol 2, as `pickletools` documents it). It builds plain
//! values; what Python would call a function for is known by name or refused.
//!
//! Values are small and copied, everything larger lies in one list and is meant by its place there: a pickle that holds
//! itself or nests a million times costs no more than its length.

use std::collections::HashMap;

use super::error::{PthProblem, damaged};

/// Longest pickle that is read. A thousand tensors take some hundred KiB.
pub(super) const MAX_PICKLE_BYTES: u64 = 8 << 20;
/// Most containers and tensors of a pickle; a tensor needs seven.
const MAX_OBJECTS: usize = 1 << 20;

/// A value of a pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// `None`, a truth value, a float, or an integer beyond 64 bits: of no use here.
    Plain,
    Int(i64),
    Text(&'a str),
    Known(Known<'a>),
    Object(usize),
}

/// The names of Python that a pickle may mention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Known<'a> {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    /// A class of storage, for example `FloatStorage`.
    Storage(&'a str),
}

/// What a [`Value::Object`] means.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// Arguments of `_rebuild_tensor_v2`: storage, offset, size, stride, ...
    Tensor(Value<'a>),
    /// What identifies a storage: `'storage'`, class, key, device, number of elements.
    Storage(Value<'a>),
}

/// A pickle's content.
#[derive(Debug)]
pub(super) struct Pickled<'a> {
    root: Value<'a>,
    objects: Vec<Object<'a>>,
}

impl<'a> Pickled<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, PthProblem> {
        let machine =
            Machine { rest: bytes, stack: vec![], marks: vec![], memo: HashMap::new(), objects: vec![] };
        machine.run()
    }

    pub(super) fn root(&self) -> Value<'a> {
        self.root
    }

    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.object(value)? {
            Object::Dict(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The arguments that a tensor was rebuilt from.
    pub(super) fn tensor(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Tensor(arguments) => self.tuple(*arguments),
            _ => None,
        }
    }

    /// What identifies a storage.
    pub(super) fn storage(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value)? {
            Object::Storage(id) => self.tuple(*id),
            _ => None,
        }
    }

    fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(place) => self.objects.get(place),
            _ => None,
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Pickled<'a>, PthProblem> {
        loop {
            match self.byte()? {
                b'.' => {
                    let root = self.pop()?;
                    return Ok(Pickled { root, objects: self.objects });
                }
                0x80 => self.protocol()?,
                b'(' => self.marks.push(self.stack.len()),
                b'N' | 0x88 | 0x89 => self.stack.push(Value::Plain),
                b'G' => {
                    self.take(8)?;
                    self.stack.push(Value::Plain);
                }
                b'J' => {
                    let value = self.u32()?.cast_signed();
                    self.stack.push(Value::Int(value.into()));
                }
                b'K' => {
                    let value = self.byte()?;
                    self.stack.push(Value::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(value.into()));
                }
                0x8a => self.long()?,
                b'X' => {
                    let text = self.text()?;
                    self.stack.push(Value::Text(text));
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Known(known(module, name)?));
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Object::Storage(id))?;
                }
                b'}' => self.push(Object::Dict(vec![]))?,
                b']' => self.push(Object::List(vec![]))?,
                b')' => self.push(Object::Tuple(vec![]))?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Object::Tuple(items))?;
                }
                n @ 0x85..=0x87 => {
                    let items = self.pop_many(usize::from(n - 0x84))?;
                    self.push(Object::Tuple(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.list()?.push(item);
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.list()?.extend(items);
                }
                b's' => {
                    let item = self.pop_many(2)?;
                    self.dict()?.push((item[0], item[1]));
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    if !items.len().is_multiple_of(2) {
                        return damaged("its pickle has a key without a value");
                    }
                    self.dict()?.extend(items.chunks_exact(2).map(|item| (item[0], item[1])));
                }
                b'q' => {
                    let key = self.byte()?.into();
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.u32()?;
                    self.remember(key)?;
                }
                b'h' => {
                    let key = self.byte()?.into();
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.u32()?;
                    self.recall(key)?;
                }
                b'R' => self.reduce()?,
                // Attributes of a dictionary: versions of modules.
                b'b' => {
                    self.pop()?;
                    self.dict()?;
                }
                other => return Err(PthProblem::Unsupported(format!("the pickle instruction {other:#04x}"))),
            }
        }
    }

    fn protocol(&mut self) -> Result<(), PthProblem> {
        match self.byte()? {
            0..=2 => Ok(()),
            other => Err(PthProblem::Unsupported(format!("pickle protocol {other}"))),
        }
    }

    /// An integer of any length.
    fn long(&mut self) -> Result<(), PthProblem> {
        let n = self.byte()?;
        let bytes = self.take(n.into())?;
        let value = match bytes.last() {
            None => Value::Int(0),
            Some(top) if bytes.len() <= 8 => {
                let mut filled = [if top & 0x80 == 0 { 0 } else { 0xff }; 8];
                filled[..bytes.len()].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(filled))
            }
            Some(_) => Value::Plain,
        };
        self.stack.push(value);
        Ok(())
    }

    /// A call: function and arguments lie on the stack.
    fn reduce(&mut self) -> Result<(), PthProblem> {
        let call = self.pop_many(2)?;
        let arguments = match call[1] {
            Value::Object(place) => self.objects.get(place),
            _ => None,
        };
        let Some(Object::Tuple(items)) = arguments else {
            return damaged("its pickle calls a function without arguments");
        };
        match (call[0], items.as_slice()) {
            (Value::Known(Known::OrderedDict), []) => self.push(Object::Dict(vec![])),
            (Value::Known(Known::RebuildTensor), _) => self.push(Object::Tensor(call[1])),
            (Value::Known(Known::Size), &[only]) | (Value::Known(Known::RebuildParameter), &[only, ..]) => {
                self.stack.push(only);
                Ok(())
            }
            _ => damaged("its pickle calls a function in a way that is not known"),
        }
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), PthProblem> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(PthProblem::TooLarge(format!("more than {MAX_OBJECTS} containers and tensors")));
        }
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
        Ok(())
    }

    /// Takes the uppermost value, if it lies above the last mark.
    fn pop(&mut self) -> Result<Value<'a>, PthProblem> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_many(&mut self, n: usize) -> Result<Vec<Value<'a>>, PthProblem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n).filter(|&from| from >= floor) {
            Some(from) => Ok(self.stack.split_off(from)),
            None => damaged("its pickle takes more than there is"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, PthProblem> {
        match self.marks.pop() {
            Some(from) => Ok(self.stack.split_off(from)),
            None => damaged("its pickle ends a list that was not begun"),
        }
    }

    fn top(&self) -> Option<Value<'a>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor { self.stack.last().copied() } else { None }
    }

    fn list(&mut self) -> Result<&mut Vec<Value<'a>>, PthProblem> {
        match self.top_object() {
            Some(Object::List(items)) => Ok(items),
            _ => damaged("its pickle adds to what is no list"),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(Value<'a>, Value<'a>)>, PthProblem> {
        match self.top_object() {
            Some(Object::Dict(items)) => Ok(items),
            _ => damaged("its pickle adds to what is no dictionary"),
        }
    }

    fn top_object(&mut self) -> Option<&mut Object<'a>> {
        match self.top()? {
            Value::Object(place) => self.objects.get_mut(place),
            _ => None,
        }
    }

    fn remember(&mut self, key: u32) -> Result<(), PthProblem> {
        match self.top() {
            Some(value) => {
                self.memo.insert(key, value);
                Ok(())
            }
            None => damaged("its pickle remembers what is not there"),
        }
    }

    fn recall(&mut self, key: u32) -> Result<(), PthProblem> {
        match self.memo.get(&key) {
            Some(&value) => {
                self.stack.push(value);
                Ok(())
            }
            None => damaged("its pickle recalls what it did not remember"),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], PthProblem> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => damaged("its pickle is cut off"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PthProblem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, PthProblem> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, PthProblem> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, PthProblem> {
        let n = self.u32()?;
        to_text(self.take(n as usize)?)
    }

    fn line(&mut self) -> Result<&'a str, PthProblem> {
        let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') else {
            return damaged("its pickle is cut off");
        };
        let line = self.take(end)?;
        self.take(1)?;
        to_text(line)
    }
}

fn to_text(bytes: &[u8]) -> Result<&str, PthProblem> {
    std::str::from_utf8(bytes).or_else(|_| damaged("a text in its pickle is no UTF-8"))
}

/// The allow-list.
fn known<'a>(module: &'a str, name: &'a str) -> Result<Known<'a>, PthProblem> {
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Known::OrderedDict),
        ("torch", "Size") => Ok(Known::Size),
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Known::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Known::RebuildParameter),
        ("torch" | "torch.storage", name) if name.ends_with("Storage") => Ok(Known::Storage(name)),
        _ => Err(PthProblem::Object(format!("{}.{}", module.escape_debug(), name.escape_debug()))),
    }
}
