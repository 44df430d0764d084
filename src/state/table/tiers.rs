//! Which servers of a pool get traffic: tiers by priority, zone, health and mode, and what happens where too few are left.

use super::super::server::{Admits, Mode, Server};
use super::super::session::{ByTag, Sticky};
use crate::base::time;
use crate::policy::fail_open;
use crate::policy::health::Health;
use crate::policy::tiers::{self, Rank};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A pool of which too few servers are left, so that the last known good ones are used as well ([`fail_open`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailOpen {
    /// Servers that are up, or have not been probed yet.
    pub left: usize,
    /// Those that are used all the same.
    pub used: usize,
    /// Seconds since 1970 when it began.
    pub since_unix: u64,
}

/// The servers of a pool that get traffic, by their tier, and those that get none.
#[derive(Default)]
pub(super) struct Tiers {
    levels: BTreeMap<Rank, Level>,
    pub(super) out: Vec<Arc<Server>>,
    pub(super) fail_open: Option<FailOpen>,
    pub(super) sessions: ByTag,
    /// Zones that are the balancer's own in a priority; without a server in it no zone counts.
    zones: BTreeMap<(bool, u8), HashSet<String>>,
    own_zone: Option<String>,
}

/// A tier while it is put together.
#[derive(Default)]
struct Level {
    up: Vec<Arc<Server>>,
    /// Their first probe is not finished.
    starting: Vec<Arc<Server>>,
    /// The weights of all servers, also of those that get nothing.
    total: u64,
}

/// A tier of a pool.
pub(super) struct Filled {
    pub(super) rank: Rank,
    /// Those that are up; those whose first probe is not finished where there is none (trying one of them is better than rejecting
    /// the request, and than a lower tier: its state will be known in a moment).
    pub(super) servers: Vec<Arc<Server>>,
    /// The others, which come last.
    pub(super) rest: Vec<Arc<Server>>,
    /// The part of the requests of the pool that it gets.
    pub(super) share: f64,
    /// Its servers, whether they get traffic or not.
    pub(super) count: usize,
}

impl Tiers {
    /// Of the servers of a pool; the balancer is in this zone.
    pub(super) fn of<'s>(
        servers: impl Iterator<Item = &'s Arc<Server>> + Clone,
        own_zone: Option<&str>,
    ) -> Self {
        let mut tiers = Tiers { own_zone: own_zone.map(str::to_owned), ..Tiers::default() };
        for server in servers.clone() {
            let level = (server.is_backup(), server.priority());
            tiers
                .zones
                .entry(level)
                .or_default()
                .insert(server.zone().map_or(String::new(), |zone| zone.to_string()));
        }
        servers.for_each(|server| tiers.add(server));
        tiers
    }

    fn rank(&self, server: &Server) -> Rank {
        let (is_backup, priority) = (server.is_backup(), server.priority());
        let is_zoned =
            |own: &String| self.zones.get(&(is_backup, priority)).is_some_and(|zones| zones.contains(own));
        let own = self.own_zone.as_ref().filter(|own| is_zoned(own));
        let is_elsewhere = own.is_some_and(|own| server.zone().as_deref() != Some(own.as_str()));
        Rank { is_backup, priority, is_elsewhere }
    }

    /// Adds a server where it belongs.
    fn add(&mut self, server: &Arc<Server>) {
        let level = self.levels.entry(self.rank(server)).or_default();
        level.total += u64::from(server.weight().0);
        let place = match server.health() {
            _ if !server.is_offered() => None,
            Health::Up => Some(&mut level.up),
            Health::Starting => Some(&mut level.starting),
            Health::Down | Health::Ejected { .. } => None,
        };
        server.set_admits(if place.is_some() { Admits::Requests } else { Admits::Nothing });
        place.unwrap_or(&mut self.out).push(Arc::clone(server));
    }

    /// Where too few servers are left, in all tiers together, the last known good ones are used as if they were up. Backups take over
    /// first where no other server is left: that is what they are for.
    pub(super) fn fail_open(&mut self, panic_percent: u32, before: Option<FailOpen>) {
        let left_of = |tiers: &Tiers, is_backup: bool| {
            let of = tiers.levels.iter().filter(|(rank, _)| rank.is_backup == is_backup);
            of.map(|(_, level)| level.up.len() + level.starting.len()).sum::<usize>()
        };
        let left = left_of(self, false);
        let taken_out = |server: &&Arc<Server>| server.is_offered() && !server.is_backup();
        let primaries = left + self.out.iter().filter(taken_out).count();
        let have_backups = left == 0 && left_of(self, true) > 0;
        let servers =
            if primaries > 0 { primaries } else { self.out.iter().filter(|one| one.is_offered()).count() };
        if have_backups || !fail_open::is_panic(left, servers, panic_percent) {
            return;
        }
        let mut used = self.reopen(|server| !server.is_backup() && server.health() == Health::Down);
        if left == 0 {
            let is_down = |server: &Server| server.health() == Health::Down;
            let rest: [&dyn Fn(&Server) -> bool; 3] = [&is_down, &|server| !server.is_backup(), &|_| true];
            rest.into_iter().for_each(|of| used += if used == 0 { self.reopen(of) } else { 0 });
        }
        let since_unix = before.map_or_else(time::unix_seconds, |before| before.since_unix);
        self.fail_open = (used > 0).then_some(FailOpen { left, used, since_unix });
    }

    /// Uses those of the last known good servers that are among these; returns how many.
    fn reopen(&mut self, of: impl Fn(&Server) -> bool) -> usize {
        let is_used = |server: &Arc<Server>| server.is_offered() && server.is_last_known_good() && of(server);
        let (used, out): (Vec<_>, Vec<_>) = std::mem::take(&mut self.out).into_iter().partition(is_used);
        used.iter().for_each(|server| server.set_admits(Admits::FailOpen));
        let count = used.len();
        self.out = out;
        for server in used {
            self.levels.entry(self.rank(&server)).or_default().up.push(server);
        }
        count
    }

    /// The tiers in order, each with its part of the requests; those without a server that can take any are left out.
    pub(super) fn take(&mut self) -> Vec<Filled> {
        let weights =
            |servers: &[Arc<Server>]| servers.iter().map(|server| u64::from(server.weight().0)).sum::<u64>();
        let seen = |(rank, level): (&Rank, &Level)| tiers::Tier {
            rank: *rank,
            available: weights(&level.up) + weights(&level.starting),
            total: level.total,
        };
        let seen: Vec<_> = self.levels.iter().map(seen).collect();
        let zones = |rank: Rank| self.zones.get(&(rank.is_backup, rank.priority)).map_or(1, HashSet::len);
        let shares = tiers::shares(&seen, zones);
        let out = |rank: Rank| self.out.iter().filter(|server| self.rank(server) == rank).count();
        let counts: Vec<_> = self.levels.keys().map(|rank| out(*rank)).collect();
        let filled = std::mem::take(&mut self.levels).into_iter().zip(shares.into_iter().zip(counts));
        let fill = |((rank, level), (share, out)): ((Rank, Level), (f64, usize))| {
            let count = out + level.up.len() + level.starting.len();
            let (servers, rest) = match level.up.is_empty() {
                true => (level.starting, Vec::new()),
                false => (level.up, level.starting),
            };
            Filled { rank, servers, rest, share, count }
        };
        filled.map(fill).collect()
    }

    /// A server that drains, or has no weight, keeps its sessions; one that is down or in maintenance does not.
    pub(super) fn add_session_server(&mut self, server: &Arc<Server>, sticky: &Sticky) {
        let is_well = matches!(server.health(), Health::Up | Health::Starting) || server.is_fail_open();
        let keeps = is_well && server.mode_now() != Mode::Maint && !server.is_down_by_agent();
        server.set_keeps_sessions(keeps, sticky.settings().drain);
        if keeps {
            self.sessions.insert(sticky.tag_of(server), Arc::clone(server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::config::Config;
    use super::super::super::live::Live;
    use super::super::Table;
    use super::super::tests::spec;
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::time::Moment;
    use crate::policy::pick::{Algorithm, Weight};

    const DEFAULT: PoolId = PoolId(0);

    /// Servers as a letter for their health, `U`p, `D`own, `E`jected or `S`tarting, small for a backup, and `+` behind it for one
    /// of the last known good; those that then get requests first, and whether the pool fails open.
    fn check_fail_open(servers: &str, panic_percent: u32, ready: &str, fails_open: bool) {
        let marks: Vec<char> = servers.chars().collect();
        let letters: Vec<_> = marks.iter().enumerate().filter(|(_, mark)| **mark != '+').collect();
        let mut config = Config::default();
        config.servers.panic_percent = panic_percent;
        let one = |(at, letter): &(usize, &char)| {
            spec(&format!("{letter}{at}"), *at as u16 + 1, letter.is_lowercase())
        };
        config.servers.list = letters.iter().map(one).collect();
        let table = Table::of(Live::plain(config));
        let listed = table.snapshot().servers.clone();
        for (server, (at, letter)) in listed.iter().zip(&letters) {
            let health = match letter.to_ascii_uppercase() {
                'U' => Health::Up,
                'D' => Health::Down,
                'E' => Health::Ejected { until: Moment::NEVER },
                _ => Health::Starting,
            };
            table.judge(&[(server, health)], &[(server, marks.get(at + 1) == Some(&'+'))]);
        }
        let snapshot = table.snapshot();
        let pool = snapshot.pool(DEFAULT);
        let got: String = pool.ready.iter().filter_map(|server| server.name.chars().next()).collect();
        assert_eq!((&*got, pool.fail_open.is_some()), (ready, fails_open), "{servers} at {panic_percent} %");
        assert!(pool.ready.iter().all(|server| server.lease(Moment::START).is_ok()));
        assert!(pool.out.iter().all(|server| server.lease(Moment::START).is_err()));
        let anyway = listed.iter().filter(|server| server.is_fail_open());
        assert!(anyway.clone().all(|server| server.fail_open_requests() == 1));
        assert_eq!(anyway.count(), pool.fail_open.map_or(0, |told| told.used));
    }

    #[test]
    fn where_too_few_are_left_the_last_known_good_are_used() {
        check_fail_open("D+D+D", 25, "DD", true);
        check_fail_open("D+D+D", 0, "", false);
        check_fail_open("DDD", 25, "", false);
        check_fail_open("UD+D+", 25, "U", false);
        check_fail_open("UD+D+", 50, "UDD", true);
        check_fail_open("UUD+D+", 50, "UU", false);
        check_fail_open("UDDDD", 25, "U", false);
        check_fail_open("UE+E+E+E+", 50, "U", false);
        check_fail_open("D+E+", 25, "D", true);
        check_fail_open("DE+", 25, "E", true);
        check_fail_open("DE", 25, "", false);
        check_fail_open("SD+D+D+D+", 25, "DDDD", true);
        check_fail_open("SD+", 25, "S", false);
        check_fail_open("D+D+u", 25, "u", false);
        check_fail_open("D+D+d+", 25, "DD", true);
        check_fail_open("DDd+", 25, "d", true);
        check_fail_open("e+DD", 25, "e", true);
        check_fail_open("d+d+", 25, "dd", true);
    }

    #[test]
    fn what_an_operator_took_out_stays_out_of_a_pool_that_fails_open() {
        let table =
            Table::new(Algorithm::RoundRobin, true, None, &[spec("a", 1, false), spec("b", 2, false)]);
        let (a, b) = (table.find("a").unwrap(), table.find("b").unwrap());
        table.judge(&[(&a, Health::Down), (&b, Health::Down)], &[(&a, true), (&b, true)]);
        let count = || table.snapshot().pool(DEFAULT).ready.len();
        assert_eq!(count(), 2);
        for (mode, weight) in [(Mode::Drain, 1), (Mode::Maint, 1), (Mode::Ready, 0)] {
            table.adjust(&a, Some(mode), Some(Weight(weight)));
            assert_eq!((count(), a.lease(Moment::START).is_err()), (1, true), "{mode:?} {weight}");
            let told = table.snapshot().pool(DEFAULT).fail_open.unwrap();
            assert_eq!((told.left, told.used), (0, 1), "the rest of the pool goes on");
        }
        table.adjust(&b, Some(Mode::Maint), None);
        assert_eq!((count(), table.snapshot().pool(DEFAULT).fail_open), (0, None));
        table.judge(&[(&b, Health::Up)], &[]);
        table.adjust(&b, Some(Mode::Ready), None);
        assert_eq!((count(), b.is_fail_open()), (1, false));
    }
}
