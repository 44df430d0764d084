//! Realistic mistakes of an operator, over all keys, and what `check` says of each: whose key, what is wrong, what to write.
//! The table is `tests/commands/mistakes.txt`: a configuration in one line, and indented below it the beginning of the message.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

const TABLE: &str = include_str!("mistakes.txt");
/// Programs that run at a time: most of their time is that of a start.
const AT_A_TIME: usize = 4;

/// The mistakes with the messages that are expected.
fn table() -> Vec<(&'static str, Vec<&'static str>)> {
    let lines = TABLE.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("//"));
    let mut table: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in lines {
        match line.strip_prefix("    ") {
            None => table.push((line, Vec::new())),
            Some(message) => table.last_mut().unwrap().1.push(message),
        }
    }
    table
}

/// What `check` prints for the file, without lines of the source; `None` where it is not told as a fault.
fn told(folder: &Path, text: &str) -> Option<String> {
    let file = folder.join("config.json");
    fs::write(&file, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["check", "--file-only"])
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code() == Some(3) && output.stderr.is_empty()).then_some(said)
}

/// Each message with its place and without the folder of the test.
fn check(folder: &Path, text: &str, expected: &[&str]) -> Result<(), String> {
    let said = told(folder, text).ok_or_else(|| format!("{text}\n    is no fault"))?;
    let said = said.replace(folder.canonicalize().unwrap().to_str().unwrap(), "FOLDER");
    for message in expected {
        let is_told = |line: &str| {
            let place = line.strip_prefix("config.json:1:").and_then(|rest| rest.split_once(": "));
            place.is_some_and(|(column, told)| column.parse::<u32>().is_ok() && told.starts_with(message))
        };
        if expected.is_empty() || !said.lines().any(is_told) {
            return Err(format!("{text}\n    {message}\nis not told; but:\n{said}"));
        }
    }
    Ok(())
}

#[test]
fn each_mistake_is_told_with_its_key_and_what_to_write() {
    let table = table();
    assert!(table.len() >= 200 && table.iter().all(|(_, expected)| !expected.is_empty()));
    let wrong: Vec<String> = thread::scope(|scope| {
        let threads = (0..AT_A_TIME).map(|first| {
            let table = &table;
            scope.spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                let own = table.iter().skip(first).step_by(AT_A_TIME);
                own.filter_map(|(text, expected)| check(folder.path(), text, expected).err())
                    .collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

/// Every part of the file is in the table.
#[test]
fn the_table_is_about_all_parts_of_the_file() {
    for part in [
        "load_balancer.",
        "load_balancer.listeners[0].tls.",
        "servers.list[0].",
        "servers.health_check.",
        "servers.ejection.",
        "servers.tls.",
        "servers.sticky",
        "servers.hash",
        "pools",
        "routes[0].",
        "rate_limit",
        "basic_auth",
        "forward_auth",
        "error_pages",
        "compression",
        "timeouts.",
        "limits.",
        "log.",
        "admin.",
        "threadpool.",
        "tracing.",
        "include",
        "not JSON",
        "the environment variable",
    ] {
        let is_there = table().iter().any(|(_, expected)| expected.iter().any(|told| told.contains(part)));
        assert!(is_there, "{part}");
    }
}
