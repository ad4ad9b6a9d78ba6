use std::{io, path::PathBuf};

/// Why a PyTorch file gives no tensors.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{path} {problem}", path = path.display())]
#[diagnostic(forward(problem))]
pub struct PthError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: PthProblem,
}

/// What is wrong with a PyTorch file. Every text goes on after the file's name.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PthProblem {
    /// The system cannot read it.
    #[error("cannot be read: {0}")]
    #[diagnostic(code(data::pth_unreadable), help("check the file's permissions and its disk"))]
    Read(io::Error),

    /// Neither a zip archive nor an older container.
    #[error("is no PyTorch file: {0}")]
    #[diagnostic(
        code(data::pth_format),
        help("name a file that torch.save or safetensors wrote, or copy it again if it was cut off")
    )]
    NotPth(&'static str),

    /// A container that PyTorch wrote before version 1.6.
    #[error("is in a container from before PyTorch 1.6 ({0})")]
    #[diagnostic(
        code(data::pth_legacy),
        help(
            "write it anew, then use new.pth: python -c \"import torch; torch.save(torch.load('old.pth', \
             map_location='cpu'), 'new.pth')\" (with weights_only=False in torch.load if it asks for that and you \
             trust the file)"
        )
    )]
    Legacy(&'static str),

    /// A program with its weights, not weights alone.
    #[error("is a TorchScript archive: a program, not a dictionary of tensors")]
    #[diagnostic(
        code(data::pth_torchscript),
        help(
            "take its weights out, then use new.pth: python -c \"import torch; torch.save(torch.jit.load('old.pt', \
             map_location='cpu').state_dict(), 'new.pth')\""
        )
    )]
    TorchScript,

    /// The pickle asks for something that only Python could make.
    #[error(
        "holds a Python object, `{0}`: only tensors, containers and plain values are read, and nothing is run"
    )]
    #[diagnostic(
        code(data::pth_object),
        help(
            "if you trust the file, take its weights out where its code can be imported, then use new.pth: python -c \
             \"import torch; w = torch.load('old.pth', map_location='cpu', weights_only=False); w = w if \
             isinstance(w, dict) else w.state_dict(); torch.save(w.get('state_dict', w), 'new.pth')\""
        )
    )]
    Object(String),

    /// A rare form of the format.
    #[error("uses {0}, which is not read")]
    #[diagnostic(
        code(data::pth_unsupported),
        help(
            "write it anew with plain settings, then use new.pth: python -c \"import torch; \
             torch.save(torch.load('old.pth', map_location='cpu'), 'new.pth')\" (with weights_only=False in torch.load \
             if it asks for that and you trust the file)"
        )
    )]
    Unsupported(String),

    /// Elements of a kind that fullbore does not use.
    #[error("has the unsupported element type torch.{class} in `{name}`")]
    #[diagnostic(
        code(data::pth_dtype),
        help(
            "convert that tensor to float64, float32, float16, bfloat16, int64, int32, uint8 or bool and save again"
        )
    )]
    Dtype {
        /// The tensor.
        name: String,
        /// Its class of storage.
        class: String,
    },

    /// The bytes contradict each other.
    #[error("is damaged: {0}")]
    #[diagnostic(code(data::pth_damaged), help("copy the file again, or use another"))]
    Damaged(String),

    /// It would take far more memory than its own size.
    #[error("holds {0}: more than a file of weights needs")]
    #[diagnostic(
        code(data::pth_too_large),
        help("save only the weights in Python: torch.save(model.state_dict(), 'new.pth')")
    )]
    TooLarge(String),

    /// There is no dictionary of tensors where one is looked for.
    #[error("holds no named tensors at its top level, nor in `state_dict` or `model` there ({found})")]
    #[diagnostic(
        code(data::pth_no_tensors),
        help("save the weights alone in Python: torch.save(model.state_dict(), 'new.pth')")
    )]
    NoTensors {
        /// What is there instead.
        found: String,
    },

    /// The machine has no memory for it.
    #[error("needs {needed_bytes} bytes of memory for `{name}`, which are not there")]
    #[diagnostic(
        code(limit::memory),
        help("free memory, or save the weights alone: torch.save(model.state_dict(), 'new.pth')")
    )]
    Memory {
        /// The tensor or the part of the archive.
        name: String,
        /// Its size.
        needed_bytes: u64,
    },
}

pub(super) fn damaged<T>(reason: impl Into<String>) -> Result<T, PthProblem> {
    Err(PthProblem::Damaged(reason.into()))
}
