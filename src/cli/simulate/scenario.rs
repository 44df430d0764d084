//! Described worlds, which can be combined.

use crate::state::simulation::{Arrivals, Behaviour, Change, Description, LoadReport, Pause, Server, Work};
use clap::ValueEnum;
use std::time::Duration;

/// What of a world differs from equal servers under an even load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Equal servers
    Equal,
    /// Speeds 1, 2 and 4 in turn
    Speeds,
    /// 2, 4 and 8 slots in turn
    Slots,
    /// One request in ten takes ten times as long
    Bimodal,
    /// One request in 500 takes fifty times as long
    SlowUrl,
    /// Each server pauses for 300 ms in every 3 s
    Pauses,
    /// The last server responds with errors within 1 ms, for the middle third of the time
    Failing,
    /// The last server never responds, for the middle third of the time
    Hung,
    /// The last server refuses connections for the middle third of the time, and is slow at first afterwards
    ColdReturn,
    /// The last server joins after a third of the time, and is slow at first
    Newcomer,
    /// All servers restart one after the other, each is down for a twentieth of the time
    Deploy,
    /// Load reports: a true one, a random one and one that always says 1000, in turn
    LyingReports,
    /// Bursts of three times the requests, 200 ms in every second
    Bursts,
    /// Two balancers, each unaware of the other
    TwoBalancers,
    /// A hundred servers of one slot
    Hundred,
    /// Eight times the requests
    Overload,
}

impl Scenario {
    /// Whether it says when requests come or what they take, which a trace says itself.
    pub(super) fn is_of_requests(self) -> bool {
        matches!(self, Scenario::Bimodal | Scenario::SlowUrl | Scenario::Bursts | Scenario::Overload)
    }

    /// Changes the world. The rate is changed by [`Scenario::arrivals`].
    pub(super) fn shape(self, world: &mut Description) {
        let mean = Duration::from_secs_f64(world.work.mean_s());
        let (third, last) = (world.length / 3, world.servers.len().saturating_sub(1));
        let two = |factor: u32, one_in| Work::Two { short: mean, long: mean * factor, one_in };
        let cold = Some((world.length / 12, 4.0));
        let does = |behaviour| {
            let at = |at, behaviour| Change { at, server: last, behaviour };
            [at(third, behaviour), at(third * 2, Behaviour::Works)]
        };
        match self {
            Scenario::Equal | Scenario::Bursts | Scenario::Overload => {}
            Scenario::Speeds => in_turn(world, &[1.0, 2.0, 4.0], |server, speed| server.speed = speed),
            Scenario::Slots => in_turn(world, &[2, 4, 8], |server, slots| server.slots = slots),
            Scenario::Bimodal => world.work = two(10, 10),
            Scenario::SlowUrl => world.work = two(50, 500),
            Scenario::Pauses => pause(world),
            Scenario::Failing => {
                world.changes.extend(does(Behaviour::Fails { after: Duration::from_millis(1) }))
            }
            Scenario::Hung => world.changes.extend(does(Behaviour::Hangs)),
            Scenario::ColdReturn => {
                world.changes.extend(does(Behaviour::Refuses));
                world.servers[last..].iter_mut().for_each(|server| server.cold = cold);
            }
            Scenario::Newcomer => {
                for server in &mut world.servers[last..] {
                    (server.joins, server.cold) = (third, cold);
                }
            }
            Scenario::Deploy => deploy(world),
            Scenario::LyingReports => {
                let reports = [LoadReport::True, LoadReport::Random(100), LoadReport::Constant(1_000)];
                in_turn(world, &reports, |server, report| server.report = report);
            }
            Scenario::TwoBalancers => world.balancers = 2,
            Scenario::Hundred => {
                world.servers = vec![Server { slots: 1, pool: world.pool, ..Server::default() }; 100];
            }
        }
    }

    /// How so many requests a second come.
    pub(super) fn arrivals(scenarios: &[Scenario], per_second: f64) -> Arrivals {
        let per_second = if scenarios.contains(&Scenario::Overload) { per_second * 8.0 } else { per_second };
        match scenarios.contains(&Scenario::Bursts) {
            true => {
                let (every, first) = (Duration::from_secs(1), Duration::from_millis(200));
                Arrivals::Bursts { per_second, every, first, factor: 3.0 }
            }
            false => Arrivals::PerSecond(per_second),
        }
    }
}

fn in_turn<T: Copy>(world: &mut Description, values: &[T], set: impl Fn(&mut Server, T)) {
    world.servers.iter_mut().zip(values.iter().cycle()).for_each(|(server, value)| set(server, *value));
}

fn pause(world: &mut Description) {
    for (at, server) in (0..).zip(&mut world.servers) {
        // One after the other, not together.
        let first = Duration::from_millis(500 + 1_000 * at % 3_000);
        server.pause =
            Some(Pause { every: Duration::from_secs(3), lasts: Duration::from_millis(300), first });
    }
}

fn deploy(world: &mut Description) {
    let (third, away) = (world.length / 3, world.length / 20);
    let step = third / (world.servers.len().max(1) as u32);
    for (server, model) in world.servers.iter_mut().enumerate() {
        model.cold = Some((world.length / 12, 4.0));
        let at = third + step * server as u32;
        let change = |at, behaviour| Change { at, server, behaviour };
        world.changes.extend([change(at, Behaviour::Refuses), change(at + away, Behaviour::Works)]);
    }
}
