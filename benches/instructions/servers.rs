//! The rows of picking: each algorithm over a number of candidates, and a whole choice from the table.

use evenkeel::base::ids::PoolId;
use evenkeel::base::random::Random;
use evenkeel::base::time::Moment;
use evenkeel::policy::latency::Reading;
use evenkeel::policy::pick::{Algorithm, Candidate, Draw, Slot, Weight, schedule};
use evenkeel::state::address::Address;
use evenkeel::state::choose::{Asked, Chooser, Chosen, Tried};
use evenkeel::state::config::ServerSpec;
use evenkeel::state::table::Table;
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// One algorithm over a number of candidates, all passed to it.
pub fn pick(algorithm: Algorithm, servers: u32, times: u64) {
    let mut candidates: Vec<_> = (0..servers).map(candidate).collect();
    let weighted: Vec<_> = candidates.iter().map(|one| (one.slot, one.weight)).collect();
    let (order, mut random) = (schedule(&weighted), Random::seeded(7));
    for turn in 0..times {
        let (random, key) = (random.number(), random.number());
        let draw = Draw { random, turn, key, schedule: &order, is_long_lived: false, is_sample: false };
        assert!(algorithm.pick(black_box(&mut candidates), black_box(draw)).is_some());
    }
}

/// A whole choice for each request: a look at the table, the candidates, the pick, the lease and its return.
pub fn choose(algorithm: Algorithm, servers: u32, times: u64) {
    let list: Vec<_> = (0..servers).map(spec).collect();
    let table = Table::new(algorithm, false, None, &list);
    let (mut cached, mut random, turn) = (table.cached(), Random::seeded(7), AtomicU64::new(0));
    let mut candidates: Vec<Candidate> = Vec::with_capacity(servers as usize);
    let now = Moment::from_millis(1000);
    for request in 0..times {
        let pool = cached.look(black_box(&table)).pool(PoolId(0));
        let asked = Asked { key: random.number(), ..Asked::default() };
        let mut chooser =
            Chooser { turn: &turn, random: &mut random, candidates: &mut candidates, now, note: None };
        let Chosen::Server(lease) = chooser.choose(pool, asked, &Tried::default()) else {
            panic!("all servers take requests");
        };
        lease.responded(true, Duration::from_micros(200 + request % 50), now);
    }
}

/// Servers with a few requests in flight and similar latencies, as is typical.
fn candidate(number: u32) -> Candidate {
    let hash = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let latency = Reading { typical_us: 200.0 + (number % 7) as f32 * 40.0, load: 2.0, samples: 15.0 };
    Candidate {
        in_flight: number % 4,
        latency: Some(latency),
        ..Candidate::new(Slot(number), Weight(1), hash)
    }
}

fn spec(number: u32) -> ServerSpec {
    let address = Address::Tcp { host: "127.0.0.1".to_string(), port: 1 + number as u16 };
    ServerSpec::new(format!("server-{number}"), address)
}
