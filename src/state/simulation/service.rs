//! How long a server works on a request, with its pauses and its cold caches, and when it works at all.

use super::arrivals::nanos;
use super::{Behaviour, Description, Pause, Server};

/// When work that begins now ends on a slot of this server, which is cold since then.
pub(super) fn ends_ns(server: &Server, cold_since_ns: u64, now_ns: u64, work_ns: u64) -> u64 {
    let cold = server.cold.map_or(1.0, |(time, factor)| {
        let left = 1.0 - now_ns.saturating_sub(cold_since_ns) as f64 / nanos(time).max(1) as f64;
        1.0 + (factor - 1.0) * left.max(0.0)
    });
    paused(server.pause, now_ns, (work_ns as f64 * cold / server.speed) as u64)
}

fn paused(pause: Option<Pause>, now_ns: u64, work_ns: u64) -> u64 {
    let Some(pause) = pause else { return now_ns + work_ns };
    let (every_ns, lasts_ns, first_ns) = (nanos(pause.every).max(1), nanos(pause.lasts), nanos(pause.first));
    let (mut at_ns, mut left_ns) = (now_ns, work_ns);
    loop {
        if at_ns < first_ns {
            let until_ns = first_ns.min(at_ns + left_ns);
            left_ns -= until_ns - at_ns;
            at_ns = until_ns;
        } else {
            let phase_ns = (at_ns - first_ns) % every_ns;
            if phase_ns < lasts_ns {
                at_ns += lasts_ns - phase_ns;
            }
            let phase_ns = (at_ns - first_ns) % every_ns;
            let runs_ns = left_ns.min(every_ns - phase_ns.max(lasts_ns));
            left_ns -= runs_ns;
            at_ns += runs_ns;
        }
        if left_ns == 0 {
            return at_ns;
        }
    }
}

/// When a server works and when not, as its description has it.
pub(super) struct Times {
    /// From when on it works, or does not, in ascending order.
    turns: Vec<(u64, bool)>,
    pause: Option<Pause>,
}

impl Times {
    pub(super) fn of(description: &Description, server: usize) -> Self {
        let model = &description.servers[server];
        let works = |behaviour| matches!(behaviour, Behaviour::Works | Behaviour::FailsSome(_));
        let joins_ns = nanos(model.joins);
        let mut turns = vec![(joins_ns, works(model.behaviour))];
        let changes = description.changes.iter().filter(|change| change.server == server);
        turns.extend(changes.map(|change| (nanos(change.at).max(joins_ns), works(change.behaviour))));
        turns.sort_by_key(|(at_ns, _)| *at_ns);
        Times { turns, pause: model.pause }
    }

    /// The first moment from this one on at which it works; `None` if there is none.
    pub(super) fn next(&self, mut at_ns: u64) -> Option<u64> {
        loop {
            let begun = self.turns.partition_point(|(from_ns, _)| *from_ns <= at_ns);
            if begun == 0 || !self.turns[begun - 1].1 {
                at_ns = self.turns[begun..].iter().find(|(_, works)| *works)?.0;
                continue;
            }
            match self.pause.and_then(|pause| pause_ends_ns(pause, at_ns)) {
                Some(until_ns) => at_ns = until_ns,
                None => return Some(at_ns),
            }
        }
    }

    /// Since when it is cold at a moment: since it joined, or its behaviour changed.
    pub(super) fn cold_since_ns(&self, at_ns: u64) -> u64 {
        self.turns.iter().take_while(|(from_ns, _)| *from_ns <= at_ns).last().map_or(0, |turn| turn.0)
    }
}

/// When the pause ends that it is in at this moment.
fn pause_ends_ns(pause: Pause, at_ns: u64) -> Option<u64> {
    let since_ns = at_ns.checked_sub(nanos(pause.first))?;
    let phase_ns = since_ns % nanos(pause.every).max(1);
    (phase_ns < nanos(pause.lasts)).then(|| at_ns + nanos(pause.lasts) - phase_ns)
}

#[cfg(test)]
mod tests {
    use super::super::{Arrivals, Change, Work};
    use super::*;
    use crate::base::ids::PoolId;
    use crate::state::config::Config;
    use std::time::Duration;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn times(server: Server, changes: &[(u64, Behaviour)]) -> Times {
        let change = |&(at, behaviour)| Change { at: ms(at), server: 0, behaviour };
        let description = Description {
            seed: 1,
            balancers: 1,
            config: Config::default(),
            servers: vec![server],
            pool: PoolId::default(),
            arrivals: Arrivals::PerSecond(1.0),
            work: Work::Fixed(ms(1)),
            length: ms(1),
            warm_up: ms(0),
            client_timeout: ms(1),
            changes: changes.iter().map(change).collect(),
        };
        Times::of(&description, 0)
    }

    #[track_caller]
    fn check(times: &Times, at_ms: u64, expected_ms: Option<u64>) {
        assert_eq!(times.next(at_ms * 1_000_000).map(|ns| ns / 1_000_000), expected_ms, "at {at_ms} ms");
    }

    #[test]
    fn a_server_works_from_when_it_joins_but_not_while_it_fails_or_pauses() {
        let pause = Some(Pause { every: ms(100), lasts: ms(30), first: ms(50) });
        let server = Server { joins: ms(10), pause, ..Server::default() };
        let times =
            times(server, &[(200, Behaviour::Refuses), (300, Behaviour::Works), (500, Behaviour::Hangs)]);
        for (at, expected) in
            [(0, Some(10)), (20, Some(20)), (60, Some(80)), (210, Some(300)), (350, Some(380)), (500, None)]
        {
            check(&times, at, expected);
        }
        assert_eq!(
            [5, 20, 250, 400].map(|at| times.cold_since_ns(at * 1_000_000) / 1_000_000),
            [0, 10, 200, 300]
        );
    }

    #[test]
    fn work_is_longer_by_pauses_and_while_the_server_is_cold() {
        let pause = Some(Pause { every: ms(100), lasts: ms(30), first: ms(50) });
        let paused = Server { pause, ..Server::default() };
        let cold = Server { cold: Some((ms(100), 3.0)), speed: 2.0, ..Server::default() };
        let took = |server: &Server, at: u64, work: u64| {
            (ends_ns(server, 0, at * 1_000_000, work * 1_000_000) / 1_000_000) - at
        };
        for (server, at, work, expected) in [
            (&paused, 0, 50, 50),
            (&paused, 0, 60, 90),
            (&paused, 60, 10, 30),
            (&cold, 0, 20, 30),
            (&cold, 50, 20, 20),
            (&cold, 200, 20, 10),
        ] {
            assert_eq!(took(server, at, work), expected, "{at} {work}");
        }
    }
}
