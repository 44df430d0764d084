//! The binary. The commands are in the library, in `cli`; this file only returns the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(evenkeel::cli::run())
}
