//! What a pick costs in-process, by the number of servers.

use super::result::{PickCost, Report, median};
use super::servers;
use super::table;
use evenkeel::policy::pick::Algorithm;
use std::time::Instant;

/// The name of the work.
pub const NAME: &str = "picks";
/// A whole choice: the look at the table, the candidates, the pick, the lease.
pub const WHOLE: &str = "table and dynamic";

const SERVERS: [u32; 4] = [3, 30, 300, 3000];
/// Candidates looked at in one measurement, about; the time is a few milliseconds.
const LOOKS: u64 = 3_000_000;

/// Measures all algorithms, and prints them.
pub fn run(rounds: usize, report: &mut Report) {
    for servers in SERVERS {
        for algorithm in Algorithm::ALL {
            let one = |times| servers::pick(algorithm, servers, times);
            report.picks.push(cost(algorithm.name(), servers, rounds, one));
        }
        let one = |times| servers::choose(servers, times);
        report.picks.push(cost(WHOLE, servers, rounds, one));
    }
    table::print_picks(report);
}

/// The difference between doing it `N` and `2 N` times, so that the preparation cancels out.
fn cost(algorithm: &str, servers: u32, rounds: usize, work: impl Fn(u64)) -> PickCost {
    let times = (LOOKS / u64::from(servers)).max(1000);
    let took = |times| {
        let begun = Instant::now();
        work(times);
        begun.elapsed().as_nanos() as f64
    };
    let one = |_| (took(2 * times) - took(times)).max(0.0) / times as f64;
    let nanoseconds = median((0..rounds.max(3)).map(one).collect());
    PickCost { algorithm: algorithm.to_string(), servers: servers as usize, nanoseconds }
}
