//! The rows of picking: each algorithm over a number of candidates, and a whole choice from the table.

use evenkeel::base::ids::PoolId;
use evenkeel::base::random::Random;
use evenkeel::base::time::Moment;
use evenkeel::policy::latency::Reading;
use evenkeel::policy::pick::{Algorithm, Candidate, Draw, Slot, Weight, schedule};
use evenkeel::state::address::Address;
use evenkeel::state::config::ServerSpec;
use evenkeel::state::table::Table;
use std::hint::black_box;
use std::time::Duration;

/// One algorithm over a number of candidates, all passed to it.
pub fn pick(algorithm: Algorithm, servers: u32, times: u64) {
    let candidates: Vec<_> = (0..servers).map(candidate).collect();
    let weighted: Vec<_> = candidates.iter().map(|one| (one.slot, one.weight)).collect();
    let order = if algorithm == Algorithm::RoundRobin { schedule(&weighted) } else { Vec::new() };
    let (pick, mut random) = (algorithm.pick(), Random::seeded(7));
    for turn in 0..times {
        let draw = Draw { random: random.number(), turn, key: random.number(), schedule: &order };
        assert!(pick(black_box(&candidates), black_box(draw)).is_some());
    }
}

/// What `data/choose.rs` does for each request: a look at the table, the candidates (a sample of a large
/// table, where the algorithm allows that), the pick, the lease and its return.
pub fn choose(algorithm: Algorithm, servers: u32, times: u64) {
    let list: Vec<_> = (0..servers).map(spec).collect();
    let table = Table::new(algorithm, false, None, &list);
    let (mut cached, mut random) = (table.cached(), Random::seeded(7));
    let mut candidates: Vec<Candidate> = Vec::with_capacity(servers as usize);
    let now = Moment::from_millis(1000);
    for turn in 0..times {
        let snapshot = cached.look(black_box(&table)).pool(PoolId(0));
        let ready = &snapshot.ready;
        candidates.clear();
        let candidate = |at: usize| ready[at].candidate(Slot(at as u32), now);
        match snapshot.sample.filter(|sample| ready.len() > 4 * sample) {
            Some(sample) => candidates.extend((0..sample).map(|_| random.below(ready.len())).map(candidate)),
            None => candidates.extend((0..ready.len()).map(candidate)),
        }
        let draw = Draw { random: random.number(), turn, key: random.number(), schedule: &snapshot.schedule };
        let server = (snapshot.pick)(&candidates, draw).map(|slot| &ready[slot.0 as usize]);
        let lease = server.and_then(|server| server.lease(now).ok());
        assert!(lease.is_some());
        if let Some(lease) = lease {
            lease.responded(200, Duration::from_micros(200 + turn % 50), now);
        }
    }
}

/// Servers with a few requests in flight and similar latencies, as is typical.
fn candidate(number: u32) -> Candidate {
    Candidate {
        slot: Slot(number),
        weight: Weight(1 + (number % 2) as u16),
        hash: u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        in_flight: number % 4,
        latency: Some(Reading { faded_us: 200.0 + (number % 7) as f32 * 40.0, freshness: 1.0 }),
        silence_us: 0.0,
        is_silent: false,
        reported: None,
    }
}

fn spec(number: u32) -> ServerSpec {
    ServerSpec {
        name: format!("server-{number}"),
        address: Address::Tcp { host: "127.0.0.1".to_string(), port: 1 + number as u16 },
        weight: Weight(1),
        backup: false,
        max_in_flight: None,
    }
}
