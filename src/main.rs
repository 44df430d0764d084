//! The binary. The commands are in the library, in `cli`; here is only the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(evenkeel::cli::run())
}
