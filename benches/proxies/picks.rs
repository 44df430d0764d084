//! The in-process cost of a pick, by the number of servers.

use super::result::{PickCost, Report, median};
use super::servers;
use super::table;
use evenkeel::policy::pick::Algorithm;
use std::time::Instant;

/// The name of the workload.
pub const NAME: &str = "picks";
const SERVERS: [u32; 4] = [3, 30, 300, 3000];
/// The approximate number of candidates per measurement; it takes a few milliseconds.
const LOOKS: u64 = 3_000_000;

/// Measures all algorithms, and prints the results.
pub fn run(rounds: usize, report: &mut Report) {
    for servers in SERVERS {
        for algorithm in Algorithm::ALL {
            let cost = |whole, work: &dyn Fn(u64)| PickCost {
                algorithm: algorithm.name().to_string(),
                whole,
                servers: servers as usize,
                nanoseconds: nanoseconds(servers, rounds, work),
            };
            report.picks.push(cost(false, &|times| servers::pick(algorithm, servers, times)));
            report.picks.push(cost(true, &|times| servers::choose(algorithm, servers, times)));
        }
    }
    table::print_picks(report);
}

/// The difference between `N` and `2 N` iterations, so that the preparation cancels out.
fn nanoseconds(servers: u32, rounds: usize, work: &dyn Fn(u64)) -> f64 {
    let times = (LOOKS / u64::from(servers)).max(1000);
    let took = |times| {
        let begun = Instant::now();
        work(times);
        begun.elapsed().as_nanos() as f64
    };
    let one = |_| (took(2 * times) - took(times)).max(0.0) / times as f64;
    median((0..rounds.max(3)).map(one).collect())
}
