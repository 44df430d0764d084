//! The standard output and the error output of the process. Their reader may be slow, stuck or gone: lines go through a
//! bounded queue, a dedicated thread writes them, and nothing else ever waits for it. Lost lines are counted.

use super::lines::{self, Lines, Lost};
use super::text;
use super::time;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// Lines that may wait: enough for the burst of a start with hundreds of servers; a stuck reader costs a few hundred
/// KiB.
const CAPACITY: usize = 1024;
/// Bytes written at once when lines arrive faster than single writes.
const BATCH: usize = 64 * 1024;

/// An output of the process; see [`error`] and [`standard`].
#[derive(Debug)]
pub struct Output {
    stream: Stream,
    /// `None` if the operating system could not start a thread for it.
    queue: OnceLock<Option<Sender<Vec<u8>>>>,
    /// Lines queued so far.
    queued: AtomicU64,
    lost: AtomicU64,
    /// Queued lines that were written or lost.
    done: Mutex<u64>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Standard,
    Error,
}

/// The error output: the log, and the reason for the end of the process.
pub fn error() -> &'static Output {
    static ERROR: Output = Output::new(Stream::Error);
    &ERROR
}

/// The standard output, for long-running commands. (A command whose output is its purpose uses [`print`].)
pub fn standard() -> &'static Output {
    static STANDARD: Output = Output::new(Stream::Standard);
    &STANDARD
}

/// Why the result of a command could not be printed.
static UNPRINTED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints the result of a command, and waits for its reader. One that has gone (`| head`) is no failure; any other, such as
/// a full disk, is for [`unprinted`].
pub fn print(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => *UNPRINTED.lock() = Some(error),
        _ => {}
    }
}

/// Why something that was printed did not come out as a whole; `None` when all did.
pub fn unprinted() -> Option<io::Error> {
    UNPRINTED.lock().take()
}

impl Output {
    const fn new(stream: Stream) -> Self {
        Output {
            stream,
            queue: OnceLock::new(),
            queued: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            done: Mutex::new(0),
            changed: Condvar::new(),
        }
    }

    /// Writes a text, which ends with a line end; never waits. If the queue is full the text is lost, and counted.
    pub fn tell(&'static self, text: Vec<u8>) {
        match self.queue.get_or_init(|| self.start()) {
            None => self.write_without_waiting(&text),
            Some(queue) => {
                self.queued.fetch_add(1, Relaxed);
                if let Err(error) = queue.try_send(text) {
                    self.lost.fetch_add(lines::count(&error.into_inner()), Relaxed);
                    self.has_done(1);
                }
            }
        }
    }

    /// Waits until everything sent so far is written, but no longer than this. Returns whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        let (deadline, queued) = (time::instant(time::now().after(within)), self.queued.load(Relaxed));
        let mut done = self.done.lock();
        while *done < queued {
            if self.changed.wait_until(&mut done, deadline).timed_out() {
                return *done >= queued;
            }
        }
        true
    }

    /// Lines lost so far: the queue was full, or they could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Starts the thread. It is never joined: a stuck reader may block it until the process ends.
    fn start(&'static self) -> Option<Sender<Vec<u8>>> {
        let (queue, waiting) = bounded(CAPACITY);
        let name = if self.stream == Stream::Error { "stderr" } else { "stdout" };
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || self.run(&waiting));
        started.is_ok().then_some(queue)
    }

    fn run(&self, waiting: &Receiver<Vec<u8>>) {
        let (mut written, mut told) = (Lines::default(), 0);
        while let Ok(mut batch) = waiting.recv() {
            let mut count = 1;
            while batch.len() < BATCH {
                let Ok(text) = waiting.try_recv() else { break };
                batch.extend_from_slice(&text);
                count += 1;
            }
            match written.write(&batch, |bytes| self.write(bytes)) {
                // The queue must have room for the message about it.
                Ok(()) if waiting.len() <= CAPACITY / 2 => told = self.tell_losses(told),
                Ok(()) => {}
                Err(Lost { lines, .. }) => _ = self.lost.fetch_add(lines, Relaxed),
            }
            self.has_done(count);
        }
    }

    /// Writing works: logs how many lines were lost since the last time, after the lines before them.
    fn tell_losses(&self, told: u64) -> u64 {
        let lost = self.lost();
        if self.stream == Stream::Error && lost > told {
            log::warn!(
                "{} lost: they could not be written, or the queue was full",
                text::counted(lost - told, "log line was", "log lines were")
            );
        }
        lost
    }

    fn has_done(&self, texts: u64) {
        *self.done.lock() += texts;
        self.changed.notify_all();
    }

    /// Waits for the reader; this thread may block. Another process may have made the descriptor non-blocking.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(self.stream.descriptor(), bytes) {
                Err(rustix::io::Errno::AGAIN) => _ = self.stream.has_room(None),
                done => return Ok(done?),
            }
        }
    }

    /// Used when there is no thread: text that would have to wait is lost.
    fn write_without_waiting(&self, text: &[u8]) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let written = self.stream.has_room(Some(&now))
            && Lines::default()
                .write(text, |bytes| Ok(rustix::io::write(self.stream.descriptor(), bytes)?))
                .is_ok();
        if !written {
            self.lost.fetch_add(lines::count(text), Relaxed);
        }
    }
}

impl Stream {
    /// Not through the standard library: its lock would be held while a write waits.
    fn descriptor(self) -> BorrowedFd<'static> {
        match self {
            Stream::Standard => rustix::stdio::stdout(),
            Stream::Error => rustix::stdio::stderr(),
        }
    }

    fn has_room(self, limit: Option<&Timespec>) -> bool {
        let descriptor = self.descriptor();
        let mut slot = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::OUT)];
        poll(&mut slot, limit).is_ok_and(|ready| ready > 0)
    }
}
