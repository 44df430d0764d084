//! The last resort of a request that no server which is up has taken the connection of. What health knows of the others is as old
//! as their last probe, and of those that are up it was wrong: two of four servers may stop just as the other two are back, and
//! until a probe has passed there every request would fail. Nothing of the request was sent, so that one more try costs no more
//! than a connect.

use super::{Chooser, Tried};
use crate::policy::health::Health;
use crate::state::server::{Lease, Server};
use crate::state::table::Pool;
use std::sync::Arc;

impl Chooser<'_> {
    /// A lease on a server that health has taken out and that was not tried. Ejected ones come first, because they can be connected
    /// to. What an operator or an agent has taken out stays out.
    pub(super) fn last_resort(&mut self, pool: &Pool, tried: &Tried) -> Option<Lease> {
        if tried.is_full() || pool.out.is_empty() {
            return None;
        }
        let (behind, first) = pool.out.split_at(self.random.below(pool.out.len()));
        let is_ejected = |server: &&Arc<Server>| matches!(server.health(), Health::Ejected { .. });
        let all = || first.iter().chain(behind);
        let ejected_first = all().filter(is_ejected).chain(all().filter(|server| !is_ejected(server)));
        let mut untried = ejected_first.filter(|server| !tried.has(server.id));
        let lease = untried.find_map(|server| server.lease_as_last_resort(self.now).ok())?;
        if let Some(note) = &mut self.note {
            note.last_resort(lease.server(), self.now);
        }
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Asked, Chosen, Note};
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::random::Random;
    use crate::base::time::Moment;
    use crate::policy::pick::{Algorithm, Weight};
    use crate::state::config::ServerSpec;
    use crate::state::server::Mode;
    use crate::state::table::Table;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    const NOW: Moment = Moment::from_millis(1_000);

    /// Servers by their state, `U`p, `D`own, `E`jected, `M`aintenance, draining (`R`) or without `W`eight, each named by its place;
    /// those that a request which could not connect anywhere is offered, in any order but for the groups that `|` divides.
    #[track_caller]
    fn check(states: &str, could_not_connect: bool, expected: &str) {
        let spec = |at| ServerSpec::new(format!("{at}"), format!("127.0.0.1:{}", at + 1).parse().unwrap());
        let specs: Vec<_> = (0..states.len()).map(spec).collect();
        let table = Table::new(Algorithm::Dynamic, false, None, &specs);
        for (at, state) in states.chars().enumerate() {
            let server = table.find(&format!("{at}")).unwrap();
            match state {
                'D' => table.set_health(&server, Health::Down),
                'E' => {
                    table.set_health(&server, Health::Ejected { until: NOW.after(Duration::from_secs(9)) })
                }
                'M' => table.adjust(&server, Some(Mode::Maint), None),
                'R' => table.adjust(&server, Some(Mode::Drain), None),
                'W' => table.adjust(&server, None, Some(Weight(0))),
                _ => table.set_health(&server, Health::Up),
            }
        }
        let (turn, mut random, mut candidates) = (AtomicU64::new(0), Random::seeded(5), Vec::new());
        let (mut tried, mut got) = (Tried::default(), Vec::new());
        let snapshot = table.snapshot();
        loop {
            let mut note = Note::of(Algorithm::Dynamic);
            let mut chooser = Chooser {
                turn: &turn,
                random: &mut random,
                candidates: &mut candidates,
                now: NOW,
                note: Some(&mut note),
            };
            let asked = Asked { could_not_connect, ..Asked::default() };
            let Chosen::Server(lease) = chooser.choose(snapshot.pool(PoolId(0)), asked, &tried) else {
                break;
            };
            let name = lease.server().name.clone();
            assert_eq!(note.picked.map(|picked| picked.server).as_ref(), Some(&name));
            tried.add(lease.server().id);
            got.push(name);
        }
        let mut got = got.into_iter();
        for group in expected.split('|') {
            let mut names: Vec<_> = got.by_ref().take(group.len()).collect();
            names.sort();
            assert_eq!(names.concat(), group, "{states}");
        }
        assert_eq!(got.count(), 0, "{states}");
    }

    #[test]
    fn it_is_a_server_that_health_alone_has_taken_out() {
        check("UU", true, "01");
        check("UUDD", false, "01");
        check("UUDD", true, "01|23");
        check("UDEDE", true, "0|24|13");
        check("UMRWD", true, "0|4");
    }
}
