//! Where the balancer tells of its requests: the threads of the access log and of traces.

use super::{Error, spawn};
use crate::control::{access, traces};
use crate::data::Proxy;
use crate::state::access::{AccessSink, Line};
use crate::state::config::{AccessLog, AccessTarget, Config, Tracing};
use crate::state::sinks::Sinks;
use crate::state::spans::{Span, SpanSink};
use crate::state::stats::Stats;
use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What comes out of the sinks.
#[derive(Debug)]
pub(super) struct Sources {
    lines: Option<Receiver<Line>>,
    spans: Option<Receiver<Span>>,
}

/// A writer of the access log and its thread.
pub(super) type AccessWriter = (access::Handle, JoinHandle<()>);

/// The thread that writes the access log, if there is one; a reload may replace it.
pub(super) type AccessLogThread = Arc<Mutex<Option<AccessWriter>>>;

/// An exporter of spans and its thread.
pub(super) type Exporter = (traces::Handle, JoinHandle<()>);

/// The threads that export spans. The last is that of the settings in use; each earlier one ends with the last exchange that
/// began under its settings.
pub(super) type Exporters = Arc<Mutex<Vec<Exporter>>>;

/// The threads that write it.
#[derive(Debug)]
pub(super) struct Threads {
    access: AccessLogThread,
    exporters: Exporters,
}

/// The sinks that the configuration asks for.
pub(super) fn open(config: &Config) -> (Sinks, Sources) {
    let log = config.log.access.as_ref();
    let (access, lines) = log.map(|log| AccessSink::open(&log.format, log.filter)).unzip();
    let (spans, of_spans) = config.tracing.as_ref().map(|tracing| SpanSink::open(tracing.sample)).unzip();
    (Sinks { access, spans }, Sources { lines, spans: of_spans })
}

impl Threads {
    /// Opens what is written to, and starts the threads. They are put where a reload finds them.
    pub(super) fn start(
        config: &Config,
        sources: Sources,
        proxy: &Proxy,
        (access, exporters): (AccessLogThread, Exporters),
    ) -> Result<Self, Error> {
        let stats = || Arc::clone(&proxy.shared.stats);
        if let Some((target, lines)) = config.log.access.as_ref().zip(sources.lines) {
            *access.lock() = Some(start_access_log(target, lines, stats())?);
        }
        if let Some((to, spans)) = config.tracing.as_ref().zip(sources.spans) {
            exporters.lock().push(start_exporter(to, spans, stats())?);
        }
        Ok(Threads { access, exporters })
    }

    /// The access log, if there is one.
    pub(super) fn access(&self) -> AccessLogThread {
        Arc::clone(&self.access)
    }

    /// Once no other thread sends anything any more: writes the rest.
    pub(super) fn stop(self) {
        match self.access.lock().take() {
            Some((handle, thread)) if handle.stop() => _ = thread.join(),
            Some(_) => log::warn!("access log: the last lines could not be written in time"),
            None => {}
        }
        for (handle, thread) in self.exporters.lock().drain(..) {
            match handle.stop() {
                true => _ = thread.join(),
                false => log::warn!("tracing: the last spans could not be exported in time"),
            }
        }
    }
}

/// Opens the access log and starts its thread.
pub(super) fn start_access_log(
    target: &AccessLog,
    lines: Receiver<Line>,
    stats: Arc<Stats>,
) -> Result<AccessWriter, Error> {
    let opened = access::Writer::open(target, lines, stats);
    let (writer, handle) = opened.map_err(|error| access_error(target, &error))?;
    Ok((handle, spawn(access::THREAD, move || writer.run())?))
}

/// Starts the thread that exports these spans.
pub(super) fn start_exporter(
    to: &Tracing,
    spans: Receiver<Span>,
    stats: Arc<Stats>,
) -> Result<Exporter, Error> {
    let (exporter, handle) = traces::Exporter::new(to, spans, stats);
    Ok((handle, spawn(traces::THREAD, move || exporter.run())?))
}

/// What to do if the access log cannot be opened.
fn access_error(target: &AccessLog, error: &io::Error) -> Error {
    let name = match &target.to {
        AccessTarget::Stdout => "the standard output".to_owned(),
        AccessTarget::File(path) => path.display().to_string(),
        AccessTarget::Syslog(place) => place.to_string(),
    };
    Error(format!("log.access: {name} cannot be opened: {error}; write a file that this user may append to"))
}
