//! The thread that writes the access log. It waits for lines and commands, and is the only one that touches the file: a
//! slow disk delays nothing else, a broken one loses lines.

mod render;
mod syslog;

use crate::base::lines::{Lines, Lost};
use crate::base::text;
use crate::base::time::{self, Moment};
use crate::state::access::Line;
use crate::state::config::{AccessLog, AccessTarget, SyslogPlace};
use crate::state::stats::{Counter, Stats};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use render::Batch;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use syslog::Syslog;

/// The name of the thread.
pub const THREAD: &str = "access-log";
/// Bytes written at once when lines arrive faster than single writes.
const BATCH: usize = 64 * 1024;
/// Interval of the log messages while writing fails.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long a stop waits for the last lines; the reader of the standard output may have stopped reading.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of checks for commands while the reader of a FIFO takes nothing.
const CHECK_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Commands to the thread, besides its lines.
#[derive(Debug)]
enum Order {
    Reopen,
    Stop,
}

/// Sends commands to the thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: Sender<Order>,
    ended: Receiver<()>,
}

impl Handle {
    /// Opens the file again after it was renamed. Never waits.
    pub fn reopen(&self) {
        // If the channel is full, a command of this kind is already waiting.
        let _ = self.orders.try_send(Order::Reopen);
    }

    /// Lets the thread write the lines sent so far, and end. False: it could not, and is left running.
    pub fn stop(&self) -> bool {
        let deadline = time::instant(time::now().after(LAST_LINES_TIMEOUT));
        let told = self.orders.send_deadline(Order::Stop, deadline).is_ok();
        told && !self.ended.recv_deadline(deadline).is_err_and(|error| error.is_timeout())
    }
}

/// The state of the thread.
#[derive(Debug)]
pub struct Writer {
    target: AccessLog,
    output: Output,
    stats: Arc<Stats>,
    batch: Batch,
    reported_at: Option<Moment>,
    /// Whether the log has said that lines are lost, and not yet that it is over.
    is_reported: bool,
    lines: Receiver<Line>,
    orders: Receiver<Order>,
    /// Dropped at the end, which notifies the handle.
    _end: Sender<()>,
}

impl Writer {
    /// Opens the file, so that an unusable path is reported at the start.
    pub fn open(target: &AccessLog, lines: Receiver<Line>, stats: Arc<Stats>) -> io::Result<(Self, Handle)> {
        let ((orders, heard), (end, ended)) = (bounded(4), bounded(0));
        let writer = Writer {
            target: target.clone(),
            output: Output::open(&target.to)?,
            stats,
            batch: Batch::default(),
            reported_at: None,
            is_reported: false,
            lines,
            orders: heard,
            _end: end,
        };
        Ok((writer, Handle { orders, ended }))
    }

    /// Writes until it is told to stop, or all senders are gone.
    pub fn run(mut self) {
        loop {
            select! {
                recv(self.lines) -> line => match line {
                    Ok(line) => self.take(&line),
                    Err(_) => return,
                },
                recv(self.orders) -> order => match order {
                    Ok(Order::Reopen) => self.reopen(),
                    Ok(Order::Stop) | Err(_) => return self.take_waiting(),
                },
            }
        }
    }

    /// Takes this line, and those queued behind it.
    fn take(&mut self, line: &Line) {
        self.batch.push(line, &self.target.format);
        self.take_waiting();
    }

    /// Takes the lines that wait, but no more than a full channel, so that commands are noticed.
    fn take_waiting(&mut self) {
        for _ in 0..self.lines.len() {
            let Ok(line) = self.lines.try_recv() else { break };
            self.batch.push(&line, &self.target.format);
            if self.batch.bytes.len() >= BATCH {
                self.write();
            }
        }
        self.write();
    }

    fn write(&mut self) {
        let orders = &self.orders;
        match self.output.write(&self.batch.bytes, || orders.is_empty()) {
            Err(Lost { lines, error }) => {
                self.stats.shard(0).add(Counter::AccessLinesDropped, lines);
                self.log_failure(&error);
            }
            Ok(()) if self.is_reported && !self.batch.bytes.is_empty() => {
                self.is_reported = false;
                let lost = self.stats.total(Counter::AccessLinesDropped);
                log::info!(
                    "access log: lines are written again; {} lost so far",
                    text::counted(lost, "line was", "lines were")
                );
            }
            Ok(()) => {}
        }
        self.batch.clear();
    }

    fn reopen(&mut self) {
        // Lines that were sent before the command belong into the old file.
        self.take_waiting();
        match Output::open(&self.target.to) {
            Ok(output) => {
                self.output = output;
                log::info!("access log: opened again");
            }
            Err(error) => log::error!("access log: cannot be opened again, the old file goes on: {error}"),
        }
    }

    fn log_failure(&mut self, error: &io::Error) {
        let now = time::now();
        if self.reported_at.is_none_or(|told| now.since(told) >= LOG_INTERVAL) {
            (self.reported_at, self.is_reported) = (Some(now), true);
            let lost = self.stats.total(Counter::AccessLinesDropped);
            log::error!(
                "access log: lines cannot be written: {error}; {} lost so far",
                text::counted(lost, "line is", "lines are")
            );
        }
    }
}

/// The destination of the lines.
#[derive(Debug)]
struct Output {
    sink: Sink,
    written: Lines,
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(File),
    Syslog(Syslog),
}

/// Whether lines could be sent to this syslog: over UDP, that its name has an address.
pub fn syslog_can_be_opened(place: &SyslogPlace) -> io::Result<()> {
    Syslog::open(place).map(drop)
}

impl Output {
    fn open(target: &AccessTarget) -> io::Result<Self> {
        match target {
            AccessTarget::Stdout => Ok(Output { sink: Sink::Stdout, written: Lines::default() }),
            AccessTarget::Syslog(place) => {
                Ok(Output { sink: Sink::Syslog(Syslog::open(place)?), written: Lines::default() })
            }
            AccessTarget::File(path) => {
                let file = open(path)?;
                let written = if is_torn(path, &file) { Lines::torn() } else { Lines::default() };
                Ok(Output { sink: Sink::File(file), written })
            }
        }
    }

    /// Writes whole lines. If the reader of a FIFO takes nothing, it waits only as long as `may_wait` returns true.
    fn write(&mut self, lines: &[u8], may_wait: impl Fn() -> bool) -> Result<(), Lost> {
        // Not through the standard library: its lock would be held while a write waits.
        let descriptor = match &mut self.sink {
            Sink::Stdout => rustix::stdio::stdout(),
            Sink::File(file) => AsFd::as_fd(&*file),
            Sink::Syslog(syslog) => {
                return syslog.write(lines, |socket| {
                    wait_for_room(socket);
                    may_wait()
                });
            }
        };
        self.written.write(lines, |bytes| {
            loop {
                match rustix::io::write(descriptor, bytes) {
                    Err(Errno::AGAIN) if may_wait() => wait_for_room(descriptor),
                    done => return Ok(done?),
                }
            }
        })
    }
}

fn wait_for_room(descriptor: BorrowedFd<'_>) {
    // The write after it reports errors, if any.
    let _ = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)], Some(&CHECK_INTERVAL));
}

/// Never waits: a FIFO without a reader is an error.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path);
    opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("it is a FIFO without a reader, or a socket"),
        _ => error,
    })
}

/// Whether a file ends in the middle of a line because an earlier process was interrupted there. If that cannot be read
/// it counts as complete.
fn is_torn(path: &Path, file: &File) -> bool {
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map_or(0, |it| it.len());
    let mut last = [b'\n'];
    let read = size > 0 && File::open(path).and_then(|file| file.read_exact_at(&mut last, size - 1)).is_ok();
    read && last != [b'\n']
}

#[cfg(test)]
mod tests {
    use super::render::tests::line;
    use super::*;
    use crate::state::access::{AccessSink, Filter, Format};

    fn file(path: impl Into<std::path::PathBuf>) -> AccessLog {
        let to = AccessTarget::File(path.into());
        AccessLog { to, format: Format::Default, filter: Filter::default() }
    }

    fn open_sink() -> (AccessSink, Receiver<Line>) {
        AccessSink::open(&Format::Default, Filter::default())
    }

    #[test]
    fn what_was_reported_before_the_stop_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (sink, lines) = open_sink();
        for at in 0..1000 {
            assert!(sink.tell(line(format!("GET /{at} HTTP/1.1").as_bytes())));
        }
        let target = file(path.clone());
        let (writer, handle) = Writer::open(&target, lines, Arc::default()).unwrap();
        let thread = std::thread::spawn(move || writer.run());
        assert!(handle.stop());
        thread.join().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.lines().last().unwrap().contains("\"GET /999 HTTP/1.1\""));
    }

    /// The content of the path after one line was written; an error if it cannot be opened.
    fn after_a_line(path: &Path) -> io::Result<String> {
        let (sink, lines) = open_sink();
        let (mut writer, _handle) = Writer::open(&file(path.to_owned()), lines, Arc::default())?;
        assert!(sink.tell(line(b"GET / HTTP/1.1")));
        writer.take_waiting();
        std::fs::read_to_string(path)
    }

    #[test]
    fn a_line_that_an_earlier_process_could_not_end_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        for (before, lines) in [("", 1), ("whole\n", 2), ("cut", 2)] {
            std::fs::write(&path, before).unwrap();
            let text = after_a_line(&path).unwrap();
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(text.starts_with(before) && text.lines().last().unwrap().starts_with("127.0.0.1 "));
        }
    }

    #[test]
    fn what_would_wait_or_takes_no_lines_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let error = after_a_line(&fifo).unwrap_err();
        assert!(error.to_string().contains("without a reader"), "{error}");
        assert_eq!(after_a_line(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(after_a_line(&folder.path().join("x/y")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_up_no_order() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // For reading and writing, it opens at once.
        let reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let (sink, lines) = open_sink();
        let stats: Arc<Stats> = Arc::default();
        let (writer, handle) = Writer::open(&file(fifo.clone()), lines, Arc::clone(&stats)).unwrap();
        let thread = std::thread::spawn(move || writer.run());
        for _ in 0..CAPACITY_OF_A_PIPE / 1024 + 2 {
            assert!(sink.tell(line(&[b'x'; 1024])));
        }
        // It waits for the reader with the first of them, then is told to stop.
        let file = folder.path().join("other");
        std::fs::rename(&fifo, &file).unwrap();
        handle.reopen();
        assert!(handle.stop());
        thread.join().unwrap();
        assert!(stats.total(Counter::AccessLinesDropped) > 0);
        assert!(fifo.metadata().unwrap().is_file(), "the command to open it again was processed before");
        drop(reader);
    }

    /// In bytes, on Linux.
    const CAPACITY_OF_A_PIPE: usize = 65_536;

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_are_tried() {
        let (sink, lines) = open_sink();
        let stats: Arc<Stats> = Arc::default();
        let target = file("/dev/full");
        let (mut writer, _handle) = Writer::open(&target, lines, Arc::clone(&stats)).unwrap();
        for _ in 0..2 {
            assert!(sink.tell(line(b"GET / HTTP/1.1")));
            writer.take_waiting();
        }
        assert_eq!(stats.total(Counter::AccessLinesDropped), 2);
        assert!(writer.reported_at.is_some());
    }
}
