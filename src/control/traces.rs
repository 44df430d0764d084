//! The thread that exports spans to a collector: in batches, by OTLP over HTTP in JSON. Nothing waits for it; while the
//! collector is slow or gone, spans are lost and counted.

mod otlp;

use crate::base::text;
use crate::base::time::{self, Moment};
use crate::state::config::Tracing;
use crate::state::spans::Span;
use crate::state::stats::{Counter, Stats};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use std::io::ErrorKind::ConnectionRefused;
use std::sync::Arc;
use std::time::Duration;

/// The name of the thread.
pub const THREAD: &str = "traces";
/// Spans of one export: the default of OpenTelemetry's own exporters.
const BATCH: usize = 512;
/// A span is exported after so long at the latest, while the collector takes them.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time for one export, connecting included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an export is tried again, an interval apart, where the collector cannot have taken it: it restarts, or is busy.
const RETRIES: u32 = 5;
/// What a stop waits for the last spans.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of the log messages while exports fail.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why the collector has not taken an export, and whether it cannot have and may take it later.
#[derive(Debug)]
struct Failure {
    why: String,
    is_temporary: bool,
}

/// Ends the thread; see [`Handle::stop`].
#[derive(Debug)]
pub struct Handle {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl Handle {
    /// Lets the thread export the spans sent so far, and end. False: it could not in time, and is left running.
    pub fn stop(self) -> bool {
        let deadline = time::instant(time::now().after(LAST_SPANS_TIMEOUT));
        drop(self.stop);
        !self.ended.recv_deadline(deadline).is_err_and(|error| error.is_timeout())
    }
}

/// The state of the thread.
#[derive(Debug)]
pub struct Exporter {
    to: Tracing,
    agent: ureq::Agent,
    spans: Receiver<Span>,
    stats: Arc<Stats>,
    reported_at: Option<Moment>,
    /// How often the spans at hand were tried and kept.
    tried: u32,
    stop: Receiver<()>,
    /// Dropped at the end, which notifies the handle.
    _end: Sender<()>,
}

impl Exporter {
    /// An exporter of these spans. It connects when there are some.
    pub fn new(to: &Tracing, spans: Receiver<Span>, stats: Arc<Stats>) -> (Self, Handle) {
        let ((stop, stopped), (end, ended)) = (bounded(0), bounded(0));
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(EXPORT_TIMEOUT))
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = ureq::Agent::new_with_config(config);
        let exporter = Exporter {
            to: to.clone(),
            agent,
            spans,
            stats,
            reported_at: None,
            tried: 0,
            stop: stopped,
            _end: end,
        };
        (exporter, Handle { stop, ended })
    }

    /// Exports until it is told to stop, or all senders are gone.
    pub fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            match self.stop.recv_timeout(INTERVAL) {
                Err(RecvTimeoutError::Timeout) if self.export_all(&mut batch) => {}
                Err(RecvTimeoutError::Timeout) => return,
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    self.export_all(&mut batch);
                    return;
                }
            }
        }
    }

    /// Exports what waits, but no more than a full queue, so that a stop is noticed. False once no span will come any more.
    fn export_all(&mut self, batch: &mut Vec<Span>) -> bool {
        let mut left = self.spans.len();
        loop {
            let more = self.fill(batch);
            if batch.is_empty() {
                return more;
            }
            left = left.saturating_sub(batch.len().max(1));
            let outcome = self.export(batch);
            if outcome.as_ref().is_err_and(|failure| failure.is_temporary) && self.tried < RETRIES {
                self.tried += 1;
                return true;
            }
            self.tried = 0;
            let counter = if outcome.is_ok() { Counter::SpansExported } else { Counter::SpansDropped };
            self.stats.shard(0).add(counter, batch.len() as u64);
            batch.clear();
            if let Err(failure) = outcome {
                self.log_failure(&failure.why);
                return true;
            }
            if left == 0 {
                return true;
            }
        }
    }

    /// Takes what waits, for one export at the most. False: all senders are gone.
    fn fill(&self, batch: &mut Vec<Span>) -> bool {
        while batch.len() < BATCH {
            match self.spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    fn export(&self, batch: &[Span]) -> Result<(), Failure> {
        let body = serde_json::to_vec(&otlp::request(&self.to.service_name, batch));
        let body = body.map_err(|error| Failure { why: error.to_string(), is_temporary: false })?;
        let mut request = self.agent.post(&self.to.endpoint).content_type("application/json");
        for (name, value) in &self.to.headers {
            request = request.header(name, value);
        }
        match request.send(&body[..]) {
            Ok(response) if response.status().is_success() => Ok(()),
            // Those that the OTLP specification names.
            Ok(response) => Err(Failure {
                why: format!("it responded {}", response.status()),
                is_temporary: matches!(response.status().as_u16(), 429 | 502 | 503 | 504),
            }),
            // After a timeout the collector may have the spans.
            Err(error) => Err(Failure {
                why: error.to_string(),
                is_temporary: matches!(&error, ureq::Error::Io(error) if error.kind() == ConnectionRefused),
            }),
        }
    }

    fn log_failure(&mut self, why: &str) {
        let now = time::now();
        if self.reported_at.is_none_or(|told| now.since(told) >= LOG_INTERVAL) {
            self.reported_at = Some(now);
            let lost = self.stats.total(Counter::SpansDropped);
            let lost = text::counted(lost, "span is", "spans are");
            log::warn!("tracing: {} takes no spans: {why}; {lost} lost so far", self.to.endpoint);
        }
    }
}
