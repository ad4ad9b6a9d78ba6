//! The exit codes of the command. They are public: scripts rely on them.
//!
//! | code | meaning                                             | first segment of the error's code |
//! |------|-----------------------------------------------------|-----------------------------------|
//! | 0    | done                                                |                                   |
//! | 1    | a fault in fullbore                                 | `bug`, and everything unknown     |
//! | 2    | settings or command line                            | `config`                          |
//! | 3    | the user's files                                    | `data`                            |
//! | 4    | memory or disk                                      | `limit`                           |
//! | 5    | the device or its driver                            | `device`                          |
//! | 6    | results cannot be written                           | `output`                          |
//! | 130  | interrupted (Ctrl-C) after saving                   | `interrupted`                     |

use miette::Diagnostic;

/// Done.
pub const OK: i32 = 0;
/// A fault in fullbore.
pub const BUG: i32 = 1;
/// Wrong settings or command line.
pub const CONFIG: i32 = 2;
/// Something is wrong with the user's files.
pub const DATA: i32 = 3;
/// Memory or disk do not suffice.
pub const LIMIT: i32 = 4;
/// The device or its driver fails.
pub const DEVICE: i32 = 5;
/// Results cannot be written.
pub const OUTPUT: i32 = 6;
/// The user stopped the command.
pub const INTERRUPTED: i32 = 130;

/// The exit code for an error: who must act, by the first segment of its diagnostic code.
///
/// An error without a code of its own takes that of the diagnostic it wraps; [`BUG`] when there is none.
pub fn code_of(error: &dyn Diagnostic) -> i32 {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.code() {
            let code = code.to_string();
            return match code.split("::").next() {
                Some("config") => CONFIG,
                Some("data") => DATA,
                Some("limit") => LIMIT,
                Some("device") => DEVICE,
                Some("output") => OUTPUT,
                Some("interrupted") => INTERRUPTED,
                _ => BUG,
            };
        }
        next = error.diagnostic_source();
    }
    BUG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error, Diagnostic)]
    enum Inner {
        #[error("a")]
        #[diagnostic(code(data::mask_value))]
        Data,
        #[error("b")]
        #[diagnostic(code(novel::thing))]
        Novel,
        #[error("c")]
        Silent,
    }

    #[derive(Debug, thiserror::Error, Diagnostic)]
    enum Outer {
        #[error(transparent)]
        #[diagnostic(transparent)]
        Same(Inner),
        #[error("while reading")]
        Wrapped(
            #[source]
            #[diagnostic_source]
            Inner,
        ),
        #[error("while writing")]
        #[diagnostic(code(output::x))]
        Own(
            #[source]
            #[diagnostic_source]
            Inner,
        ),
    }

    #[test]
    fn the_first_segment_decides() {
        assert_eq!(code_of(&Inner::Data), DATA);
        assert_eq!(code_of(&Inner::Novel), BUG);
        assert_eq!(code_of(&Inner::Silent), BUG);
        for (segment, code) in [
            ("bug", BUG),
            ("config", CONFIG),
            ("data", DATA),
            ("limit", LIMIT),
            ("device", DEVICE),
            ("output", OUTPUT),
            ("interrupted", INTERRUPTED),
        ] {
            let error = miette::MietteDiagnostic::new("x").with_code(format!("{segment}::y"));
            assert_eq!(code_of(&error), code, "{segment}");
        }
    }

    #[test]
    fn wrapped_errors_keep_their_code() {
        assert_eq!(code_of(&Outer::Same(Inner::Data)), DATA);
        assert_eq!(code_of(&Outer::Wrapped(Inner::Data)), DATA);
        assert_eq!(code_of(&Outer::Wrapped(Inner::Silent)), BUG);
        assert_eq!(code_of(&Outer::Own(Inner::Data)), OUTPUT);
    }
}
