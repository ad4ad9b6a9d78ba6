//! PyTorch's own files (`.pth`, `.pt`): a zip archive of a pickle and one part for each storage. Nothing of it is
//! executed; whatever a file holds, reading ends with tensors or an error, and takes memory and time in proportion to the
//! file's length.

mod archive;
mod error;
mod pickle;
mod tensors;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::NamedTensor;
use archive::Archive;
use pickle::{MAX_PICKLE_BYTES, Pickled, Value};

pub use error::{PthError, PthProblem};

/// Where trainers keep the weights in a larger dictionary: the first of these that holds tensors. An average comes
/// before the raw weights, because it is what was evaluated.
const WRAPPERS: [&str; 4] = ["state_dict_ema", "state_dict", "model_state_dict", "model"];
/// How deep they are looked for.
const MAX_DEPTH: usize = 3;
/// Most tensors of one dictionary.
const MAX_TENSORS: usize = 1 << 16;
/// Longest name of a tensor; what has a longer one is passed over.
const MAX_NAME_BYTES: usize = 1024;
/// How many of the keys that are there an error names.
const MAX_SHOWN: usize = 5;

/// How `torch.save` began before version 1.6: its magic number, pickled.
const LEGACY_PICKLE: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
const TAR_MAGIC_AT: usize = 257;
const TAR_MAGIC: &[u8] = b"ustar";
const ZIP: &[u8] = b"PK";

/// The tensors of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PthContent {
    /// The tensors by name, row-major whatever they were in Python.
    pub tensors: BTreeMap<String, NamedTensor<'static>>,
    /// The keys that led to them, for example `state_dict`; none when they stood at the top.
    pub within: Vec<String>,
    /// Keys beside the tensors or beside that path, whose values were passed over.
    pub passed_over: Vec<String>,
}

/// Reads the dictionary of tensors in a file that `torch.save` wrote.
///
/// # Errors
/// A [`WeightsError`](crate::WeightsError): the file cannot be opened, or [`PthProblem`] tells what is wrong with it.
pub fn read(path: &Path) -> Result<PthContent, crate::WeightsError> {
    let (file, _) = crate::read::open(path)?;
    read_from(BufReader::new(file)).map_err(|problem| PthError { path: path.into(), problem }.into())
}

/// The same from anything that can be read at any place.
///
/// # Errors
/// [`PthProblem`].
pub fn read_from(mut file: impl Read + Seek) -> Result<PthContent, PthProblem> {
    check_container(&mut file)?;
    let mut archive = Archive::open(file)?;
    let top = top_folder(&archive)?;
    if archive.len_of(&format!("{top}/constants.pkl")).is_some() {
        return Err(PthProblem::TorchScript);
    }
    let byte_order = format!("{top}/byteorder");
    if archive.len_of(&byte_order).is_some() && archive.read(&byte_order)? != b"little" {
        return Err(PthProblem::Unsupported("another byte order than little-endian".into()));
    }
    let pickle = format!("{top}/data.pkl");
    if archive.len_of(&pickle).is_some_and(|len| len > MAX_PICKLE_BYTES) {
        return Err(PthProblem::TooLarge(format!("a pickle of more than {MAX_PICKLE_BYTES} bytes")));
    }
    let bytes = archive.read(&pickle)?;
    let pickled = Pickled::parse(&bytes)?;
    let selected = Selected::find(&pickled)?;
    Ok(PthContent {
        tensors: tensors::read(&mut archive, &top, &pickled, &selected.tensors)?,
        within: selected.within.iter().map(ToString::to_string).collect(),
        passed_over: selected.passed_over.into_iter().collect(),
    })
}

/// Tells older containers and other files by their first bytes.
fn check_container(file: &mut (impl Read + Seek)) -> Result<(), PthProblem> {
    let mut start = Vec::new();
    file.by_ref()
        .take((TAR_MAGIC_AT + TAR_MAGIC.len()) as u64)
        .read_to_end(&mut start)
        .map_err(PthProblem::Read)?;
    file.seek(SeekFrom::Start(0)).map_err(PthProblem::Read)?;
    if start.starts_with(ZIP) {
        Ok(())
    } else if start.starts_with(LEGACY_PICKLE) {
        Err(PthProblem::Legacy("a row of pickles"))
    } else if start.get(TAR_MAGIC_AT..).is_some_and(|magic| magic == TAR_MAGIC) {
        Err(PthProblem::Legacy("a tar archive"))
    } else {
        Err(PthProblem::NotPth("its first bytes are not those of a zip archive"))
    }
}

/// The folder that everything lies in; PyTorch names it after the file.
fn top_folder<R: Read + Seek>(archive: &Archive<R>) -> Result<String, PthProblem> {
    let is_top = |folder: &&str| !folder.is_empty() && !folder.contains('/');
    let top = archive.names().filter_map(|name| name.strip_suffix("/data.pkl")).find(is_top);
    top.map(str::to_string).ok_or(PthProblem::NotPth("a zip archive without data.pkl"))
}

/// The dictionary whose tensors are the weights.
struct Selected<'a> {
    tensors: BTreeMap<&'a str, Value<'a>>,
    within: Vec<&'a str>,
    passed_over: BTreeSet<String>,
}

impl<'a> Selected<'a> {
    fn find(pickled: &Pickled<'a>) -> Result<Self, PthProblem> {
        let mut at = pickled.root();
        let mut within = Vec::new();
        let mut passed_over = BTreeSet::new();
        while let Some((key, below)) = wrapped(pickled, at, MAX_DEPTH - within.len()) {
            let beside = pickled.dict(at).unwrap_or_default().iter().map(|(key, _)| shown(*key));
            passed_over.extend(beside.filter(|beside| beside != key));
            within.push(key);
            at = below;
        }
        let items = pickled.dict(at).unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for &(key, value) in items {
            match key {
                Value::Text(name) if name.len() <= MAX_NAME_BYTES && pickled.tensor(value).is_some() => {
                    tensors.insert(name, value);
                }
                _ => {
                    passed_over.insert(shown(key));
                }
            }
        }
        if tensors.len() > MAX_TENSORS {
            return Err(PthProblem::TooLarge(format!("more than {MAX_TENSORS} tensors")));
        }
        if tensors.is_empty() {
            return Err(PthProblem::NoTensors { found: what_is_there(pickled, at) });
        }
        Ok(Self { tensors, within, passed_over })
    }
}

/// The first wrapper in a dictionary that leads to tensors.
fn wrapped<'a>(pickled: &Pickled<'a>, at: Value<'a>, depth: usize) -> Option<(&'static str, Value<'a>)> {
    let items = pickled.dict(at).filter(|_| depth > 0)?;
    WRAPPERS.into_iter().find_map(|wrapper| {
        let (_, below) = items.iter().rev().find(|(key, _)| *key == Value::Text(wrapper))?;
        let has_tensors = pickled.dict(*below)?.iter().any(|(_, value)| pickled.tensor(*value).is_some());
        (has_tensors || wrapped(pickled, *below, depth - 1).is_some()).then_some((wrapper, *below))
    })
}

fn what_is_there(pickled: &Pickled<'_>, at: Value<'_>) -> String {
    match pickled.dict(at) {
        None if pickled.tensor(at).is_some() => "it is a single tensor".into(),
        None => "it is no dictionary".into(),
        Some([]) => "the dictionary is empty".into(),
        Some(items) => {
            let keys: Vec<String> = items.iter().take(MAX_SHOWN).map(|(key, _)| shown(*key)).collect();
            let more = if items.len() > MAX_SHOWN { ", ..." } else { "" };
            format!("its keys are {}{more}", keys.join(", "))
        }
    }
}

/// A key as an error or a report shows it.
fn shown(key: Value<'_>) -> String {
    const MAX_CHARS: usize = 80;
    match key {
        Value::Text(text) => text.chars().take(MAX_CHARS).collect(),
        Value::Int(number) => number.to_string(),
        _ => "a key that is no text".into(),
    }
}

#[cfg(test)]
mod tests;
