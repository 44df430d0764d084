//! The measured system: the machine, the versions, the sizes of the programs.

use super::proxy::Kind;
use super::result::{Machine, Program};
use std::path::Path;
use std::process::Command;

/// The complete description.
pub fn look() -> Machine {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = text("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let meminfo = text("/proc/meminfo");
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    Machine {
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        model: model.map_or("processor", |(_, model)| model.trim()).to_string(),
        memory_mib: memory.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
        kernel: text("/proc/sys/kernel/osrelease").trim().to_string(),
        commit: commit(),
        programs: Kind::measured().into_iter().filter(has_version).map(program).collect(),
    }
}

/// The others are nothing, and this program.
fn has_version(kind: &Kind) -> bool {
    !matches!(kind, Kind::Direct | Kind::Floor)
}

fn program(kind: Kind) -> Program {
    let path = kind.program().ok();
    Program {
        proxy: kind.name().to_string(),
        version: kind.version(),
        file_bytes: path.as_deref().and_then(|path| path.metadata().ok()).map_or(0, |file| file.len()),
        loaded_bytes: path.as_deref().and_then(loaded_bytes).unwrap_or(0),
    }
}

/// The commit that is measured, with a `+` when the sources differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let told =
            Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().to_string())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".to_string() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|told| !told.is_empty());
    if changed { commit + "+" } else { commit }
}

/// The part of the file that is loaded to run it: the segments, without symbols and debug information, which some
/// builds keep in the file and others do not.
fn loaded_bytes(path: &Path) -> Option<u64> {
    const LOAD: u32 = 1;
    let file = std::fs::read(path).ok()?;
    let word = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
    // ELF, 64 bits, little-endian: table of segments at 32, size of an entry at 54, their number at 56.
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (word(32)? as usize, usize::from(half(54)?), usize::from(half(56)?));
    let mut sum = 0;
    for entry in (0..count).map(|number| table + number * size) {
        let kind = u32::from_le_bytes(*file.get(entry..)?.first_chunk()?);
        sum += if kind == LOAD { word(entry + 32)? } else { 0 };
    }
    Some(sum)
}
