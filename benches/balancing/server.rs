//! The servers: a process each, with slots and one queue in front of them. Their work is sleeping.
//!
//! When a request ends is computed as it comes, and it sleeps until then. A slot that was held while its thread slept was lost for 0.25 ms
//! after each request, until that thread and the next one were woken: at 95 % of the load a server that takes 10 ms was at 97.5 %, and
//! p99 of all balancers was 1.3 to 1.4 times as high.

use evenkeel::state::simulation::{Behaviour, Description, LoadReport};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The hidden argument that makes this program a server; then its [`Plan`] as JSON.
pub const ARGUMENT: &str = "--be-a-server";
/// How often a server looks whether its behaviour has changed.
const LOOK: Duration = Duration::from_millis(5);
/// Where it is asked for its load.
const REPORT: &str = "/queue/status";

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Its time begins now.
    pub fn begin(&mut self) {
        // A server that is gone shows in its responses.
        let _ = self.child.stdin.as_mut().map(|input| input.write_all(b"begin\n"));
    }
}

/// What a server is to be. Times are in milliseconds from its beginning.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    number: usize,
    slots: u64,
    speed: f64,
    does: Does,
    changes: Vec<(u64, Does)>,
    /// Every, lasts, first.
    pause: Option<[u64; 3]>,
    /// How long, and how much slower at first.
    cold: Option<(u64, f64)>,
    report: Says,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Does {
    Works,
    Fails,
    Hangs,
    Refuses,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Says {
    Nothing,
    Load,
    Number(u32),
    UpTo(u32),
}

impl From<Behaviour> for Does {
    fn from(behaviour: Behaviour) -> Self {
        match behaviour {
            Behaviour::Works | Behaviour::FailsSome(_) => Does::Works,
            Behaviour::Fails { .. } => Does::Fails,
            Behaviour::Hangs => Does::Hangs,
            Behaviour::Refuses => Does::Refuses,
        }
    }
}

impl Plan {
    fn of(world: &Description, number: usize) -> Self {
        let model = &world.servers[number];
        let ms = |time: Duration| time.as_millis() as u64;
        let changes = world.changes.iter().filter(|change| change.server == number);
        Plan {
            number,
            slots: u64::from(model.slots),
            speed: model.speed,
            does: model.behaviour.into(),
            changes: changes.map(|change| (ms(change.at), change.behaviour.into())).collect(),
            pause: model.pause.map(|pause| [pause.every, pause.lasts, pause.first].map(ms)),
            cold: model.cold.map(|(time, factor)| (ms(time), factor)),
            report: match model.report {
                LoadReport::None => Says::Nothing,
                LoadReport::True => Says::Load,
                LoadReport::Constant(load) => Says::Number(load),
                LoadReport::Random(most) => Says::UpTo(most),
            },
        }
    }
}

/// Starts the servers of a world.
pub fn start_all(world: &Description) -> Result<Vec<Server>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let start = |number: usize| {
        let plan = serde_json::to_string(&Plan::of(world, number)).map_err(|error| error.to_string())?;
        let mut child = Command::new(&program)
            .args([ARGUMENT, &plan])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("a server did not start: {error}"))?;
        let mut line = String::new();
        let told = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let address = line.trim().parse().map_err(|_| format!("a server did not start: {told:?}"))?;
        Ok(Server { address, child })
    };
    (0..world.servers.len()).map(start).collect()
}

struct State {
    plan: Plan,
    begun: OnceLock<Instant>,
    /// When each slot is free.
    slots: Mutex<BinaryHeap<Reverse<Duration>>>,
    /// Requests that wait or are worked on.
    load: AtomicUsize,
    /// The open connections, to close them while it refuses some.
    connections: Mutex<HashMap<usize, TcpStream>>,
}

impl State {
    /// Since its time began; zero before.
    fn now(&self) -> Duration {
        self.begun.get().map(Instant::elapsed).unwrap_or_default()
    }

    /// What it does at this time, and since when.
    fn does(&self, at: Duration) -> (Does, Duration) {
        let changes = || self.plan.changes.iter().map(|(ms, does)| (*does, Duration::from_millis(*ms)));
        let last = changes().rfind(|(_, since)| *since <= at && self.begun.get().is_some());
        last.unwrap_or((self.plan.does, Duration::ZERO))
    }

    fn does_now(&self) -> Does {
        self.does(self.now()).0
    }

    /// By how much it is slower at this time because it is cold.
    fn coldness(&self, at: Duration) -> f64 {
        let Some((lasts_ms, factor)) = self.plan.cold else { return 1.0 };
        let since_ms = (at - self.does(at).1).as_secs_f64() * 1e3;
        1.0 + (factor - 1.0) * (1.0 - since_ms / lasts_ms as f64).max(0.0)
    }

    /// When this much work ends that comes now: it gets the first slot that is free, behind all that came before.
    fn ends(&self, work: Duration) -> Duration {
        let Ok(mut slots) = self.slots.lock() else { return self.now() };
        let free = slots.pop().map_or(Duration::ZERO, |Reverse(free)| free);
        let ends = self.ends_from(free.max(self.now()), work);
        slots.push(Reverse(ends));
        ends
    }

    /// When work ends that begins then; later by the pauses in between.
    fn ends_from(&self, begins: Duration, work: Duration) -> Duration {
        let mut left = work.mul_f64(self.coldness(begins)).div_f64(self.plan.speed);
        let Some(pause) = self.plan.pause else { return begins + left };
        let [every, lasts, first] = pause.map(Duration::from_millis);
        let mut at = begins;
        while !left.is_zero() {
            let runs = match at.checked_sub(first) {
                None => left.min(first - at),
                Some(since) => {
                    let phase = Duration::from_nanos((since.as_nanos() % every.as_nanos().max(1)) as u64);
                    if phase < lasts {
                        at += lasts - phase;
                        continue;
                    }
                    left.min(every - phase)
                }
            };
            at += runs;
            left -= runs;
        }
        at
    }
}

/// Serves until the bench that started it is gone.
pub fn serve(words: &[String]) {
    let Some(plan) = words.first().and_then(|text| serde_json::from_str::<Plan>(text).ok()) else { return };
    let slots = Mutex::new((0..plan.slots).map(|_| Reverse(Duration::ZERO)).collect());
    let state = Arc::new(State {
        plan,
        begun: OnceLock::new(),
        slots,
        load: AtomicUsize::new(0),
        connections: Mutex::default(),
    });
    let Ok(mut listener) = TcpListener::bind("127.0.0.1:0") else { return };
    let Ok(address) = listener.local_addr() else { return };
    println!("{address}");
    let own = Arc::clone(&state);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines();
        if lines.next().is_some_and(|line| line.is_ok()) {
            let _ = own.begun.set(Instant::now());
            // The standard input ends with the bench.
            lines.for_each(drop);
        }
        std::process::exit(0);
    });
    loop {
        if accept_until_refusal(&listener, &state).is_err() {
            return;
        }
        drop(listener);
        for stream in state.connections.lock().iter().flat_map(|all| all.values()) {
            let _ = stream.shutdown(Shutdown::Read);
        }
        while state.does_now() == Does::Refuses {
            std::thread::sleep(LOOK);
        }
        let Ok(again) = TcpListener::bind(address) else { return };
        listener = again;
    }
}

fn accept_until_refusal(listener: &TcpListener, state: &Arc<State>) -> std::io::Result<()> {
    // Only one that will refuse connections has to look in between.
    let may_refuse =
        state.plan.does == Does::Refuses || state.plan.changes.iter().any(|(_, does)| *does == Does::Refuses);
    listener.set_nonblocking(may_refuse)?;
    for number in 0.. {
        let stream = loop {
            if may_refuse && state.does_now() == Does::Refuses {
                return Ok(());
            }
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
                Err(error) => return Err(error),
            }
        };
        stream.set_nonblocking(false)?;
        let (state, clone) = (Arc::clone(state), stream.try_clone()?);
        if let Ok(mut all) = state.connections.lock() {
            all.insert(number, clone);
        }
        std::thread::spawn(move || {
            let _ = connection(&stream, &state);
            if let Ok(mut all) = state.connections.lock() {
                all.remove(&number);
            }
        });
    }
    Ok(())
}

fn connection(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let (mut work, mut is_report) = (None, false);
        loop {
            let Some(line) = lines.next().transpose()? else { return Ok(()) };
            if line.is_empty() {
                break;
            }
            is_report |= line.contains(REPORT);
            if let Some(us) = line.to_ascii_lowercase().strip_prefix("x-work-us:") {
                work = us.trim().parse().ok();
            }
        }
        let (status, body) = match work {
            Some(us) => (respond(state, Duration::from_micros(us)), "ok".to_owned()),
            None if is_report => report(state),
            // What has no work is a probe.
            None => ("200 OK", "ok".to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nX-Server: {}\r\nContent-Length: {}\r\n\r\n{body}",
            state.plan.number,
            body.len()
        );
        (&*stream).write_all(head.as_bytes())?;
    }
}

fn report(state: &State) -> (&'static str, String) {
    let load = match state.plan.report {
        Says::Nothing => return ("404 Not Found", String::new()),
        Says::Load => state.load.load(Ordering::Relaxed),
        Says::Number(load) => load as usize,
        Says::UpTo(most) => fastrand::usize(0..=most as usize),
    };
    ("200 OK", format!("{{\"queue_length\":{load},\"in_progress\":0}}"))
}

/// Does the work; the status.
fn respond(state: &State, work: Duration) -> &'static str {
    if state.does_now() == Does::Fails {
        std::thread::sleep(Duration::from_millis(1));
        return "503 Service Unavailable";
    }
    while state.does_now() == Does::Hangs {
        std::thread::sleep(LOOK);
    }
    state.load.fetch_add(1, Ordering::Relaxed);
    let ends = state.ends(work);
    std::thread::sleep(ends.saturating_sub(state.now()));
    state.load.fetch_sub(1, Ordering::Relaxed);
    "200 OK"
}
