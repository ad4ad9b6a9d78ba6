use fullbore_data::DataError;

/// Why no more batches come.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum FeedError {
    /// The loader.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(DataError),
    /// The device, or its memory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Torch(#[from] fullbore_torch::Error),
    /// The system gives no more threads.
    #[error("cannot start the thread that brings batches to the device")]
    #[diagnostic(
        code(limit::threads),
        help("raise the limit on processes (ulimit -u), or set buffer.size=0")
    )]
    Thread(#[source] std::io::Error),
    /// The thread that makes batches has panicked.
    #[error("the thread that brings batches to the device has ended by a fault of its own")]
    #[diagnostic(code(bug::feed_thread), help("please report this, with what was printed before"))]
    ThreadLost,
}
