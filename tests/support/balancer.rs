//! The built binary as a child process, and what the operating system says of it.

use super::{DEADLINE, Origin, Shared, becomes, until};
use rustix::process::{Pid, Resource, Signal, getrlimit, getuid, kill_process};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use tempfile::TempDir;

/// Where in its folder a balancer's admin API listens, when a test asks for its metrics.
pub const ADMIN: &str = "admin.sock";

/// The user and the group with no rights, on Linux.
const NOBODY: u32 = 65_534;

/// A running balancer. Dropping it ends it, and fails the test if it ever panicked.
#[derive(Debug)]
pub struct Evenkeel {
    child: Child,
    address: SocketAddr,
    folder: Arc<TempDir>,
    log: Log,
    may_panic: bool,
}

/// The lines on the standard error of a child, as they come.
#[derive(Clone, Debug, Default)]
pub struct Log(Shared<Lines>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn read(stderr: ChildStderr) -> Self {
        let log = Log::default();
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.0.change(|log| log.lines.push(line));
            }
            writer.0.change(|log| log.ended = true);
        });
        log
    }

    /// The first line with this in it, once it is there; `None` when the child ended without one.
    fn find(&self, part: &str) -> Option<String> {
        let find = |log: &Lines| {
            let found = log.lines.iter().find(|line| line.contains(part)).cloned();
            if found.is_none() && !log.ended { None } else { Some(found) }
        };
        self.0.wait_for(DEADLINE, find).flatten()
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.look(|log| log.lines.clone())
    }
}

impl Evenkeel {
    /// Starts with this configuration. What a test does not set is chosen so that it is not in the way: a port
    /// from the kernel, no admin API, no probes.
    #[track_caller]
    pub fn start(config: Value) -> Self {
        Self::try_start(config).unwrap_or_else(|(status, lines)| panic!("no start: {status}\n{lines}"))
    }

    /// Starts with these servers, named a, b, c…, and this configuration beside.
    #[track_caller]
    pub fn before(origins: &[&Origin], config: Value) -> Self {
        Self::start(with(config, json!({ "servers": { "list": list(origins) } })))
    }

    /// Starts, or says how it ended and what it said.
    pub fn try_start(config: Value) -> Result<Self, (ExitStatus, String)> {
        Self::launch(&with(unobtrusive(), config).to_string(), Command::new(env!("CARGO_BIN_EXE_evenkeel")))
    }

    /// Starts with exactly this file.
    pub fn try_start_text(config: &str) -> Result<Self, (ExitStatus, String)> {
        Self::launch(config, Command::new(env!("CARGO_BIN_EXE_evenkeel")))
    }

    /// Starts with no more than so many descriptors.
    pub fn start_with_descriptors(limit: u32, config: Value) -> Self {
        let started = Self::try_start_with_descriptors(limit, config);
        started.unwrap_or_else(|(status, lines)| panic!("no start: {status}\n{lines}"))
    }

    /// The same, or how it ended and what it said. How many it has itself depends on what the tests were started with.
    pub fn try_start_with_descriptors(limit: u32, config: Value) -> Result<Self, (ExitStatus, String)> {
        Self::try_start_behind(&format!("ulimit -n {limit}"), config)
    }

    /// Starts behind these commands of a shell, or says how it ended and what it said.
    pub fn try_start_behind(commands: &str, config: Value) -> Result<Self, (ExitStatus, String)> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{commands}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_evenkeel")]);
        Self::launch(&with(unobtrusive(), config).to_string(), shell)
    }

    /// Starts as a user who can be denied threads ([`Evenkeel::allow_threads`]): as ourselves, or as [`NOBODY`] where
    /// that is root, whom the limit does not bind. `None` where there is no other user: some containers map root alone.
    pub fn start_without_privileges(config: Value) -> Option<Self> {
        let command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let started = match getuid().is_root() {
            false => Self::launch(&with(unobtrusive(), config).to_string(), command),
            true => Self::try_start_as(NOBODY, &[], config)?,
        };
        Some(started.unwrap_or_else(|(status, lines)| panic!("no start: {status}\n{lines}")))
    }

    /// Starts with no more than so many threads, or says how it ended and what it said. `None` where there is no user who runs
    /// nothing else.
    pub fn try_start_with_threads(limit: u32, config: Value) -> Option<Result<Self, (ExitStatus, String)>> {
        let limit = format!("--nproc={limit}:{limit}");
        if getuid().is_root() { Self::try_start_as(NOBODY - 1, &["prlimit", &limit], config) } else { None }
    }

    /// Starts as this user, which root can be, behind these words of the command.
    fn try_start_as(user: u32, before: &[&str], config: Value) -> Option<Result<Self, (ExitStatus, String)>> {
        Command::new("true").uid(user).gid(user).status().ok()?;
        let folder = tempfile::tempdir().unwrap();
        // Another user may not go where the binary is. What this process has open for writing, a child that is
        // being started beside may have open too, and no process could run it: so the copy is made by a child.
        let binary = folder.path().join("evenkeel");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_evenkeel")).arg(&binary).status().unwrap();
        assert!(copied.success());
        chown(folder.path(), Some(user), Some(user)).unwrap();
        let words = before.iter().map(OsStr::new).chain([binary.as_os_str()]).collect::<Vec<_>>();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).uid(user).gid(user);
        Some(Self::launch_in(Arc::new(folder), &with(unobtrusive(), config).to_string(), command))
    }

    /// From now on it gets no further thread, whatever else its user runs; or it gets them again.
    pub fn allow_threads(&self, allowed: bool) {
        let hard = getrlimit(Resource::Nproc).maximum.map_or("unlimited".to_owned(), |most| most.to_string());
        let soft = if allowed { &hard } else { "0" };
        let mut command = Command::new("prlimit");
        command.args([format!("--pid={}", self.pid()), format!("--nproc={soft}:")]);
        if getuid().is_root() {
            // Root in a container may not set the limits of others.
            command.uid(NOBODY).gid(NOBODY);
        }
        assert!(command.status().expect("prlimit, of util-linux").success());
    }

    /// The test makes a library panic.
    pub fn may_panic(&mut self) {
        self.may_panic = true;
    }

    fn launch(config: &str, command: Command) -> Result<Self, (ExitStatus, String)> {
        Self::launch_in(Arc::new(tempfile::tempdir().unwrap()), config, command)
    }

    /// Starts this command, which is to become a balancer with this configuration.
    pub fn start_as(command: Command, config: Value) -> Self {
        let started = Self::launch(&with(unobtrusive(), config).to_string(), command);
        started.unwrap_or_else(|(status, lines)| panic!("no start: {status}\n{lines}"))
    }

    /// The same with this standard input.
    pub fn start_with_input(command: Command, input: Stdio, config: Value) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let config = with(unobtrusive(), config).to_string();
        let started = Self::launch_with(folder, &config, command, input);
        started.unwrap_or_else(|(status, lines)| panic!("no start: {status}\n{lines}"))
    }

    /// Starts another one with the same file in the same folder: a successor.
    pub fn start_successor(&self) -> Result<Self, (ExitStatus, String)> {
        let config = fs::read_to_string(self.folder().join("config.json")).unwrap();
        Self::launch_in(Arc::clone(&self.folder), &config, Command::new(env!("CARGO_BIN_EXE_evenkeel")))
    }

    fn launch_in(folder: Arc<TempDir>, config: &str, command: Command) -> Result<Self, (ExitStatus, String)> {
        Self::launch_with(folder, config, command, Stdio::null())
    }

    fn launch_with(
        folder: Arc<TempDir>,
        config: &str,
        mut command: Command,
        input: Stdio,
    ) -> Result<Self, (ExitStatus, String)> {
        fs::write(folder.path().join("config.json"), config).unwrap();
        command.current_dir(folder.path()).env_remove("RUST_LOG");
        let mut child = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::read(child.stderr.take().unwrap());
        match log.find("ready on http://") {
            Some(line) => {
                let address: SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
                let address = SocketAddr::new("127.0.0.1".parse().unwrap(), address.port());
                Ok(Evenkeel { child, address, folder, log, may_panic: false })
            }
            None => {
                let _ = child.kill();
                Err((child.wait().unwrap(), log.lines().join("\n")))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory there ever was, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// All threads.
    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// Threads with a name that begins so, such as `worker-`.
    pub fn threads_named(&self, prefix: &str) -> usize {
        let tasks = fs::read_dir(self.proc("task")).unwrap().flatten();
        let names = tasks.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
        names.filter(|name| name.starts_with(prefix)).count()
    }

    /// The pool of workers.
    pub fn workers(&self) -> usize {
        self.threads_named("worker-")
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).unwrap().count()
    }

    fn proc(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.pid())
    }

    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The lines of the metrics whose names begin so; the configuration puts the admin API on [`ADMIN`].
    pub fn metric_lines(&self, name: &str) -> Vec<String> {
        let mut stream = UnixStream::connect(self.folder().join(ADMIN)).expect("the admin API");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
    }

    /// The sum of these lines' values.
    pub fn metric(&self, name: &str) -> f64 {
        let lines = self.metric_lines(name);
        assert!(!lines.is_empty(), "no metric begins with {name}");
        lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Waits until the sum of these lines' values is this. A request is counted once its exchange has
    /// ended, which may be after its client has read the response.
    #[track_caller]
    pub fn metric_is(&self, name: &str, expected: f64) {
        becomes(name, &expected, || self.metric(name));
    }

    /// A page of the admin API at `a.sock` in its folder, or nothing while one process leaves it to the other.
    pub fn api_page(&self, line: &str, body: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.folder().join("a.sock")).ok()?;
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
        );
        stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes()).ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
    }

    /// Its folder, where the configuration is.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The first log line with this in it, once it is there.
    #[track_caller]
    pub fn logs(&self, part: &str) -> String {
        self.log
            .find(part)
            .unwrap_or_else(|| panic!("no log line says {part:?}:\n{}", self.log.lines().join("\n")))
    }

    /// All log lines so far.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the balancer ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Evenkeel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let lines = self.log.lines().join("\n");
        if thread::panicking() {
            eprintln!("the balancer said:\n{lines}");
        } else {
            assert!(self.may_panic || !lines.contains("panicked"), "the balancer panicked:\n{lines}");
        }
    }
}

/// The servers of a configuration, named a, b, c….
pub fn list(origins: &[&Origin]) -> Value {
    let entry = |(at, origin): (usize, &&Origin)| json!({ "name": char::from(b'a' + at as u8).to_string(), "address": origin.address().to_string() });
    origins.iter().enumerate().map(entry).collect()
}

/// What a test does not set itself. Times are so long that none is over because the machine stood still for some seconds.
pub fn unobtrusive() -> Value {
    json!({
        "load_balancer": { "load_balancer_port": 0, "bind": "127.0.0.1", "served_by_header": true },
        "servers": {
            "health_check": { "enabled": false, "timeout": "30s" }, "load_report": { "enabled": false },
            "pool": { "idle_time": "300s" },
        },
        "timeouts": {
            "connect": "30s", "response": "60s", "client_head": "60s", "client_body": "60s", "keep_alive": "300s",
        },
        "threadpool": { "queue_timeout": "60s", "queue_target": "60s" },
        "admin": { "socket": null, "bind": null },
        "log": { "level": "debug" },
    })
}

/// One worker, with which it is exact which connections to servers are used again: each worker has its own.
pub fn one_worker(over: Value) -> Value {
    with(json!({"threadpool": {"min_workers": 1, "max_workers": 1}}), over)
}

/// A pool from one worker on, and this over it.
pub fn unhurried(max_workers: usize, over: Value) -> Value {
    let base = json!({
        "threadpool": { "min_workers": 1, "max_workers": max_workers, "queue_capacity": 1000 },
        "admin": {"socket": ADMIN},
    });
    with(base, over)
}

/// One configuration over another: objects are merged, all else is replaced.
pub fn with(under: Value, over: Value) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) => {
            for (key, value) in over {
                let merged = with(under.remove(&key).unwrap_or(Value::Null), value);
                under.insert(key, merged);
            }
            Value::Object(under)
        }
        (_, over) => over,
    }
}
