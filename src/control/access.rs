//! The thread that writes the access log. It waits on its lines and on its orders, and alone touches the file: a
//! slow disk holds up nobody, a broken one costs lines.

use crate::base::time::{self, Moment};
use crate::state::access::Line;
use crate::state::config::AccessLog;
use crate::state::stats::{Counter, Stats};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The name of the thread.
pub const THREAD: &str = "access-log";
/// Bytes that are written at once when lines come faster than that.
const BATCH: usize = 64 * 1024;
/// While writing fails, the log hears of it this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How long a stop waits for the last lines; a reader of the standard output may have stopped reading.
const LAST: Duration = Duration::from_secs(2);

/// What the thread is told beside its lines.
#[derive(Debug)]
enum Order {
    Reopen,
    Stop,
}

/// Gives orders to the thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: Sender<Order>,
    ended: Receiver<()>,
}

impl Handle {
    /// Opens the file anew: it was renamed. Never waits.
    pub fn reopen(&self) {
        // With no room there is an order of this kind among those that wait.
        let _ = self.orders.try_send(Order::Reopen);
    }

    /// Lets the thread write the lines that were told so far, and end. False: it could not, and is left behind.
    pub fn stop(&self) -> bool {
        let deadline = time::instant(time::now().after(LAST));
        let told = self.orders.send_deadline(Order::Stop, deadline).is_ok();
        told && !self.ended.recv_deadline(deadline).is_err_and(|error| error.is_timeout())
    }
}

/// The thread's own things.
#[derive(Debug)]
pub struct Writer {
    target: AccessLog,
    output: Output,
    stats: Arc<Stats>,
    batch: Batch,
    told_at: Option<Moment>,
    lines: Receiver<Line>,
    orders: Receiver<Order>,
    /// Dropped at the end, and so tells of it.
    _end: Sender<()>,
}

impl Writer {
    /// Opens the file, so that a path that cannot be had is told at the start.
    pub fn open(target: &AccessLog, lines: Receiver<Line>, stats: Arc<Stats>) -> io::Result<(Self, Handle)> {
        let ((orders, heard), (end, ended)) = (bounded(4), bounded(0));
        let writer = Writer {
            target: target.clone(),
            output: Output::open(target)?,
            stats,
            batch: Batch::default(),
            told_at: None,
            lines,
            orders: heard,
            _end: end,
        };
        Ok((writer, Handle { orders, ended }))
    }

    /// Writes until it is told to stop, or nobody is left who could tell it anything.
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

    /// This line, and those behind it.
    fn take(&mut self, line: &Line) {
        self.batch.push(line);
        self.take_waiting();
    }

    /// The lines that wait, but no more than a full channel: orders are to be heard.
    fn take_waiting(&mut self) {
        for _ in 0..self.lines.len() {
            let Ok(line) = self.lines.try_recv() else { break };
            self.batch.push(&line);
            if self.batch.bytes.len() >= BATCH {
                self.write();
            }
        }
        self.write();
    }

    fn write(&mut self) {
        if self.batch.lines == 0 {
            return;
        }
        if let Err(error) = self.output.write_all(&self.batch.bytes) {
            self.stats.shard(0).add(Counter::AccessLinesDropped, self.batch.lines);
            self.complain(&format!("lines cannot be written: {error}"));
        }
        self.batch.clear();
    }

    fn reopen(&mut self) {
        // What was told before the order belongs into the old file.
        self.take_waiting();
        match Output::open(&self.target) {
            Ok(output) => {
                self.output = output;
                log::info!("access log: opened anew");
            }
            Err(error) => log::error!("access log: cannot be opened anew, the old file goes on: {error}"),
        }
    }

    fn complain(&mut self, what: &str) {
        let now = time::now();
        if self.told_at.is_none_or(|told| now.since(told) >= TELL_AGAIN) {
            self.told_at = Some(now);
            log::error!("access log: {what}");
        }
    }
}

#[derive(Debug)]
enum Output {
    Stdout,
    File(File),
}

impl Output {
    fn open(target: &AccessLog) -> io::Result<Self> {
        match target {
            AccessLog::Stdout => Ok(Output::Stdout),
            AccessLog::File(path) => {
                OpenOptions::new().append(true).create(true).mode(0o640).open(path).map(Output::File)
            }
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Output::File(file) => file.write_all(bytes),
        }
    }
}

/// Lines in their final form.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// The second that was written last, and how.
    date: (u64, String),
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.lines = 0;
    }

    fn push(&mut self, line: &Line) {
        self.lines += 1;
        if self.date.1.is_empty() || self.date.0 != line.at_unix {
            self.date = (line.at_unix, date(line.at_unix));
        }
        let Batch { bytes, date: (_, date), .. } = self;
        // Writing to a Vec cannot fail.
        let _ = match line.client {
            Some(client) => write!(bytes, "{client}"),
            None => write!(bytes, "-"),
        };
        let _ = write!(bytes, " - - [{date}] \"");
        match &line.request[..] {
            [] => bytes.push(b'-'),
            request => escape(request, bytes),
        }
        let server = line.server.as_ref().map_or("-", |server| &server.name);
        let reason = line.reason.map_or("-", |reason| reason.name());
        let (status, sent, id) = (line.status, line.bytes, line.id);
        let took_ms = line.took.as_millis();
        let (whole, rest) = (took_ms / 1000, took_ms % 1000);
        let _ = writeln!(bytes, "\" {status} {sent} {whole}.{rest:03} {server} {id} {reason}");
    }
}

/// Nobody forges a line, or a field, with what is in a request.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text {
        match byte {
            b'"' | b'\\' | ..=0x1f | 0x7f.. => {
                out.extend_from_slice(&[
                    b'\\',
                    b'x',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
            _ => out.push(*byte),
        }
    }
}

/// `23/Nov/2026:06:00:00 +0000`.
fn date(unix: u64) -> String {
    // That of HTTP has the same parts: `Mon, 23 Nov 2026 06:00:00 GMT`. It ends with the year 9999.
    let http = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix.min(253_402_300_799)));
    format!("{}/{}/{}:{} +0000", &http[5..7], &http[8..11], &http[12..16], &http[17..25])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RequestId;
    use crate::http1::reason::Reason;
    use crate::state::access::AccessSink;

    fn line(request: &[u8]) -> Line {
        Line {
            client: Some([127, 0, 0, 1].into()),
            at_unix: 1_795_413_600,
            request: request.into(),
            status: 200,
            bytes: 123,
            took: Duration::from_micros(4_999),
            id: RequestId::new(0x0123_4567_89ab_cdef, 42),
            server: None,
            reason: None,
        }
    }

    fn check(line: &Line, expected: &str) {
        let mut batch = Batch::default();
        batch.push(line);
        assert_eq!(String::from_utf8_lossy(&batch.bytes), format!("{expected}\n"));
    }

    #[test]
    fn lines_have_the_documented_form() {
        let id = "0123456789abcdef000000000000002a";
        check(
            &line(b"GET /x HTTP/1.1"),
            &format!(
                r#"127.0.0.1 - - [23/Nov/2026:06:00:00 +0000] "GET /x HTTP/1.1" 200 123 0.004 - {id} -"#
            ),
        );
        let refused = Line {
            client: None,
            at_unix: 0,
            status: 400,
            took: Duration::from_millis(61_020),
            reason: Some(Reason::BadHost),
            ..line(b"")
        };
        check(&refused, &format!(r#"- - - [01/Jan/1970:00:00:00 +0000] "-" 400 123 61.020 - {id} bad_host"#));
    }

    #[test]
    fn nobody_forges_a_line() {
        for (text, expected) in [
            (&b"/plain?a=b%20c"[..], "/plain?a=b%20c"),
            (b"/\" 200 1\r\n1.2.3.4", r"/\x22 200 1\x0D\x0A1.2.3.4"),
            (b"\\x22\t\0\x1b[2J\x7f", r"\x5Cx22\x09\x00\x1B[2J\x7F"),
            ("/é".as_bytes(), r"/\xC3\xA9"),
        ] {
            let mut out = Vec::new();
            escape(text, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn what_was_told_before_the_stop_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (sink, lines) = AccessSink::open();
        for at in 0..1000 {
            assert!(sink.tell(line(format!("GET /{at} HTTP/1.1").as_bytes())));
        }
        let target = AccessLog::File(path.clone());
        let (writer, handle) = Writer::open(&target, lines, Arc::default()).unwrap();
        let thread = std::thread::spawn(move || writer.run());
        assert!(handle.stop());
        thread.join().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1000);
        assert!(text.lines().last().unwrap().contains("\"GET /999 HTTP/1.1\""));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_the_next_are_tried() {
        let (sink, lines) = AccessSink::open();
        let stats: Arc<Stats> = Arc::default();
        let target = AccessLog::File("/dev/full".into());
        let (mut writer, _handle) = Writer::open(&target, lines, Arc::clone(&stats)).unwrap();
        for _ in 0..2 {
            assert!(sink.tell(line(b"GET / HTTP/1.1")));
            writer.take_waiting();
        }
        assert_eq!(stats.total(Counter::AccessLinesDropped), 2);
        assert!(writer.told_at.is_some());
    }
}
