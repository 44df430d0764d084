//! What a choice went by, for somebody who asks why a request went to a server: the candidates with the inputs of their
//! scores, and why the others were none. Made for few requests only ([`crate::state::decisions`]); it may allocate.

use super::{Tried, WHOLE_UP_TO};
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::policy::health::Health;
use crate::policy::pick::{Algorithm, Candidate, Draw, Slot, Why};
use crate::state::server::{Mode, Server};
use crate::state::table::Pool;
use std::sync::Arc;
use std::time::Duration;

/// Candidates, and excluded servers, of which a note has details; of further ones it has the number.
pub const LISTED_MAX: usize = 16;

/// The longest text that is copied, in bytes: a reason of a server's health, the line of the request.
pub const TEXT_BYTES_MAX: usize = 200;

/// What a choice went by.
#[derive(Clone, Debug, Default)]
pub struct Note {
    /// The candidates of the last draw, in the order of the table.
    pub candidates: Vec<Considered>,
    /// Further candidates.
    pub candidates_more: usize,
    /// Servers of the pool that could not get the request.
    pub excluded: Vec<Excluded>,
    /// Further ones.
    pub excluded_more: usize,
    /// Servers that take requests, and were not drawn for the sample of this choice.
    pub not_sampled: usize,
    /// The algorithm; as set, though a request that stays open for long is always placed by requests in flight.
    pub algorithm: Algorithm,
    /// The server, and why that one.
    pub picked: Option<Picked>,
    /// A server that has room, and was not taken because a full one will be done sooner.
    pub passed_over: Option<PassedOver>,
    /// The tier of the pool that the request was for, where it has several.
    pub tier: Option<String>,
    /// The second algorithm of the pool, and the server that it would have chosen.
    pub shadow: Option<(Algorithm, String)>,
}

/// The server that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Its name.
    pub server: String,
    /// Why this one.
    pub why: Why,
    /// How many candidates were as good, this one among them.
    pub among: usize,
    /// All servers of the first tier were tried: it is a backup, or one that is not known yet.
    pub is_reserve: bool,
}

/// A server with room for a request that waits for another one.
#[derive(Clone, Debug, PartialEq)]
pub struct PassedOver {
    /// Its name.
    pub server: String,
    /// What the request would take there.
    pub takes: Duration,
    /// By when a server that is full now is expected to have room and to be done.
    pub sooner: Duration,
}

/// A candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Considered {
    /// Its number.
    pub id: ServerId,
    /// Its name.
    pub server: String,
    /// What the algorithm saw of it, and made of that.
    pub seen: Candidate,
}

/// A server that could not get the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Its name.
    pub server: String,
    /// Why not.
    pub why: Exclusion,
}

/// Why a server could not get a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// The request has been there.
    Tried,
    /// It has as many requests as it may.
    Full {
        /// Requests in flight.
        in_flight: u32,
    },
    /// Its probes fail, or its agent says so; the reason as in the log.
    Down(Option<String>),
    /// It was taken out by what clients saw.
    Ejected {
        /// Until it gets a trial.
        left: Duration,
        /// The reason as in the log.
        detail: Option<String>,
    },
    /// The operator or its agent drains it.
    Drain,
    /// The operator or its agent has taken it out.
    Maint,
    /// Its weight is 0.
    WeightZero,
    /// It is a backup, and others are up.
    Backup,
    /// It is of another priority or zone than the request was for.
    OtherTier,
    /// Its first probe is not finished, and others are up.
    Starting,
    /// It came up a short while ago, and gets few requests yet.
    SlowStart,
    /// It changed while the request was about to be sent.
    Changed,
}

impl Exclusion {
    /// The word in the admin API.
    pub fn name(&self) -> &'static str {
        match self {
            Exclusion::Tried => "tried",
            Exclusion::Full { .. } => "full",
            Exclusion::Down(_) => "down",
            Exclusion::Ejected { .. } => "ejected",
            Exclusion::Drain => "drain",
            Exclusion::Maint => "maint",
            Exclusion::WeightZero => "weight_zero",
            Exclusion::Backup => "backup",
            Exclusion::OtherTier => "other_tier",
            Exclusion::Starting => "starting",
            Exclusion::SlowStart => "slow_start",
            Exclusion::Changed => "changed",
        }
    }

    /// Why a server gets no traffic, or only when no other can.
    fn of(server: &Server, now: Moment) -> Self {
        let detail = || server.last_turn().map(|turn| cut(turn.why));
        match (server.mode_now(), server.health()) {
            (Mode::Drain, _) => Exclusion::Drain,
            (Mode::Maint, _) => Exclusion::Maint,
            (Mode::Ready, _) if server.is_down_by_agent() => {
                let line = server.agent().map(|word| word.line).unwrap_or_default();
                Exclusion::Down(Some(cut(format!("its agent said {line}"))))
            }
            (Mode::Ready, _) if server.weight_now().0 == 0 => Exclusion::WeightZero,
            (Mode::Ready, Health::Down) => Exclusion::Down(detail()),
            (Mode::Ready, Health::Ejected { until }) => {
                Exclusion::Ejected { left: until.since(now), detail: detail() }
            }
            (Mode::Ready, _) if server.is_backup() => Exclusion::Backup,
            (Mode::Ready, Health::Starting) => Exclusion::Starting,
            (Mode::Ready, Health::Up) => Exclusion::Changed,
        }
    }
}

impl Note {
    /// Of a pool with this algorithm; nothing is noted yet.
    pub fn of(algorithm: Algorithm) -> Self {
        Note { algorithm, ..Note::default() }
    }

    /// Notes the candidates, as the algorithm left them, and the one that it picked.
    pub(super) fn picked(
        &mut self,
        servers: &[Arc<Server>],
        candidates: &[Candidate],
        draw: Draw<'_>,
        slot: Slot,
        is_reserve: bool,
    ) {
        // The picked one is listed whatever the number of the others.
        let (of_picked, others) = candidates.iter().partition::<Vec<_>, _>(|seen| seen.slot == slot);
        let listed = of_picked.into_iter().take(1).chain(others).take(LISTED_MAX);
        let mut listed: Vec<&Candidate> = listed.collect();
        listed.sort_by_key(|seen| seen.slot);
        self.candidates_more = candidates.len() - listed.len();
        self.candidates = listed.into_iter().filter_map(|seen| considered(servers, seen)).collect();
        let server = servers.get(slot.0 as usize).map_or(String::new(), |server| server.name.clone());
        let (why, among) = self.algorithm.why(candidates, draw, slot);
        self.picked = Some(Picked { server, why, among, is_reserve });
        let is_sample = servers.len() > WHOLE_UP_TO && self.algorithm.sample().is_some();
        self.not_sampled = if is_sample { servers.len().saturating_sub(candidates.len()) } else { 0 };
    }

    /// Notes the candidates, of which none is taken because this one takes longer than what a full server needs, in microseconds.
    pub(super) fn later(
        &mut self,
        servers: &[Arc<Server>],
        candidates: &[Candidate],
        passed_over: &Server,
        (takes_us, sooner_us): (f32, f32),
    ) {
        self.candidates =
            candidates.iter().take(LISTED_MAX).filter_map(|seen| considered(servers, seen)).collect();
        self.candidates_more = candidates.len() - self.candidates.len();
        let us = |us: f32| Duration::from_micros(us as u64);
        let server = passed_over.name.clone();
        self.passed_over = Some(PassedOver { server, takes: us(takes_us), sooner: us(sooner_us) });
    }

    /// Notes that the request went to the server of its session.
    pub fn session(&mut self, server: &Server, now: Moment) {
        let seen = server.candidate(Slot(0), now);
        self.candidates = vec![Considered { id: server.id, server: server.name.clone(), seen }];
        let server = server.name.clone();
        self.picked = Some(Picked { server, why: Why::Session, among: 1, is_reserve: false });
    }

    /// Notes that the request went to a server that is out.
    pub(super) fn last_resort(&mut self, server: &Server, now: Moment) {
        self.session(server, now);
        if let Some(picked) = &mut self.picked {
            picked.why = Why::LastResort;
        }
    }

    /// Notes that the request went to a server in slow start, as one of the few that it gets; the other servers that were ready, so
    /// many with it, were not compared with it.
    pub(super) fn slow_start(&mut self, server: &Server, ready: usize, now: Moment) {
        self.session(server, now);
        self.not_sampled = ready.saturating_sub(1);
        if let Some(picked) = &mut self.picked {
            picked.why = Why::SlowStart;
        }
    }

    /// Notes why the other servers of the pool could not get the request.
    pub(super) fn exclude(&mut self, pool: &Pool, tried: &Tried, now: Moment) {
        let is_candidate = |server: &Server| self.candidates.iter().any(|one| one.id == server.id);
        let is_drawn = self.picked.as_ref().is_some_and(|picked| picked.why == Why::SlowStart);
        let is_whole = pool.ready.len() <= WHOLE_UP_TO && !is_drawn;
        let of_ready = pool.ready.iter().filter(|server| is_whole || tried.has(server.id));
        let others = of_ready.chain(&pool.beside).chain(&pool.reserve).chain(&pool.out);
        self.tier = pool.tier_name().map(|tier| tier.to_string());
        let of_other_tier =
            |server: &Server| pool.tier_name().is_some() && !pool.ready.iter().any(|one| one.id == server.id);
        let mut others = others.filter(|server| !is_candidate(server));
        let why = |server: &Server| match Exclusion::of(server, now) {
            _ if tried.has(server.id) => Exclusion::Tried,
            Exclusion::Changed if of_other_tier(server) => Exclusion::OtherTier,
            Exclusion::Changed if server.is_full() => Exclusion::Full { in_flight: server.in_flight() },
            Exclusion::Changed if server.is_in_slow_start() => Exclusion::SlowStart,
            why => why,
        };
        let listed = others.by_ref().take(LISTED_MAX);
        self.excluded =
            listed.map(|server| Excluded { server: server.name.clone(), why: why(server) }).collect();
        self.excluded_more = others.count();
        let tried = self.excluded.iter().filter(|excluded| excluded.why == Exclusion::Tried).count();
        self.not_sampled = self.not_sampled.saturating_sub(tried);
    }
}

fn considered(servers: &[Arc<Server>], seen: &Candidate) -> Option<Considered> {
    let server = servers.get(seen.slot.0 as usize)?;
    Some(Considered { id: server.id, server: server.name.clone(), seen: *seen })
}

/// The text, or as much of it as is kept.
fn cut(mut text: String) -> String {
    if let Some(end) = (0..=TEXT_BYTES_MAX)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .filter(|_| text.len() > TEXT_BYTES_MAX)
    {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::random::Random;
    use crate::policy::limit::MaxInFlight;
    use crate::policy::pick::Weight;
    use crate::state::choose::{Asked, Chooser, Chosen};
    use crate::state::config::ServerSpec;
    use crate::state::server::Turn;
    use crate::state::table::Table;
    use std::sync::atomic::AtomicU64;

    const NOW: Moment = Moment::from_millis(1_000);

    fn table(algorithm: Algorithm, servers: usize, max_in_flight: Option<u32>) -> Table {
        let spec = |at: usize| ServerSpec {
            backup: servers > 1 && at + 1 == servers,
            ..ServerSpec::new(format!("s{at}"), format!("127.0.0.1:{}", at + 1).parse().unwrap())
        };
        let limit = max_in_flight.map(MaxInFlight::Fixed);
        Table::new(algorithm, false, limit, &(0..servers).map(spec).collect::<Vec<_>>())
    }

    fn choose(table: &Table, tried: &Tried) -> (Chosen, Note) {
        choose_at(NOW, table, tried)
    }

    fn choose_at(now: Moment, table: &Table, tried: &Tried) -> (Chosen, Note) {
        let snapshot = table.snapshot();
        let (turn, mut random, mut candidates) = (AtomicU64::new(0), Random::seeded(3), Vec::new());
        let mut note = Note::of(snapshot.pool(PoolId(0)).algorithm);
        let mut chooser = Chooser {
            turn: &turn,
            random: &mut random,
            candidates: &mut candidates,
            now,
            note: Some(&mut note),
        };
        let chosen = chooser.choose(snapshot.pool(PoolId(0)), Asked::default(), tried);
        (chosen, note)
    }

    fn excluded(note: &Note) -> Vec<(&str, &'static str)> {
        note.excluded.iter().map(|one| (one.server.as_str(), one.why.name())).collect()
    }

    #[test]
    fn every_server_is_a_candidate_or_has_a_reason() {
        let table = table(Algorithm::LeastConnections, 8, Some(1));
        let server = |at: usize| table.find(&format!("s{at}")).unwrap();
        let _held = server(1).lease(NOW).unwrap();
        table.set_health(&server(2), Health::Down);
        server(2).turns(Turn { unix_seconds: 0, why: "3 probes failed in a row".into(), flaps: 0 });
        table.set_health(&server(3), Health::Ejected { until: NOW.after(Duration::from_secs(12)) });
        table.adjust(&server(4), Some(Mode::Drain), None);
        table.adjust(&server(5), None, Some(Weight(0)));
        let mut tried = Tried::default();
        tried.add(server(6).id);
        let (chosen, note) = choose(&table, &tried);
        assert!(matches!(&chosen, Chosen::Server(lease) if lease.server().name == "s0"), "{chosen:?}");
        let picked = Picked { server: "s0".into(), why: Why::OnlyOne, among: 1, is_reserve: false };
        assert_eq!((note.picked.as_ref(), note.candidates.len()), (Some(&picked), 1));
        let reasons = [
            ("s1", "full"),
            ("s6", "tried"),
            ("s7", "backup"),
            ("s2", "down"),
            ("s3", "ejected"),
            ("s4", "drain"),
            ("s5", "weight_zero"),
        ];
        assert_eq!(excluded(&note), reasons);
        assert_eq!(note.excluded[3].why, Exclusion::Down(Some("3 probes failed in a row".into())));
        let left = Duration::from_secs(12);
        assert_eq!(note.excluded[4].why, Exclusion::Ejected { left, detail: None });
        assert_eq!((note.excluded_more, note.not_sampled), (0, 0));
    }

    #[test]
    fn a_backup_is_the_last_resort_and_full_servers_are_told() {
        let table = table(Algorithm::Dynamic, 2, Some(1));
        let mut tried = Tried::default();
        tried.add(table.find("s0").unwrap().id);
        let (chosen, note) = choose(&table, &tried);
        assert!(matches!(chosen, Chosen::Server(_)));
        assert!(note.picked.as_ref().is_some_and(|picked| picked.is_reserve && picked.server == "s1"));
        assert_eq!(excluded(&note), [("s0", "tried")]);
        let _held = table.find("s0").unwrap().lease(NOW).unwrap();
        let (full, note) = choose(&table, &Tried::default());
        assert!(matches!(full, Chosen::Full) && note.picked.is_none());
        assert_eq!(excluded(&note), [("s0", "full"), ("s1", "backup")]);
    }

    #[test]
    fn a_server_that_hangs_does_not_get_what_the_full_ones_have_no_room_for() {
        let list = ["a", "b"].map(|name| ServerSpec {
            max_in_flight: (name == "a").then_some(MaxInFlight::Fixed(1)),
            ..ServerSpec::new(name, format!("{name}.test:1").parse().unwrap())
        });
        let table = Table::new(Algorithm::Dynamic, false, None, &list);
        let [a, b] = ["a", "b"].map(|name| table.find(name).unwrap());
        b.lease(NOW).unwrap().responded(true, Duration::from_millis(1), NOW);
        let late = NOW.after(Duration::from_secs(9));
        let _held = a.lease(late).unwrap();
        let is_full = || matches!(choose_at(late, &table, &Tried::default()).0, Chosen::Full);
        assert!(!is_full());
        let _silent: Vec<_> = (0..5).map(|_| b.lease(NOW).unwrap()).collect();
        assert!(is_full());
    }

    #[test]
    fn a_request_that_waits_for_a_sooner_server_is_told_which_one_it_did_not_take() {
        let list: Vec<_> = [MaxInFlight::Fixed(8), MaxInFlight::Auto]
            .into_iter()
            .enumerate()
            .map(|(at, limit)| ServerSpec {
                max_in_flight: Some(limit),
                ..ServerSpec::new(format!("s{at}"), format!("127.0.0.1:{}", at + 1).parse().unwrap())
            })
            .collect();
        let table = Table::new(Algorithm::Dynamic, false, None, &list);
        let [quick, slow] = ["s0", "s1"].map(|name| table.find(name).unwrap());
        for (server, ms) in [(&quick, 10), (&slow, 1_000)] {
            for _ in 0..30 {
                server.lease(NOW).unwrap().responded(true, Duration::from_millis(ms), NOW);
            }
        }
        let _held: Vec<_> = std::iter::from_fn(|| quick.lease(NOW).ok()).collect();
        let (chosen, note) = choose(&table, &Tried::default());
        assert!(matches!(chosen, Chosen::Later), "{chosen:?}");
        let passed_over = note.passed_over.as_ref().unwrap();
        assert_eq!((passed_over.server.as_str(), excluded(&note)), ("s1", vec![("s0", "full")]));
        assert!(passed_over.sooner < passed_over.takes, "{passed_over:?}");
        assert_eq!(note.candidates.len(), 1);
    }

    #[test]
    fn of_a_large_table_only_some_are_listed_and_the_rest_is_counted() {
        let table = table(Algorithm::Dynamic, 102, None);
        for at in 0..30 {
            table.set_health(&table.find(&format!("s{at}")).unwrap(), Health::Down);
        }
        let (_, note) = choose(&table, &Tried::default());
        let listed = note.candidates.len();
        assert!((1..=LISTED_MAX).contains(&listed), "{listed}");
        assert_eq!(note.not_sampled, 71 - listed);
        assert_eq!((note.excluded.len(), note.excluded_more), (LISTED_MAX, 31 - LISTED_MAX));
        let picked = note.picked.unwrap().server;
        assert!(note.candidates.iter().any(|one| one.server == picked));
    }
}
