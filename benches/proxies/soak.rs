//! The soak test: Evenkeel under full load for minutes, and whether memory, descriptors and threads stay constant.
//!
//! Small responses are most of the load. In between there are uploads, large and chunked responses and new connections,
//! so that a leak in any of these shows, too. The usage at the end is compared with the early usage; nothing counts
//! until every kind has run once, and for at least a tenth of the run. The bench fails if the growth exceeds the limit.

use super::arguments::Arguments;
use super::machine;
use super::origin::Origin;
use super::process;
use super::proxy::{Kind, Proxy};
use super::result::{Machine, write_json};
use super::settings::Setup;
use super::steady;
use super::work::{self, Work};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// Full load on two processors.
const CONNECTIONS: usize = 64;
/// The duration of one kind of load.
const SLICE: Duration = Duration::from_secs(5);
/// The kinds, in turn; observations are made under small responses.
const ROUND: [&str; 8] =
    ["small", "small", "post-64k", "small", "chunked", "small", "new-connection", "get-1m"];
/// Observations until every kind has run.
const LOOKS_OF_A_ROUND: usize = 4;
/// Growth from early to late that is not a leak: caches of the allocator, and a few workers more or less, each with its
/// buffers and connections. The worker pool has a limit of its own.
const RESIDENT_MORE: f64 = 1.10;
const RESIDENT_MORE_KIB: f64 = 2048.0;
const DESCRIPTORS_MORE: f64 = 32.0;
const THREADS_MORE: f64 = 8.0;

/// One observation, at the end of a period of small responses.
#[derive(Clone, Copy, Debug, Serialize)]
struct Look {
    after_s: f64,
    requests: u64,
    requests_per_s: f64,
    resident_kib: f64,
    descriptors: f64,
    threads: f64,
}

#[derive(Debug, Serialize)]
struct Soak {
    machine: Machine,
    minutes: f64,
    requests: u64,
    complaints: Vec<String>,
    looks: Vec<Look>,
    verdicts: Vec<String>,
    flat: bool,
}

/// Runs the load for this many minutes, prints, writes `soak.json`; false when something grew or failed.
pub fn run(arguments: &Arguments, minutes: f64, folder: &Path) -> Result<bool, String> {
    let origin = Origin::start(1)?;
    let setup = Setup { max_workers: arguments.workers, health_check: true, ..Setup::default() };
    let proxy = Proxy::start(Kind::Evenkeel, &origin.addresses, setup)?;
    println!("soak: {minutes} minutes of full load on evenkeel");
    let mut soak = Soak {
        machine: machine::look(),
        minutes,
        requests: 0,
        complaints: Vec::new(),
        looks: Vec::new(),
        verdicts: Vec::new(),
        flat: true,
    };
    let begun = Instant::now();
    for name in ROUND.iter().cycle() {
        if begun.elapsed().as_secs_f64() >= minutes * 60.0 {
            break;
        }
        soak.slice(find(name)?, &proxy, begun);
    }
    soak.judge();
    soak.tell();
    let path = folder.join("soak.json");
    write_json(&soak, &path)?;
    println!("written to {}", path.display());
    Ok(soak.flat && soak.complaints.is_empty())
}

fn find(name: &str) -> Result<&'static Work, String> {
    work::ALL.iter().find(|work| work.name == name).ok_or(format!("there is no workload {name}"))
}

impl Soak {
    fn slice(&mut self, work: &Work, proxy: &Proxy, begun: Instant) {
        // The observation is made under load: afterwards there would be nothing to see.
        let look_at = work.name == "small";
        let (sample, held) = std::thread::scope(|scope| {
            let load = scope.spawn(|| steady::sample(work, proxy, CONNECTIONS, SLICE));
            let held = look_at.then(|| most_held(&proxy.pids(), || load.is_finished()));
            (load.join(), held)
        });
        let Ok(sample) = sample else { return self.complaints.push("the load panicked".to_string()) };
        self.requests += (sample.requests_per_s * SLICE.as_secs_f64()) as u64;
        self.complaints.extend(sample.complaint.map(|complaint| format!("{}: {complaint}", work.name)));
        if let Some((resident_kib, descriptors, threads)) = held {
            let look = Look {
                after_s: begun.elapsed().as_secs_f64(),
                requests: self.requests,
                requests_per_s: sample.requests_per_s,
                resident_kib,
                descriptors,
                threads,
            };
            println!(
                "  {:>6.0} s {:>12} requests {:>9.0}/s {:>8.1} MiB {:>5} descriptors {:>4} threads",
                look.after_s,
                look.requests,
                look.requests_per_s,
                resident_kib / 1024.0,
                descriptors,
                threads
            );
            self.looks.push(look);
        }
    }

    /// Compares the last third with the first third of the observations that count.
    fn judge(&mut self) {
        let left_out = LOOKS_OF_A_ROUND.max(self.looks.len().div_ceil(10));
        let looks = self.looks.get(left_out..).unwrap_or_default();
        let third = looks.len() / 3;
        if third == 0 {
            self.flat = false;
            return self.verdicts.push("too short to judge: run at least two minutes".to_string());
        }
        let (early, late) = (&looks[..third], &looks[looks.len() - third..]);
        let mut compare = |name: &str, of: fn(&Look) -> f64, bound: fn(f64) -> f64| {
            let most = |looks: &[Look]| looks.iter().map(of).fold(0.0, f64::max);
            let (early, late) = (most(early), most(late));
            let flat = late <= bound(early);
            let word = if flat { "flat" } else { "GREW" };
            self.flat &= flat;
            self.verdicts.push(format!(
                "{name}: {word}, {early:.0} early, {late:.0} late, {:.0} allowed",
                bound(early)
            ));
        };
        compare(
            "resident KiB",
            |look| look.resident_kib,
            |early| (early * RESIDENT_MORE).max(early + RESIDENT_MORE_KIB),
        );
        compare("descriptors", |look| look.descriptors, |early| early + DESCRIPTORS_MORE);
        compare("threads", |look| look.threads, |early| early + THREADS_MORE);
    }

    fn tell(&self) {
        println!("{} requests", self.requests);
        self.verdicts.iter().for_each(|verdict| println!("  {verdict}"));
        self.complaints.iter().for_each(|complaint| println!("  ! {complaint}"));
    }
}

/// The maximum usage until `is_over`, sampled every tenth of a second: KiB, descriptors, threads.
fn most_held(pids: &[u32], is_over: impl Fn() -> bool) -> (f64, f64, f64) {
    let mut most = (0.0_f64, 0.0_f64, 0.0_f64);
    while !is_over() {
        let held = process::held(pids);
        most = (most.0.max(held.0 as f64), most.1.max(held.1 as f64), most.2.max(held.2 as f64));
        std::thread::sleep(Duration::from_millis(100));
    }
    most
}
