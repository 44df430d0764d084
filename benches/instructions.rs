//! Counts the instructions of the codec and of the policies, row by row, under valgrind's callgrind.
//!
//! Time measurements on a busy machine are unreliable; an instruction count is exactly the same each time, so a change
//! that costs a few percent is visible at once. `cargo bench --profile instructions --bench instructions` compares each
//! row with its ceiling in `benches/instructions.ceilings.json` and fails when one is exceeded; `-- --accept` measures
//! and writes new ceilings. The profile leaves out the link-time optimization of a release, which takes minutes; a
//! release needs fewer instructions in most rows.
//!
//! Each row runs twice, once with `N` and once with `2 N` iterations; the difference divided by `N` is one iteration.
//! Start, set-up and end of the program cancel out, and with them the length of paths and of the environment. A row
//! runs on a thread of its own, whose stack and heap have the same layout each time: the code paths of glibc and memchr
//! depend on memory alignment. Valgrind presents the same processor to every program as long as the real one has AVX2,
//! so run-time dispatch is the same, too.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]

#[path = "instructions/ceilings.rs"]
mod ceilings;
#[path = "instructions/routes.rs"]
mod routes;
#[path = "instructions/rows.rs"]
mod rows;
#[path = "instructions/servers.rs"]
mod servers;

use ceilings::Ceilings;
use rows::{ALL, Row};
use std::process::{Command, ExitCode};

/// The hidden argument that makes this program run one row this many times.
const ARGUMENT: &str = "--run-the-row";
/// Iterations of the shorter run.
const ITERATIONS: u64 = 1000;
/// The message when valgrind is missing.
const NO_VALGRIND: &str =
    "valgrind is not installed, so no instructions are counted: apt-get install valgrind";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let outcome = match arguments.first().map(String::as_str) {
        Some(ARGUMENT) => run_row(&arguments[1..]).map(|()| true),
        _ if has("--help") => {
            println!("{HELP}");
            Ok(true)
        }
        // `cargo test --all-targets` only needs it to start; `cargo bench` passes `--bench`. Arguments for other
        // benches may be present and are ignored.
        _ if has("--bench") => count(has("--accept"), has("--strict")),
        _ => Ok(true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

const HELP: &str =
    "Counts the instructions of codec and policies under valgrind, and compares with the ceilings

Usage: cargo bench --profile instructions --bench instructions -- [OPTIONS]

Options:
  --accept  Write new ceilings: what is measured, and 5 % more
  --strict  Fail where valgrind is missing, instead of saying so";

/// Runs one row this many times, for callgrind.
fn run_row(arguments: &[String]) -> Result<(), String> {
    let [name, times] = arguments else { return Err("a row and a number are needed".to_string()) };
    let row = ALL.iter().find(|row| row.name == name).ok_or(format!("there is no row {name}"))?;
    let times = times.parse().map_err(|error| format!("{times}: {error}"))?;
    let work = row.work;
    let thread = std::thread::spawn(move || work(times));
    thread.join().map_err(|_| "the row panicked".to_string())
}

/// Counts all rows, prints them, and compares them; false when a ceiling is exceeded.
fn count(accept: bool, strict: bool) -> Result<bool, String> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("{NO_VALGRIND}");
        return Ok(!strict);
    }
    let old = Ceilings::read()?;
    if let Some(why) = old.do_not_hold_here() {
        println!("{why}");
    }
    println!("{:<34}{:>14}{:>12}{:>10}", "instructions of one", "measured", "ceiling", "room");
    let mut measured = Vec::new();
    for row in ALL {
        let count = per_iteration(row)?;
        println!("{}", old.line(row.name, count));
        measured.push((row.name, count));
    }
    if accept {
        Ceilings::of(&measured).write()?;
        println!("\nnew ceilings are in benches/instructions.ceilings.json: check them in with the reason");
        return Ok(true);
    }
    Ok(old.judge(&measured))
}

fn per_iteration(row: &Row) -> Result<f64, String> {
    let once = instructions(row, ITERATIONS)?;
    let twice = instructions(row, 2 * ITERATIONS)?;
    Ok(twice.saturating_sub(once) as f64 / ITERATIONS as f64)
}

/// All instructions of this program with one row, from start to end.
fn instructions(row: &Row, times: u64) -> Result<u64, String> {
    let cannot = |why: String| format!("{} was not counted: {why}", row.name);
    let program = std::env::current_exe().map_err(|error| cannot(error.to_string()))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program);
    valgrind.args([ARGUMENT, row.name, &times.to_string()]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output =
        valgrind.env_clear().env("PATH", path).output().map_err(|error| cannot(error.to_string()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(cannot(told.into_owned()));
    }
    // ==123== Collected : 1234567
    let count = told.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.ok_or_else(|| cannot(format!("valgrind reported no count:\n{told}")))
}
