//! A command that says by its exit code whether the server is well. It runs without a shell, in a process group of its own,
//! which is killed when its time is over, and with it what it started.

use super::{Passed, Silence, Target, shortened};
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::state::address::Address;
use crate::state::config::ExecProbe;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// How much of the output is kept for the message; the rest is read and dropped.
const OUTPUT_MAX: usize = 1024;
/// How long a killed process may take to end. One that waits for a device may take for ever.
const GRACE: Duration = Duration::from_millis(500);
/// Where commands of the command are looked for when the balancer's own environment does not say.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Processes that were killed and have not ended yet. They are looked after when further commands run.
static UNENDED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// The process groups of commands that run now. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Commands(Arc<Mutex<Groups>>);

#[derive(Debug, Default)]
struct Groups {
    running: Vec<Pid>,
    /// No further one may start.
    is_over: bool,
}

impl Commands {
    /// Ends all of them, and lets none start any more: they would outlive the balancer.
    pub fn end(&self) {
        let mut groups = self.0.lock();
        groups.is_over = true;
        // A group is taken out before its process is waited for, so each number here is still its own.
        groups.running.iter().for_each(|group| _ = kill_process_group(*group, Signal::KILL));
    }

    /// Starts one. The lock is held meanwhile, so that [`Commands::end`] misses none; a start takes a fraction of a
    /// millisecond.
    fn start(&self, start: impl FnOnce() -> io::Result<Running>) -> io::Result<Running> {
        let mut groups = self.0.lock();
        if groups.is_over {
            return Err(io::Error::other("the balancer stops"));
        }
        let running = start()?;
        groups.running.push(running.group);
        Ok(running)
    }

    fn remove(&self, group: Pid) {
        self.0.lock().running.retain(|running| *running != group);
    }
}

/// Runs the command for the server, within this time.
pub(super) fn run(
    target: &Target,
    probe: &ExecProbe,
    commands: &Commands,
    timeout: Duration,
) -> Result<Passed, Silence> {
    collect_ended();
    let deadline = time::now().after(timeout);
    let started = commands.start(|| Running::start(target, probe));
    let mut running = started.map_err(|error| of_start(&error))?;
    let ended = running.wait(deadline);
    commands.remove(running.group);
    let (status, output) = running.end();
    match (ended, status) {
        (Ok(true), Some(status)) => Ok(judged(status, &output)),
        (Ok(_), _) => {
            let words = format!("no result in {}", humantime::format_duration(timeout));
            Err(format!("{words}{}", said(&output)).into())
        }
        (Err(error), _) => Err(Silence { words: format!("cannot be waited for: {error}"), is_ours: true }),
    }
}

fn collect_ended() {
    let mut unended = std::mem::take(&mut *UNENDED.lock());
    unended.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    UNENDED.lock().append(&mut unended);
}

/// Why a command could not be started. A lack of processes or memory says nothing about the server.
fn of_start(error: &io::Error) -> Silence {
    let is_ours = limits::is_exhausted(error)
        || matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory);
    Silence { words: format!("the command cannot be run: {error}"), is_ours }
}

fn judged(status: ExitStatus, output: &[u8]) -> Passed {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    Passed { is_good: status.success(), words: format!("{ended}{}", said(output)) }
}

/// The first line of the output, for a message.
fn said(output: &[u8]) -> String {
    let line = output.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    line.map_or_else(String::new, |line| format!(", {}", shortened(line.trim_ascii())))
}

/// A command that runs.
struct Running {
    child: Child,
    group: Pid,
    /// Readable when it has ended.
    process: OwnedFd,
    /// Both of its outputs.
    pipe: OwnedFd,
    output: Vec<u8>,
}

impl Running {
    fn start(target: &Target, probe: &ExecProbe) -> io::Result<Self> {
        let (pipe, output) = pipe_with(PipeFlags::CLOEXEC)?;
        // Our end alone: a command may expect to write without being told to wait.
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        let about = About::of(target);
        let mut command = Command::new(&probe.command);
        command.args(probe.arguments.iter().map(|argument| about.fill(argument)));
        // The environment of the balancer may have secrets in it.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_else(|| PATH.into()));
        command.envs(about.0.map(|(_, name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn()?;
        // Its copies of the outputs are closed with it, so that the pipe ends with the command.
        drop(command);
        let group = Pid::from_child(&child);
        match pidfd_open(group, PidfdFlags::empty()) {
            Ok(process) => Ok(Running { child, group, process, pipe, output: Vec::new() }),
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                UNENDED.lock().push(child);
                Err(error.into())
            }
        }
    }

    /// Whether it has ended in time; meanwhile its output is read.
    fn wait(&mut self, deadline: Moment) -> io::Result<bool> {
        let mut is_open = true;
        loop {
            let left = Timespec::try_from(deadline.since(time::now())).ok();
            let mut both = [
                PollFd::new(&self.process, PollFlags::IN),
                PollFd::from_borrowed_fd(self.pipe.as_fd(), PollFlags::IN),
            ];
            let watched = if is_open { &mut both[..] } else { &mut both[..1] };
            match poll(watched, left.as_ref()) {
                Ok(0) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
            let has_ended = !both[0].revents().is_empty();
            if is_open && !both[1].revents().is_empty() {
                is_open = self.read();
            }
            if has_ended {
                return Ok(true);
            }
        }
    }

    /// Reads a piece of what it has written; false at the end.
    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        match rustix::io::read(&self.pipe, &mut piece) {
            Ok(0) => false,
            Ok(count) => {
                let room = OUTPUT_MAX - self.output.len();
                self.output.extend_from_slice(&piece[..count.min(room)]);
                true
            }
            Err(error) => matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::INTR),
        }
    }

    /// Kills what is left of its group, and returns how the command ended; `None` while it has not.
    fn end(mut self) -> (Option<ExitStatus>, Vec<u8>) {
        // It has not been waited for, so the group still has its number, even where the command has ended.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.wait(time::now().after(GRACE));
        let status = self.child.try_wait().ok().flatten();
        if status.is_none() {
            UNENDED.lock().push(self.child);
        }
        (status, self.output)
    }
}

/// What a command is told of the server: a placeholder for its arguments, a variable of its environment, and the value.
struct About([(&'static str, &'static str, String); 5]);

impl About {
    fn of(target: &Target) -> Self {
        let resolved = target.candidates.clone().next().map(|(address, _)| address);
        let (host, port) = match (&target.address, resolved) {
            (_, Some(address)) => (address.ip().to_string(), address.port().to_string()),
            (Address::Tcp { host, port }, None) => (host.clone(), port.to_string()),
            (Address::Unix(path), None) => (path.display().to_string(), String::new()),
        };
        About([
            ("{server}", "EVENKEEL_SERVER", target.name.clone()),
            ("{pool}", "EVENKEEL_POOL", target.pool.clone()),
            ("{address}", "EVENKEEL_ADDRESS", target.address.to_string()),
            ("{host}", "EVENKEEL_HOST", host),
            ("{port}", "EVENKEEL_PORT", port),
        ])
    }

    fn fill(&self, argument: &str) -> String {
        self.0
            .iter()
            .fold(argument.to_owned(), |text, (placeholder, _, value)| text.replace(placeholder, value))
    }
}
