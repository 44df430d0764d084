//! Runs one case.

use super::case::{Case, Script, Setup, Step};
use super::observe::{AtClient, AtServers};
use super::rule::{Rule, show};
use crate::support::origin::Visit;
use crate::support::{Client, Origin};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A proxy that listens. Dropping it ends it.
pub trait Proxy {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
}

/// How long a proxy may take.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For a response, and for the end of a connection.
    pub response: Duration,
    /// How long [`Step::Pause`] lasts.
    pub pause: Duration,
}

/// Runs all cases, some of them side by side: most of the time they wait for other processes.
pub fn all<R: Send>(cases: &[Case], lanes: usize, run: impl Fn(&Case) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let lane = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(at) else { return };
            let result = run(case);
            results.lock().unwrap().push((at, result));
        }
    };
    std::thread::scope(|scope| (0..lanes).for_each(|_| drop(scope.spawn(lane))));
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs a case against the proxy that `start` starts before these servers; says what does not hold.
pub fn run<P: Proxy>(
    case: &Case,
    waits: Waits,
    start: impl FnOnce(&[SocketAddr], Setup) -> Result<P, String>,
) -> Result<(), String> {
    let servers: Vec<Origin> = case.servers.iter().map(server).collect();
    let addresses: Vec<_> = servers.iter().map(Origin::address).collect();
    let proxy = start(&addresses, case.setup)?;
    let client = Client::connect(proxy.address()).map_err(|error| format!("no connection: {error}"))?;
    let mut seen = AtClient::new(client, waits.response);
    case.steps.iter().for_each(|step| act(step, &mut seen, &servers, waits));
    let judged: Vec<_> = case.ways.iter().map(|way| holds(way, |rule| rule.at_client(&mut seen))).collect();
    drop(proxy);
    let raw = servers.iter().flat_map(everything).collect();
    let at_servers = AtServers::of(raw, seen.responses.iter().any(|response| response.status == 101));
    let faults = [&seen.faults[..], &at_servers.faults[..]].concat();
    if !faults.is_empty() {
        return Err(told(case, &seen, &at_servers, &faults));
    }
    let mut wrong = Vec::new();
    for (way, judged) in case.ways.iter().zip(judged) {
        match judged.and_then(|()| holds(way, |rule| rule.at_servers(&at_servers))) {
            Ok(()) => return Ok(()),
            Err(why) => wrong.push(why),
        }
    }
    Err(told(case, &seen, &at_servers, &wrong))
}

fn holds(way: &[Rule], mut check: impl FnMut(&Rule) -> Result<(), String>) -> Result<(), String> {
    way.iter().try_for_each(|rule| check(rule).map_err(|why| format!("{rule:.60?}: {why}")))
}

fn act(step: &Step, seen: &mut AtClient, servers: &[Origin], waits: Waits) {
    match step {
        Step::Send(bytes) => _ = seen.client().map(|client| client.try_send(bytes)),
        Step::Bytewise(bytes) => {
            bytes.iter().for_each(|byte| _ = seen.client().map(|client| client.try_send([*byte])));
        }
        Step::Response(method) => seen.read_response(method),
        Step::Interim => seen.read_interim(),
        Step::Bytes(count) => seen.read_bytes(*count),
        Step::AtServer(heads) => {
            let mut left = *heads;
            for server in servers {
                left = left.saturating_sub(server.wait_for_heads(left, waits.response));
            }
        }
        Step::Finish => _ = seen.client().map(|client| client.stream.shutdown(std::net::Shutdown::Write)),
        Step::Reset => seen.reset(),
        Step::Pause => std::thread::park_timeout(waits.pause),
    }
}

/// Every byte of each connection, once all of them have ended: the proxy has gone.
fn everything(server: &Origin) -> Vec<Vec<u8>> {
    server.wait_for_quiet();
    (0..server.connections()).map(|connection| server.bytes(connection)).collect()
}

/// What happened, for a person.
fn told(case: &Case, seen: &AtClient, at_servers: &AtServers, wrong: &[String]) -> String {
    let sent: Vec<u8> = case.steps.iter().flat_map(bytes_of).copied().collect();
    let responses =
        seen.responses.iter().map(|response| format!("{:?}", response.line)).collect::<Vec<_>>().join(", ");
    let servers = at_servers.raw.iter().map(|bytes| show(bytes)).collect::<Vec<_>>().join(" | ");
    format!(
        "{} [{}, {}, RFC {}]\n  wrong: {}\n  sent: {}\n  responses: {responses}; then {}\n  servers: {servers}",
        case.id,
        case.area.name(),
        case.level.name(),
        case.rfc,
        wrong.join("\n  or: "),
        show(&sent),
        seen.how_it_broke(),
    )
}

fn bytes_of(step: &Step) -> &[u8] {
    match step {
        Step::Send(bytes) | Step::Bytewise(bytes) => bytes,
        _ => &[],
    }
}

/// A server for this script. Whatever the script is, it reads all that comes in the end.
fn server(script: &Script) -> Origin {
    if matches!(script, Script::Rejects) {
        return Origin::refuses();
    }
    let script = script.clone();
    let turn = Mutex::new(0);
    Origin::start(move |visit| play(&script, &turn, visit))
}

fn play(script: &Script, turn: &Mutex<usize>, visit: &mut Visit) {
    match script {
        Script::Says(bytes) => {
            while visit.request().is_some() {
                visit.send(bytes);
            }
        }
        Script::SaysBytewise(bytes) => {
            while visit.request().is_some() {
                bytes.iter().for_each(|byte| visit.send([*byte]));
            }
        }
        Script::SaysAndCloses(bytes) => {
            if visit.request().is_some() {
                visit.send(bytes);
                return;
            }
        }
        Script::SaysAndResets(bytes) => {
            if visit.request().is_some() {
                visit.send(bytes);
                return visit.reset_on_close();
            }
        }
        Script::InTurn(responses) => {
            while visit.request().is_some() {
                visit.send(next(responses, turn));
            }
        }
        Script::AtHead(bytes) => {
            if visit.head().is_some() {
                visit.send(bytes);
            }
        }
        Script::AroundBody(before, after) => {
            while let Some(head) = visit.head() {
                visit.send(before);
                if visit.body(head).is_none() {
                    break;
                }
                visit.send(after);
            }
        }
        Script::Echoes => {
            while let Some(seen) = visit.request() {
                visit.response(&seen.body);
            }
        }
        Script::Rejects => return,
        Script::Does(act) => return act(visit),
    }
    // What is no good request is read, too: the strict reader wants to see it.
    visit.to_the_end();
}

fn next<'a>(responses: &'a [Vec<u8>], turn: &Mutex<usize>) -> &'a [u8] {
    let mut turn = turn.lock().unwrap();
    *turn += 1;
    responses.get(*turn - 1).map_or(super::case::OK, |response| response)
}
