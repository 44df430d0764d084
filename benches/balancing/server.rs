//! The servers: a process each, with slots and one queue in front of them. Their work is sleeping.

use evenkeel::state::simulation::{Behaviour, Description, Pause, Server as Model};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The hidden argument that makes this program a server: number, slots, speed, behaviour, and a pause in milliseconds.
pub const ARGUMENT: &str = "--be-a-server";

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

/// Starts the servers of a world.
pub fn start_all(world: &Description) -> Result<Vec<Server>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let start = |(number, model): (usize, &Model)| {
        let mut child = Command::new(&program)
            .arg(ARGUMENT)
            .args(words(number, model))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("a server did not start: {error}"))?;
        let mut line = String::new();
        let told = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let address = line.trim().parse().map_err(|_| format!("a server did not start: {told:?}"))?;
        Ok(Server { address, child })
    };
    world.servers.iter().enumerate().map(start).collect()
}

fn words(number: usize, model: &Model) -> Vec<String> {
    let behaviour = match model.behaviour {
        Behaviour::Fails { .. } => "fails",
        Behaviour::Hangs => "hangs",
        Behaviour::Works | Behaviour::FailsSome(_) | Behaviour::Refuses => "works",
    };
    let mut words =
        vec![number.to_string(), model.slots.to_string(), model.speed.to_string(), behaviour.to_string()];
    if let Some(pause) = model.pause {
        words.extend([pause.every, pause.lasts, pause.first].map(|time| time.as_millis().to_string()));
    }
    words
}

struct State {
    number: String,
    speed: f64,
    behaviour: String,
    pause: Option<Pause>,
    started: Instant,
    slots: Slots,
}

/// Slots that are given out first in, first out.
struct Slots {
    /// The next ticket, the first that has to wait.
    tickets: Mutex<(u64, u64)>,
    freed: Condvar,
}

impl Slots {
    fn take(&self) {
        let Ok(mut tickets) = self.tickets.lock() else { return };
        let mine = tickets.0;
        tickets.0 += 1;
        while mine >= tickets.1 {
            let Ok(woken) = self.freed.wait(tickets) else { return };
            tickets = woken;
        }
    }

    fn give(&self) {
        if let Ok(mut tickets) = self.tickets.lock() {
            tickets.1 += 1;
        }
        self.freed.notify_all();
    }
}

/// Serves until the bench that started it is gone.
pub fn serve(words: &[String]) {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok());
    let ms = |at: usize| number(at).map(|ms| Duration::from_millis(ms as u64));
    let pause = ms(4).zip(ms(5)).zip(ms(6)).map(|((every, lasts), first)| Pause { every, lasts, first });
    let state = Arc::new(State {
        number: words.first().cloned().unwrap_or_default(),
        speed: number(2).unwrap_or(1.0),
        behaviour: words.get(3).cloned().unwrap_or_default(),
        pause,
        started: Instant::now(),
        slots: Slots { tickets: Mutex::new((0, number(1).unwrap_or(1.0) as u64)), freed: Condvar::new() },
    });
    let Ok(listener) = TcpListener::bind("127.0.0.1:0") else { return };
    if let Ok(address) = listener.local_addr() {
        println!("{address}");
    }
    std::thread::spawn(|| {
        // The standard input ends with the bench.
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    for stream in listener.incoming().flatten() {
        let state = Arc::clone(&state);
        std::thread::spawn(move || drop(connection(&stream, &state)));
    }
}

fn connection(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let mut work = None;
        loop {
            let Some(line) = lines.next().transpose()? else { return Ok(()) };
            if line.is_empty() {
                break;
            }
            if let Some(us) = line.to_ascii_lowercase().strip_prefix("x-work-us:") {
                work = us.trim().parse().ok();
            }
        }
        // What has no work is a probe.
        let status = work.map_or("200 OK", |us| respond(state, Duration::from_micros(us)));
        let head = format!("HTTP/1.1 {status}\r\nX-Server: {}\r\nContent-Length: 2\r\n\r\nok", state.number);
        (&*stream).write_all(head.as_bytes())?;
    }
}

/// Does the work; the status.
fn respond(state: &State, work: Duration) -> &'static str {
    match state.behaviour.as_str() {
        "fails" => {
            std::thread::sleep(Duration::from_millis(1));
            "503 Service Unavailable"
        }
        "hangs" => loop {
            std::thread::park();
        },
        _ => {
            state.slots.take();
            sleep(state, work.div_f64(state.speed));
            state.slots.give();
            "200 OK"
        }
    }
}

/// Sleeps, and longer by the pauses in between.
fn sleep(state: &State, work: Duration) {
    let Some(pause) = state.pause else { return std::thread::sleep(work) };
    let mut left = work;
    loop {
        let now = state.started.elapsed();
        let Some(since) = now.checked_sub(pause.first) else {
            let runs = left.min(pause.first - now);
            std::thread::sleep(runs);
            left -= runs;
            if left.is_zero() {
                return;
            }
            continue;
        };
        let phase = Duration::from_nanos((since.as_nanos() % pause.every.as_nanos().max(1)) as u64);
        if phase < pause.lasts {
            std::thread::sleep(pause.lasts - phase);
            continue;
        }
        let runs = left.min(pause.every - phase);
        std::thread::sleep(runs);
        left -= runs;
        if left.is_zero() {
            return;
        }
    }
}
