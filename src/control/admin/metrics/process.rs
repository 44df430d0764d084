//! What the operating system says of this process, under the names that Prometheus' client libraries use.

use super::page::{Kind, Page};
use crate::base::time;
use std::fs;
use std::sync::OnceLock;

/// The families of the process. One that cannot be read is left out.
pub(super) fn process(page: &mut Page) {
    for (name, kind, help, value) in families(&Reading::now()) {
        if let Some(value) = value {
            page.family_named(name, kind, help).sample(&[], value);
        }
    }
}

type Family = (&'static str, Kind, &'static str, Option<f64>);

fn families(reading: &Reading) -> [Family; 8] {
    [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "User and system processor time spent.",
            reading.cpu_seconds,
        ),
        ("process_open_fds", Kind::Gauge, "Open file descriptors.", reading.open_fds),
        ("process_max_fds", Kind::Gauge, "The most file descriptors that may be open.", reading.max_fds),
        ("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory size.", reading.virtual_bytes),
        (
            "process_virtual_memory_max_bytes",
            Kind::Gauge,
            "The most virtual memory that there may be; -1 is unlimited.",
            reading.virtual_max_bytes,
        ),
        ("process_resident_memory_bytes", Kind::Gauge, "Resident memory size.", reading.resident_bytes),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, since 1970.",
            reading.start_seconds,
        ),
        ("process_threads", Kind::Gauge, "Threads of the process.", reading.threads),
    ]
}

/// What was read; `None` where it could not be.
#[derive(Debug, Default)]
struct Reading {
    cpu_seconds: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    virtual_bytes: Option<f64>,
    virtual_max_bytes: Option<f64>,
    resident_bytes: Option<f64>,
    start_seconds: Option<f64>,
    threads: Option<f64>,
}

impl Reading {
    fn now() -> Self {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let field = |number| stat_field(&stat, number);
        let page = rustix::param::page_size() as f64;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        // The folder that is read is open while it is read.
        let open = fs::read_dir("/proc/self/fd").map(|folder| folder.count().saturating_sub(1) as f64).ok();
        Reading {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks),
            open_fds: open,
            max_fds: limit(&limits, "Max open files"),
            virtual_bytes: field(23),
            virtual_max_bytes: limit(&limits, "Max address space"),
            resident_bytes: field(24).map(|pages| pages * page),
            start_seconds: field(22).zip(boot_seconds()).map(|(started, boot)| boot + started / ticks),
            threads: field(20),
        }
    }
}

/// A field of `/proc/self/stat` by its number in proc(5). The second one may have any character.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number - 3)?.parse().ok()
}

/// A soft limit of `/proc/self/limits`.
fn limit(limits: &str, name: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(-1.0),
        number => number.parse().ok(),
    }
}

/// When the machine was started, in seconds since 1970, by the clock as it was at the first call: a start time that moved
/// with the clock would look like a restart.
fn boot_seconds() -> Option<f64> {
    static SECONDS: OnceLock<Option<f64>> = OnceLock::new();
    *SECONDS.get_or_init(boot_seconds_now)
}

fn boot_seconds_now() -> Option<f64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let now = time::wall().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(now.as_secs_f64() - uptime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "1234 (a) b) c) S 1 1 1 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 17 0 4242 999424 300 1844";
        for (number, value) in
            [(14, 250.0), (15, 50.0), (20, 17.0), (22, 4242.0), (23, 999_424.0), (24, 300.0)]
        {
            assert_eq!(stat_field(stat, number), Some(value), "field {number}");
        }
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn limits_are_soft_ones() {
        let limits = "Limit   Soft  Hard Units\nMax open files            1024    4096  files\nMax address space  unlimited unlimited bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(limit(limits, "Max address space"), Some(-1.0));
        assert_eq!(limit(limits, "Max cpu time"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let reading = Reading::now();
        let now = time::unix_seconds() as f64;
        assert!(reading.threads >= Some(1.0) && reading.open_fds >= Some(3.0), "{reading:?}");
        assert!(reading.resident_bytes > Some(1e6) && reading.virtual_bytes > reading.resident_bytes);
        assert!(reading.cpu_seconds.is_some() && reading.max_fds > Some(3.0), "{reading:?}");
        let started = reading.start_seconds.unwrap();
        assert_eq!(Reading::now().start_seconds, Some(started), "it does not move");
        assert!((now - 86_400.0..=now + 2.0).contains(&started), "{started} and now {now}");
    }
}
