//! Resource usage of a process and its children: processor time, context switches, memory.

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

/// The kernel reports processor time in hundredths of a second on every Linux machine.
const TICKS_PER_SECOND: f64 = 100.0;
/// The time that a stopped child has before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The usage of a process tree since its start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system, in seconds.
    pub cpu_s: f64,
    /// Of living threads.
    pub switches: u64,
}

/// The memory of a process tree.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The sum of the peaks since [`reset_peak`], in KiB.
    pub peak_kib: u64,
    /// Currently resident, in KiB; pages that processes share count for each.
    pub resident_kib: u64,
    /// Currently resident, in KiB; pages that processes share are divided among them.
    pub proportional_kib: u64,
}

/// A process with all its descendants.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        all.extend(tasks(pid).iter().flat_map(|task| children(pid, *task)));
    }
    all
}

/// The usage of these processes.
pub fn usage(pids: &[u32]) -> Usage {
    let cpu_s = pids.iter().filter_map(|pid| cpu_ticks(*pid)).sum::<f64>() / TICKS_PER_SECOND;
    let of_task = |pid: u32, task: u32| {
        let status = read(&format!("/proc/{pid}/task/{task}/status"));
        field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:")
    };
    let of_process = |pid: &u32| tasks(*pid).iter().map(|task| of_task(*pid, *task)).sum::<u64>();
    Usage { cpu_s, switches: pids.iter().map(of_process).sum() }
}

/// The memory of these processes.
pub fn memory(pids: &[u32]) -> Memory {
    let mut memory = Memory::default();
    for pid in pids {
        let status = read(&format!("/proc/{pid}/status"));
        memory.peak_kib += field(&status, "VmHWM:");
        memory.resident_kib += field(&status, "VmRSS:");
        memory.proportional_kib += field(&read(&format!("/proc/{pid}/smaps_rollup")), "Pss:");
    }
    memory
}

/// Current resident KiB, open descriptors and threads of these processes.
pub fn held(pids: &[u32]) -> (u64, usize, usize) {
    let resident = |pid: &u32| field(&read(&format!("/proc/{pid}/status")), "VmRSS:");
    let descriptors = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let threads = |pid: &u32| tasks(*pid).len();
    (pids.iter().map(resident).sum(), pids.iter().map(descriptors).sum(), pids.iter().map(threads).sum())
}

/// Resets the peaks. If that is not allowed they count from the start.
pub fn reset_peak(pids: &[u32]) {
    for pid in pids {
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// Asks a child to end; kills it by its id if it does not.
pub fn stop(child: &mut Child) {
    if let Some(pid) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process(pid, Signal::TERM);
    }
    let until = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < until {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn tasks(pid: u32) -> Vec<u32> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn children(pid: u32, task: u32) -> Vec<u32> {
    let text = read(&format!("/proc/{pid}/task/{task}/children"));
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// User and system time, fields 14 and 15; counted after the name, which may contain anything.
fn cpu_ticks(pid: u32) -> Option<f64> {
    let stat = read(&format!("/proc/{pid}/stat"));
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}
