//! The load generator: sends requests over many connections and measures the responses.
//!
//! A few threads, each with its own poller, connections and counts; nothing is shared on the path of a request. The
//! closed loop sends the next request when the previous one has its response, and measures what the server can do. The
//! open loop sends at a fixed rate and counts each latency from the moment the request was due, and measures what users
//! see.

mod chunked;
mod connect;
mod connection;
mod driver;
mod html;
mod pace;
mod plan;
mod prepare;
mod report;
mod response;
mod secure;
mod spread;
mod summary;
mod tally;
mod target;
pub mod urls;

pub use summary::{BadResponse, Bar, Errors, Latency, Slice, Summary, UrlCounts};
pub use urls::Entry;

use crate::base::signals::{self, Received};
use crate::base::time::{self, Moment};
use crate::base::{limits, output, program};
use crossbeam_channel::{Receiver, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pace::{Pace, Timetable};
use plan::{Plan, Share};
use prepare::Prepared;
use std::convert::Infallible;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tally::Tally;

/// Update interval of the progress bar.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);
/// The number of connections from which on a second thread is worth its cost.
const TWO_THREADS: usize = 32;

/// What to send, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port/path`, or `https://`.
    pub url: String,
    /// Several requests instead of one to `url`, by weight; their paths are at its host.
    pub entries: Vec<Entry>,
    /// Connections used at the same time, at least 1.
    pub connections: usize,
    /// How long to send; 10 seconds when neither this nor `requests` is given.
    pub duration: Option<Duration>,
    /// How many requests to send.
    pub requests: Option<u64>,
    /// Requests per second over all connections: the open loop. The closed loop when `None` and without a ramp.
    pub rate: Option<f64>,
    /// The rate at the start, in stages; then it is `rate`, or that of the end of the last stage.
    pub ramp: Vec<Stage>,
    /// The method.
    pub method: String,
    /// Bytes of each request's body, if `body` is empty.
    pub body_size: usize,
    /// The body of each request.
    pub body: Vec<u8>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Reuse connections; false opens a new one for each request.
    pub keep_alive: bool,
    /// Over TLS, resume earlier sessions, as browsers do; false makes a full handshake for each connection.
    pub resume: bool,
    /// Over TLS, accept any certificate.
    pub insecure: bool,
    /// Over TLS, the authorities (PEM) in the place of the system's.
    pub cacert: Option<PathBuf>,
    /// Print one JSON object instead of text.
    pub json: bool,
    /// Also write the result into this file, with charts.
    pub html: Option<PathBuf>,
    /// No progress bar.
    pub quiet: bool,
    /// Threads; when `None`, 1 below 32 connections and 2 from there on.
    pub threads: Option<usize>,
    /// Time limit of a whole response.
    pub timeout: Duration,
    /// The time at the start in which nothing is counted, so that connections are made and the target warms up. It
    /// comes before `duration`.
    pub warm_up: Duration,
}

/// A part of a ramp: the rate changes evenly from one to the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Requests a second at its start, 0 or more.
    pub from_per_s: f64,
    /// Requests a second at its end, above 0.
    pub to_per_s: f64,
    /// How long it lasts, above 0.
    pub lasts: Duration,
}

impl Options {
    /// The defaults: GET, 50 connections, closed loop, 30 seconds for a response.
    pub fn new(url: &str) -> Self {
        Options {
            url: url.to_string(),
            entries: Vec::new(),
            connections: 50,
            duration: None,
            requests: None,
            rate: None,
            ramp: Vec::new(),
            method: "GET".to_string(),
            body_size: 0,
            body: Vec::new(),
            headers: Vec::new(),
            keep_alive: true,
            resume: true,
            insecure: false,
            cacert: None,
            json: false,
            html: None,
            quiet: false,
            threads: None,
            timeout: Duration::from_secs(30),
            warm_up: Duration::ZERO,
        }
    }
}

/// Runs the load and prints the result. A stop signal ends it early and still prints. Returns the exit code: 0 when
/// every response was 2xx or 3xx, 1 otherwise, with the reason on standard error.
pub fn run(options: Options) -> Result<u8, String> {
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(Arc::clone(&stop))?;
    let shows = !options.quiet && std::io::stderr().is_terminal();
    let prepared = prepare::prepare(&options, true)?;
    // Before the load: a minute of it is not for a folder that does not exist.
    let mut page = options.html.as_deref().map(created).transpose()?;
    let summary = load(&options, prepared, stop, shows)?;
    let text = match options.json {
        true => {
            serde_json::to_string(&summary).map_err(|error| format!("cannot write JSON: {error}"))? + "\n"
        }
        false => report::text(&summary),
    };
    output::print(text.as_bytes());
    if let (Some(page), Some(file)) = (&mut page, &options.html) {
        page.write_all(html::page(&summary).as_bytes()).map_err(|error| unwritten(file, &error))?;
    }
    match summary.complaint() {
        None => Ok(0),
        Some(complaint) => {
            let rejected = [502, 503, 504].iter().any(|status| summary.statuses.contains_key(status));
            let advice = match rejected {
                true => {
                    format!("; if the balancer rejected them, `{} status` has the reasons", program::name())
                }
                false => String::new(),
            };
            output::error().tell(format!("{complaint}{advice}\n").into_bytes());
            Ok(1)
        }
    }
}

fn created(file: &Path) -> Result<File, String> {
    File::create(file).map_err(|error| unwritten(file, &error))
}

fn unwritten(file: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", file.display())
}

/// Sets the flag at the first stop signal; a second one ends the process.
fn watch_signals(stop: Arc<AtomicBool>) -> Result<(), String> {
    let watch = signals::Watch::new(&signals::STOP, &[]);
    let watch = watch.map_err(|error| format!("cannot watch for signals: {error}"))?;
    let thread = std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        while let Some(heard) = watch.wait() {
            match heard {
                Received::StopNow(_) => std::process::exit(130),
                _ => stop.store(true, Ordering::Relaxed),
            }
        }
    });
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Runs the load and returns the result; prints nothing and handles no signal. Fails with a sentence when the options
/// contradict each other or the host cannot be resolved; a server that does not respond is not a failure but counted in
/// [`Summary::errors`].
pub fn measure(options: &Options) -> Result<Summary, String> {
    load(options, prepare::prepare(options, false)?, Arc::new(AtomicBool::new(false)), false)
}

fn load(options: &Options, to: Prepared, stop: Arc<AtomicBool>, show: bool) -> Result<Summary, String> {
    check(options)?;
    limits::raise_descriptors();
    let duration = limited(options);
    let begun = time::now();
    // Counting starts here.
    let start = begun.after(options.warm_up);
    let plan = Plan {
        origins: to.origins,
        mix: to.mix,
        keep_alive: options.keep_alive,
        timeout: options.timeout,
        begun,
        start,
        end: duration.map_or(Moment::NEVER, |duration| start.after(duration)),
        stop,
        progress: Arc::new(AtomicU64::new(0)),
    };
    let threads = threads(options);
    let tally = drive_all(&plan, options, threads, show)?;
    let interrupted = plan.stop.load(Ordering::Relaxed);
    let elapsed = match (interrupted, plan.end) {
        (true, _) => time::now().min(plan.end).since(start),
        (false, end) if tally.last_response < end && options.requests.is_some() => {
            tally.last_response.since(start)
        }
        (false, end) => end.since(start),
    };
    let mut summary = Summary::of(&tally, options, threads, elapsed, interrupted);
    (summary.handshakes, summary.resumed) = plan.handshakes();
    Ok(summary)
}

fn check(options: &Options) -> Result<(), String> {
    if options.connections == 0 {
        return Err("at least one connection is needed".to_string());
    }
    if options.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err("a rate is a number of requests a second above zero".to_string());
    }
    let is_wrong = |stage: &Stage| {
        !(stage.from_per_s >= 0.0
            && stage.from_per_s.is_finite()
            && stage.to_per_s > 0.0
            && stage.to_per_s.is_finite())
            || stage.lasts.is_zero()
    };
    if options.ramp.iter().any(is_wrong) {
        return Err("a stage of a ramp ends at a rate above zero, and lasts for some time".to_string());
    }
    if options.timeout.is_zero() || options.duration.is_some_and(|duration| duration.is_zero()) {
        return Err("a time above zero is needed".to_string());
    }
    Ok(())
}

fn limited(options: &Options) -> Option<Duration> {
    match (options.duration, options.requests) {
        (None, None) if options.ramp.is_empty() => Some(Duration::from_secs(10)),
        (None, None) => Some(options.ramp.iter().map(|stage| stage.lasts).sum()),
        (duration, _) => duration,
    }
}

fn threads(options: &Options) -> usize {
    let cores = crate::base::load::processors();
    let default = if options.connections < TWO_THREADS { 1 } else { cores.min(2) };
    options.threads.unwrap_or(default).clamp(1, options.connections)
}

/// Starts the drivers, watches them, and adds up their counts.
fn drive_all(plan: &Plan, options: &Options, threads: usize, show: bool) -> Result<Tally, String> {
    let mut sum = Tally::new(plan.mix.entries.len(), plan.start)?;
    let (alive, ended) = bounded(0);
    std::thread::scope(|scope| {
        let mut drivers = Vec::new();
        for number in 0..threads {
            let (share, alive) = (share(plan, options, number, threads), alive.clone());
            let work = move || drive_alive(plan, share, alive);
            let thread = std::thread::Builder::new().name(format!("load-{number}"));
            match thread.spawn_scoped(scope, work) {
                Ok(driver) => drivers.push(driver),
                Err(error) => {
                    plan.stop.store(true, Ordering::Relaxed);
                    return Err(format!("cannot start a thread: {error}"));
                }
            }
        }
        drop(alive);
        if show {
            watch(plan, options, &ended);
        }
        for driver in drivers {
            sum.add(&driver.join().map_err(|_| "a driver panicked".to_string())??)?;
        }
        Ok(sum)
    })
}

fn drive_alive(plan: &Plan, share: Share, _alive: Sender<Infallible>) -> Result<Tally, String> {
    driver::drive(plan, share)
}

/// Driver `number` of `threads` gets its part of the connections, the requests and the rate.
fn share(plan: &Plan, options: &Options, number: usize, threads: usize) -> Share {
    let part = |whole: u64| whole / threads as u64 + u64::from((number as u64) < whole % threads as u64);
    let then_per_s = options.rate.or(options.ramp.last().map(|stage| stage.to_per_s));
    let pace = match then_per_s {
        None => Pace::Closed,
        Some(rate) => Pace::Open(Timetable::new(plan.begun, &options.ramp, rate, number, threads)),
    };
    Share {
        number,
        connections: part(options.connections as u64) as usize,
        requests: options.requests.map(part),
        pace,
    }
}

/// Shows a progress bar until the drivers have ended.
fn watch(plan: &Plan, options: &Options, ended: &Receiver<Infallible>) {
    use crossbeam_channel::RecvTimeoutError::Timeout;
    let whole = limited(options);
    let steps = options.requests.filter(|_| whole.is_none());
    let length = steps.unwrap_or_else(|| whole.map_or(0, |whole| whole.as_millis() as u64));
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("[{bar:40}] {percent:>3} %  {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    let mut before = 0;
    while ended.recv_deadline(time::instant(time::now().after(UPDATE_INTERVAL))) == Err(Timeout) {
        let responses = plan.progress.load(Ordering::Relaxed);
        let elapsed = time::now().since(plan.start).as_millis() as u64;
        bar.set_position(if steps.is_some() { responses } else { elapsed.min(length) });
        bar.set_message(format!(
            "{:.0} requests/s",
            (responses - before) as f64 / UPDATE_INTERVAL.as_secs_f64()
        ));
        before = responses;
    }
    bar.finish_and_clear();
}
