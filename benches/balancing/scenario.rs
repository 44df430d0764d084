//! The scenarios, as worlds of the simulation.

use evenkeel::base::ids::PoolId;
use evenkeel::policy::limit::MaxInFlight;
use evenkeel::state::config::Config;
use evenkeel::state::simulation::{
    Arrivals, Behaviour, Change, Description, LoadReport, Pause, Server, Work,
};
use std::time::Duration;

/// Requests in flight with each server in the overload scenario, twice its slots: every balancer is told so.
pub const OVERLOAD_LIMIT: u32 = 8;

pub struct Scenario {
    pub name: &'static str,
    /// For `--list`.
    pub about: &'static str,
    /// Balancers that do not know of each other.
    pub balancers: usize,
    /// The servers differ in what they can do.
    pub is_unlike: bool,
    /// Each balancer is told how many requests a server takes at once.
    pub has_limit: bool,
    servers: Vec<Server>,
    work: Work,
    bursts: bool,
    /// What the last server does, from a share of the time on.
    changes: Vec<(f64, Behaviour)>,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let equal = || vec![Server::default(); 3];
    let of = |name, about, servers| Scenario {
        name,
        about,
        balancers: 1,
        is_unlike: false,
        has_limit: false,
        servers,
        work: Work::Exponential(ms(40)),
        bursts: false,
        changes: Vec::new(),
    };
    let third = |server: Server| vec![Server::default(), Server::default(), server];
    let does = |behaviour| third(Server { behaviour, ..Server::default() });
    let speeds = || [1.0, 2.0, 4.0].map(|speed| Server { speed, ..Server::default() }).to_vec();
    let slots = [2, 4, 8].map(|slots| Server { slots, ..Server::default() });
    let pause = |at: u64| Pause { every: ms(3_000), lasts: ms(300), first: ms(500 + 1_000 * at) };
    let pauses = [0, 1, 2].map(|at| Server { pause: Some(pause(at)), ..Server::default() });
    let reports = [LoadReport::True, LoadReport::Random(100), LoadReport::Constant(1_000)];
    let reports = reports.map(|report| Server { report, ..Server::default() });
    let two = |short, long, one_in| Work::Two { short: ms(short), long: ms(long), one_in };
    let fails = Behaviour::Fails { after: ms(1) };
    let cold = || third(Server { cold: Some((ms(2_000), 4.0)), ..Server::default() });
    let comes = third(Server { behaviour: Behaviour::Refuses, ..Server::default() });
    vec![
        of("equal", "three equal servers of four slots", equal()),
        Scenario { is_unlike: true, ..of("speeds", "speeds 1:2:4", speeds()) },
        Scenario { is_unlike: true, ..of("slots", "slots 2:4:8", slots.to_vec()) },
        Scenario {
            work: two(20, 200, 10),
            ..of("bimodal", "one request in ten takes ten times as long", equal())
        },
        of("pauses", "each server stands still for 300 ms in every 3 s", pauses.to_vec()),
        Scenario {
            work: two(40, 2_000, 500),
            ..of("slow-url", "one request in 500 takes fifty times as long", equal())
        },
        of("failing", "one of three responds 503 within 1 ms", does(fails)),
        of("hung", "one of three never responds, though its health page is well", does(Behaviour::Hangs)),
        Scenario {
            changes: vec![(0.3, Behaviour::Works)],
            ..of("newcomer", "one of three comes up after a third of the time", comes)
        },
        Scenario {
            changes: vec![(0.2, Behaviour::Refuses), (0.4, Behaviour::Works)],
            ..of("cold-return", "one of three goes away and comes back four times as slow for 2 s", cold())
        },
        of(
            "lying-reports",
            "load reports: a true one, a random one, one that always says 1000",
            reports.to_vec(),
        ),
        of(
            "hundred",
            "100 servers of one slot",
            vec![Server { slots: 1, speed: 0.4, ..Server::default() }; 100],
        ),
        Scenario {
            balancers: 2,
            is_unlike: true,
            ..of("two-balancers", "two balancers that do not know of each other, speeds 1:2:4", speeds())
        },
        Scenario {
            bursts: true,
            ..of("bursts", "200 ms of three times the requests in every second", equal())
        },
        Scenario {
            has_limit: true,
            work: Work::Exponential(ms(100)),
            ..of(
                "overload",
                "always eight times the capacity; at most 8 requests in flight with a server",
                equal(),
            )
        },
        Scenario {
            is_unlike: true,
            changes: vec![(0.3, fails), (0.6, Behaviour::Works)],
            ..of("mixed", "speeds 1:2:4, the last one fails for a third of the time, then is cold", {
                let mut servers = speeds();
                servers[2].cold = Some((ms(2_000), 4.0));
                servers
            })
        },
    ]
}

impl Scenario {
    /// The loads at which it is measured, in percent of the capacity.
    pub fn loads<'a>(&self, wanted: &'a [f64]) -> &'a [f64] {
        if self.name == "overload" { &[800.0] } else { wanted }
    }

    /// The world at this share of what its working servers can do.
    pub fn world(&self, load: f64, seconds: f64, seed: u64) -> Description {
        let per_second = self.capacity() * load;
        let arrivals = match self.bursts {
            false => Arrivals::PerSecond(per_second),
            true => Arrivals::Bursts { per_second, every: ms(1_000), first: ms(200), factor: 3.0 },
        };
        let last = self.servers.len() - 1;
        let change = |&(share, behaviour): &(f64, Behaviour)| Change {
            at: Duration::from_secs_f64(seconds * share),
            server: last,
            behaviour,
        };
        let mut config = Config::default();
        config.servers.max_in_flight = self.has_limit.then_some(MaxInFlight::Fixed(OVERLOAD_LIMIT));
        Description {
            seed,
            balancers: self.balancers,
            config,
            servers: self.servers.clone(),
            pool: PoolId::default(),
            arrivals,
            work: self.work,
            length: Duration::from_secs_f64(seconds),
            warm_up: Duration::ZERO,
            client_timeout: super::client::TIMEOUT,
            changes: self.changes.iter().map(change).collect(),
        }
    }

    /// Requests a second of the servers that work at the start.
    pub fn capacity(&self) -> f64 {
        let is_working = |server: &&Server| server.behaviour == Behaviour::Works;
        let slots = self.servers.iter().filter(is_working).map(|one| one.speed * f64::from(one.slots));
        slots.sum::<f64>() / self.work.mean_s()
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
