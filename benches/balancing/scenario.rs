//! The scenarios, as worlds of the simulation, and the requests of each.

use evenkeel::base::random::Random;
use evenkeel::state::simulation::{Arrivals, Behaviour, Description, Pause, Policy, Server, Work};
use std::time::Duration;

pub struct Scenario {
    pub name: &'static str,
    /// Balancers that do not know of each other.
    pub balancers: usize,
    servers: Vec<Server>,
    work: Work,
    bursts: bool,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let equal = || vec![Server::default(); 3];
    let work = Work::Exponential(ms(40));
    let of = |name, servers| Scenario { name, balancers: 1, servers, work, bursts: false };
    let third = |server: Server| vec![Server::default(), Server::default(), server];
    let does = |behaviour| third(Server { behaviour, ..Server::default() });
    let speeds = [1.0, 2.0, 4.0].map(|speed| Server { speed, ..Server::default() });
    let slots = [2, 4, 8].map(|slots| Server { slots, ..Server::default() });
    let pause = |at: u64| Pause { every: ms(3_000), lasts: ms(300), first: ms(500 + 1_000 * at) };
    let pauses = [0, 1, 2].map(|at| Server { pause: Some(pause(at)), ..Server::default() });
    let two = |short, long, one_in| Work::Two { short: ms(short), long: ms(long), one_in };
    vec![
        of("equal", equal()),
        of("speeds", speeds.to_vec()),
        of("slots", slots.to_vec()),
        Scenario { work: two(20, 200, 10), ..of("bimodal", equal()) },
        of("pauses", pauses.to_vec()),
        Scenario { work: two(40, 2_000, 500), ..of("slow-url", equal()) },
        of("failing", does(Behaviour::Fails { after: ms(1) })),
        of("hung", does(Behaviour::Hangs)),
        of("hundred", vec![Server { slots: 1, speed: 0.4, ..Server::default() }; 100]),
        Scenario { balancers: 2, ..of("two-balancers", speeds.to_vec()) },
        Scenario { bursts: true, ..of("bursts", equal()) },
    ]
}

impl Scenario {
    /// The world at this share of what its working servers can do.
    pub fn world(&self, load: f64, seconds: f64, seed: u64) -> Description {
        let is_working = |server: &&Server| server.behaviour == Behaviour::Works;
        let slots = self.servers.iter().filter(is_working).map(|one| one.speed * f64::from(one.slots));
        let per_second = slots.sum::<f64>() / self.work.mean_s() * load;
        let arrivals = match self.bursts {
            false => Arrivals::PerSecond(per_second),
            true => Arrivals::Bursts { per_second, every: ms(1_000), first: ms(200), factor: 3.0 },
        };
        Description {
            seed,
            balancers: self.balancers,
            policy: Policy::default(),
            servers: self.servers.clone(),
            arrivals,
            work: self.work,
            length: Duration::from_secs_f64(seconds),
            warm_up: Duration::ZERO,
            client_timeout: super::client::TIMEOUT,
            changes: Vec::new(),
        }
    }
}

/// When each request comes, and its work: the same for every balancer.
pub fn requests(world: &Description) -> Vec<(Duration, Duration)> {
    let mut random = Random::seeded(world.seed);
    let mut exponential = move || -(1.0 - random.fraction()).ln();
    let mut rare = Random::seeded(world.seed ^ 0xa11);
    let (mut at_s, mut requests) = (0.0, Vec::new());
    loop {
        let rate = match &world.arrivals {
            Arrivals::Bursts { per_second, every, first, factor } => {
                let (every, first) = (every.as_secs_f64(), first.as_secs_f64());
                let usual = per_second * every / (every - first + factor * first);
                if at_s % every < first { usual * factor } else { usual }
            }
            Arrivals::PerSecond(rate) => *rate,
            Arrivals::Clients(_) | Arrivals::Listed(_) => return requests,
        };
        at_s += exponential() / rate;
        if at_s >= world.length.as_secs_f64() {
            return requests;
        }
        let work = match world.work {
            Work::Fixed(each) => each,
            Work::Exponential(mean) => mean.mul_f64(exponential()),
            Work::Two { short, long, one_in } => match rare.below(one_in as usize) {
                0 => long.mul_f64(exponential()),
                _ => short.mul_f64(exponential()),
            },
        };
        requests.push((Duration::from_secs_f64(at_s), work));
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
