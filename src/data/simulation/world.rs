//! The worlds: a balancer between simulated clients and servers, driven event by event, and what must hold in each.

use super::peers::{Client, HEADS, ServerConn, Went};
use super::{Duplex, Net, Wire};
use crate::base::ids::ConnectionKey;
use crate::base::limits::Descriptors;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::data::context::{Context, Network};
use crate::data::h1::{Advance, Connection};
use crate::data::poller::{Poller, Side};
use crate::data::shared::{ConnectionPermit, Shared};
use crate::data::transport::Transport;

use crate::state::config::{self, Config};
use crate::state::live::Live;
use crate::state::table::Table;
use crate::state::verdict::Verdicts;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Client connections of a world.
const CLIENTS: usize = 3;
/// The most requests of each.
const REQUESTS: usize = 8;
/// Steps after which a world that is not over hangs.
const STEPS_MAX: usize = 200_000;

/// Worlds of a usual run: 100,000 exchanges.
const USUAL_WORLDS: u64 = 9_600;

/// Connections that both ends have left are dropped in one of so many steps.
const WIRES_SWEPT_ONE_IN: usize = 32;

/// A peer hesitates once in four times at the most. Tries after which nothing that could go on has hesitated each time.
const HESITATIONS: usize = 16;

/// A connection of the balancer.
struct Held {
    connection: Box<Connection>,
    until: Moment,
    ready: bool,
}

struct World {
    cx: Context,
    held: Vec<Option<Held>>,
    clients: Vec<Client>,
    servers: Vec<ServerConn>,
    wires: Vec<Arc<Mutex<Duplex>>>,
    seen: HashMap<String, u32>,
    random: Random,
    faulty: bool,
    kind: Kind,
    table: Arc<Table>,
    log: Vec<String>,
}

/// What differs between worlds, beside the network.
#[derive(Clone, Copy, Debug)]
struct Kind {
    max_in_flight: Option<u32>,
    is_hedged: bool,
    has_deadlines: bool,
    /// Servers respond with errors now and then, after which another one is to be tried.
    refuses: bool,
}

fn config(kind: Kind) -> Config {
    let Kind { max_in_flight, is_hedged, has_deadlines, refuses } = kind;
    let retries = if refuses { r#"{"budget_min": 1000, "on_status": 507}"# } else { "{}" };
    let request = if has_deadlines { r#""2ms""# } else { "null" };
    let hedge = if is_hedged { r#"{"after": "1ms", "budget": "100%"}"# } else { "null" };
    let limit = max_in_flight.map_or("null".into(), |most| most.to_string());
    let text = format!(
        r#"{{"servers": {{"max_in_flight": {limit}, "list": [{{"name": "a", "address": "127.0.0.1:1"}}, {{"name": "b", "address": "127.0.0.1:2"}}],
        "health_check": {{"enabled": false}}, "hedge": {hedge}}}, "threadpool": {{"queue_timeout": "10m", "queue_max_wait": "10m"}}, "timeouts": {{"request": {request}}}, "retries": {retries}}}"#
    );
    config::parse(&text, Path::new("")).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        let faulty = random.below(2) == 0;
        let kind = Kind {
            max_in_flight: (random.below(3) == 0).then_some(1),
            is_hedged: random.below(2) == 0,
            has_deadlines: faulty && random.below(3) == 0,
            refuses: random.below(3) == 0,
        };
        let table = Arc::new(Table::of(Live::plain(config(kind))));
        let shared = Arc::new(Shared::new(
            ("test", Descriptors::ALL),
            Arc::clone(&table),
            Arc::default(),
            Verdicts::default(),
        ));
        let mut cx = Context::new(&shared, 1, Poller::new().unwrap());
        cx.now = Moment::from_millis(1000);
        cx.random = Random::seeded(seed ^ 1);
        cx.network = Network::Simulated(Net::new(seed ^ 2, if faulty { 5 } else { 0 }));
        let mut world = World {
            cx,
            held: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            wires: Vec::new(),
            seen: HashMap::new(),
            random,
            faulty,
            kind,
            table,
            log: Vec::new(),
        };
        (0..CLIENTS).for_each(|name| world.connect(name, &shared));
        world
    }

    fn connect(&mut self, name: usize, shared: &Arc<Shared>) {
        let (near, far) = Wire::pair([100, 600, 4000, 70_000][self.random.below(4)]);
        self.wires.push(near.shared());
        let permit = ConnectionPermit::new(shared, &self.cx.live().listeners[0], None, false);
        let mut connection = Box::new(Connection::new(Transport::Simulated(near), None, permit, self.cx.now));
        connection.adopt(name, 0, &mut self.cx);
        self.held.push(Some(Held { connection, until: Moment::NEVER, ready: true }));
        let requests = 1 + self.random.below(REQUESTS);
        self.clients.push(Client::new(far, name, requests, self.faulty, &mut self.random));
    }

    /// Runs until every client has what it wanted or has left, and the balancer has let go of all. The exchanges.
    fn run(mut self) -> usize {
        for _ in 0..STEPS_MAX {
            // Peers hesitate by chance: only what does not go on again and again stands still.
            let went = (0..HESITATIONS).any(|_| self.step());
            if !went && self.held.iter().all(Option::is_none) && self.clients.iter().all(|c| c.wire.is_none())
            {
                return self.check();
            }
            if !went && !self.jump() {
                panic!("nothing can go on: {:?} {:#?}", self.log, self.clients);
            }
        }
        panic!("it does not end: {:#?}", self.clients);
    }

    /// One thing happens, chosen by chance among those that can. False: nothing can but the passing of time.
    fn step(&mut self) -> bool {
        self.cx.now = self.cx.now.after(Duration::from_micros(self.random.below(200) as u64));
        let begin = self.random.below(64);
        let kinds = 4;
        for at in 0..kinds {
            let went = match (begin + at) % kinds {
                0 => self.deliver(),
                1 => self.clients_go_on(),
                2 => self.servers_go_on(),
                _ => self.balance(),
            };
            if went {
                return true;
            }
        }
        false
    }

    fn deliver(&mut self) -> bool {
        if self.random.below(WIRES_SWEPT_ONE_IN) == 0 {
            self.wires.retain(|wire| !wire.lock().is_over());
        }
        let (begin, side) = (self.random.below(self.wires.len()), self.random.below(2));
        for at in 0..self.wires.len() {
            let mut wire = self.wires[(begin + at) % self.wires.len()].lock();
            let Some(from) = [side, 1 - side].into_iter().find(|side| wire.has_transit(*side)) else {
                continue;
            };
            let scale = self.random.below(4);
            let most = 1 + self.random.below([3, 100, 5000, 100_000][scale]);
            wire.deliver(from, most);
            return true;
        }
        false
    }

    fn clients_go_on(&mut self) -> bool {
        let mut went = false;
        for client in &mut self.clients {
            let before = client.wire.is_some();
            let step = client.go_on(&mut self.random);
            went |= step == Went::On || before && step == Went::Over;
            assert_eq!(client.fault, None, "{client:#?}");
        }
        for client in &self.clients {
            for asked in client.open.iter().filter(|asked| asked.method == "HEAD") {
                HEADS.with(|heads| _ = heads.borrow_mut().insert(asked.id.clone()));
            }
        }
        went
    }

    fn servers_go_on(&mut self) -> bool {
        let mut went = false;
        let Network::Simulated(net) = &mut self.cx.network else { return false };
        while let Some((_, wire)) = net.accepted.pop_front() {
            self.wires.push(wire.shared());
            self.servers.push(ServerConn::new(wire, self.faulty, self.kind.refuses));
            went = true;
        }
        let (seen, random) = (&mut self.seen, &mut self.random);
        self.servers.retain_mut(|server| {
            let step = server.go_on(seen, random).unwrap_or_else(|fault| panic!("a server read: {fault}"));
            went |= step != Went::Nowhere;
            step != Went::Over
        });
        went
    }

    /// What the worker does in a turn.
    fn balance(&mut self) -> bool {
        for wire in &self.wires {
            let Some((token, ready)) = wire.lock().take_edge() else { continue };
            let key = match token.side {
                Side::Server => self.cx.servers.notify(token, ready),
                Side::Client => Some(token.key as usize),
            };
            let Some(held) = key.and_then(|key| self.held.get_mut(key)?.as_mut()) else { continue };
            if token.side == Side::Client {
                held.connection.notify(ready);
            }
            held.ready = true;
        }
        self.cx.polled_at = self.cx.now;
        let mut called = Vec::new();
        self.cx.mailbox.take(&mut called);
        for ConnectionKey { key, .. } in called {
            self.held[key].iter_mut().for_each(|held| held.ready = true);
        }
        let mut went = false;
        for key in 0..self.held.len() {
            let now = self.cx.now;
            let Some(held) = self.held[key].as_mut().filter(|held| held.ready || held.until <= now) else {
                continue;
            };
            went = true;
            held.ready = false;
            match held.connection.advance(&mut self.cx) {
                Advance::Wait(until) => {
                    assert!(until < Moment::NEVER, "a wait without a deadline");
                    held.connection.watch(&mut self.cx).unwrap();
                    held.until = until;
                }
                Advance::Yield => held.ready = true,
                // Parked connections are looked at when bytes come, as here.
                Advance::Park => held.until = held.connection.head_deadline(&self.cx.live().config),
                Advance::Closed => {
                    let mut held = self.held[key].take().unwrap();
                    held.connection.abandon(crate::http1::reason::Reason::ClientGone, &mut self.cx);
                }
            }
        }
        went
    }

    /// Nothing moves: time goes on to the next deadline.
    fn jump(&mut self) -> bool {
        let next = self.held.iter().flatten().map(|held| held.until).min();
        let Some(next) = next.filter(|next| *next < Moment::NEVER) else { return false };
        self.log.push(format!("{next:?}"));
        self.cx.now = self.cx.now.max(next);
        self.log.truncate(50);
        true
    }

    /// What must hold at the end.
    fn check(mut self) -> usize {
        for server in &self.table.snapshot().servers {
            assert_eq!(server.in_flight(), 0, "a lease is left");
        }
        assert_eq!(self.cx.live().waiting(), 0);
        assert_eq!(self.cx.servers.len(), self.cx.servers.idle(), "a server connection is left");
        let mut exchanges = 0;
        for client in &self.clients {
            exchanges += client.responses.len();
            for (asked, status) in &client.responses {
                let times = self.seen.get(&asked.id).copied().unwrap_or(0);
                assert!(asked.method != "POST" || times <= 1, "{asked:?} was sent {times} times");
                let refused = self.kind.refuses && *status == 507;
                assert!(self.faulty || *status == 200 || refused, "{asked:?} was answered {status}");
                let (is_free, is_alone) = (self.kind.max_in_flight.is_none(), !self.kind.is_hedged);
                if refused && is_free && is_alone && !self.faulty && matches!(asked.method, "GET" | "HEAD") {
                    assert_eq!(
                        times, 2,
                        "{asked:?}: the error is the client's once both servers have said so"
                    );
                }
            }
            let is_whole = client.open.is_empty() || self.faulty || !client.left;
            // A pipelined request behind a response that closes is not answered, and its client knows.
            assert!(is_whole || !client.responses.is_empty(), "{client:#?}");
        }
        self.cx.servers.clear();
        exchanges
    }
}

fn run(seeds: impl Iterator<Item = u64>) -> usize {
    seeds
        .map(|seed| {
            HEADS.with(|heads| heads.borrow_mut().clear());
            let world = std::panic::AssertUnwindSafe(|| World::new(seed).run());
            std::panic::catch_unwind(world).unwrap_or_else(|_| panic!("seed {seed}"))
        })
        .sum()
}

/// Worlds of the numbers that leave this remainder; `SIMULATION_WORLDS` asks for more of them than the usual ones, from
/// the number `SIMULATION_SEED` on.
fn run_share(remainder: u64) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (worlds, first) = (number("SIMULATION_WORLDS", USUAL_WORLDS), number("SIMULATION_SEED", 0));
    let exchanges = run((first..first + worlds).filter(|seed| seed % 2 == remainder));
    println!("{exchanges} exchanges in {} worlds", worlds / 2);
    let is_usual = worlds >= USUAL_WORLDS;
    assert!(!is_usual || exchanges >= 50_000, "100,000 exchanges in both parts");
}

/// In two parts, for two processors.
#[test]
fn every_request_gets_its_own_response_or_a_reason_whatever_the_network_does() {
    run_share(0);
}

#[test]
fn every_request_gets_its_own_response_or_a_reason_whatever_the_network_does_2() {
    run_share(1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        HEADS.with(|heads| heads.borrow_mut().clear());
        let mut world = World::new(seed);
        let mut trace = Vec::new();
        for _ in 0..2000 {
            if !(0..HESITATIONS).any(|_| world.step()) && !world.jump() {
                break;
            }
            trace.push((world.cx.now, world.cx.servers.len(), world.seen.len()));
        }
        trace
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}
