//! The reload: reads the file again, and has every part of the running balancer go on with it; or changes nothing.

use super::listeners::listener_error;
use super::sinks::{AccessLogThread, AccessWriter, start_access_log};
use crate::base::time;
use crate::control::health;
use crate::data::Proxy;
use crate::data::reload::{Unopened, is_in_the_way};
use crate::state::access::AccessSink;
use crate::state::config::diff::{Difference, Written};
use crate::state::config::{self, Config, Fault};
use crate::state::events::{Events, Topic};
use crate::state::live::{Files, Live};
use crate::state::merge::Merged;
use crate::state::reload::{Outcome, Reloaded, Reloads};
use crate::state::sinks::Sinks;
use log::Level;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// What a reload works on.
#[derive(Debug)]
pub(super) struct Reloader {
    file: Option<PathBuf>,
    proxy: Proxy,
    health: health::Handle,
    access: AccessLogThread,
    reloads: Arc<Reloads>,
    events: Arc<Events>,
    state: Mutex<State>,
}

/// What one reload leaves to the next.
#[derive(Debug)]
struct State {
    /// The file as it is in use.
    written: Written,
    next_pool: u32,
    next_listener: u32,
    /// Writers of earlier access logs: each ends with the last exchange that began under it.
    old_writers: Vec<AccessWriter>,
}

impl Reloader {
    /// For a balancer that runs with this configuration.
    pub(super) fn new(
        config: &Config,
        proxy: &Proxy,
        health: &health::Handle,
        access: &AccessLogThread,
        events: &Arc<Events>,
    ) -> Self {
        let written = config.file.as_deref().and_then(|file| Written::read(file).ok());
        let state = State {
            written: written.unwrap_or_default(),
            next_pool: config.pools.len() as u32 + 1,
            next_listener: config.listen.listeners.len() as u32,
            old_writers: Vec::new(),
        };
        Reloader {
            file: config.file.clone(),
            proxy: proxy.clone(),
            health: health.clone(),
            access: Arc::clone(access),
            reloads: Arc::default(),
            events: Arc::clone(events),
            state: Mutex::new(state),
        }
    }

    /// What came of reloads so far.
    pub(super) fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// Reloads, and says in the log what came of it.
    pub(super) fn run(&self) -> Outcome {
        let outcome = self.reload();
        match &outcome {
            Ok(reloaded) => {
                reloaded.changes.iter().for_each(|change| log::info!("reload: {change}"));
                reloaded.needs_restart.iter().for_each(|key| log::warn!("reload: {key}"));
                let message = match reloaded.changes.len() {
                    0 => "nothing has changed".to_owned(),
                    1 => "1 change is in use".to_owned(),
                    count => format!("{count} changes are in use"),
                };
                self.events.log(Topic::Reload, Level::Info, format!("reload: {message}"));
                self.reloads.record(true, message);
            }
            Err(faults) => {
                let first = faults.first().map_or_else(String::new, told);
                faults.iter().for_each(|fault| log::error!("reload: {}", told(fault)));
                let line = format!("reload: the configuration is not valid; nothing was changed: {first}");
                self.events.log(Topic::Reload, Level::Error, line);
                self.reloads.record(false, first);
            }
        }
        outcome
    }

    fn reload(&self) -> Outcome {
        let Some(file) = &self.file else { return Err(vec![no_file()]) };
        if self.proxy.shared.is_draining() {
            let advice = "the balancer drains; it takes no other configuration".to_owned();
            return Err(vec![config::fault_at(None, "", advice)]);
        }
        let mut state = self.state.lock();
        let mut config = config::load(file)?;
        let written = Written::read(file)?;
        let before = self.proxy.shared.table.live();
        let needs_restart = self.keep_what_needs_a_restart(&mut config, &before);
        config.renumber(&before.config, &mut state.next_pool);
        let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
        let files = Files::read(&config, Some(&before), now).map_err(|problems| {
            let fault = |problem: crate::state::tls::Problem| {
                config::fault_at(Some(file), &problem.key, problem.advice)
            };
            problems.into_iter().map(fault).collect::<Vec<_>>()
        })?;
        let access = self.open_access_log(&config, &before)?;
        let config = Arc::new(config);
        let (access, thread) = access;
        let sinks = Sinks { access, spans: before.spans.clone() };
        let merged = self.proxy.reload(Arc::clone(&config), files, sinks, &mut state.next_listener);
        let merged = merged.map_err(|Unopened { index, error }| {
            let listener = &config.listen.listeners[index];
            let advice = listener_error(&listener.place, &error).to_string();
            vec![config::fault_at(Some(file), &listener.port_key(), advice)]
        })?;
        self.take_access_log(thread, &config, &before, &mut state);
        self.health.look();
        if std::env::var_os("RUST_LOG").is_none_or(|filters| filters.is_empty()) {
            log::set_max_level(config.log.level);
        }
        let differences = state.written.changes(&written);
        state.written = written;
        let after = self.proxy.shared.table.live();
        Ok(Reloaded {
            changes: changes(&differences, &needs_restart, &merged, &before, &after),
            needs_restart,
        })
    }

    /// Keys that only a start reads stay as they are.
    fn keep_what_needs_a_restart(&self, config: &mut Config, before: &Live) -> Vec<String> {
        let running = &before.config;
        let mut found = Vec::new();
        let mut tell = |key: &str, still: String| found.push(format!("{key} needs a restart; still {still}"));
        let path =
            |path: &Option<PathBuf>| path.as_ref().map_or("null".into(), |path| path.display().to_string());
        if config.admin.socket != running.admin.socket {
            tell("admin.socket", path(&running.admin.socket));
        }
        if config.admin.bind != running.admin.bind {
            tell("admin.bind", running.admin.bind.map_or("null".into(), |bind| bind.to_string()));
        }
        if config.admin.state_file != running.admin.state_file {
            tell("admin.state_file", path(&running.admin.state_file));
        }
        if config.tracing != running.tracing {
            tell("tracing", "as it was at the start".to_owned());
        }
        config.tracing.clone_from(&running.tracing);
        config.admin.socket.clone_from(&running.admin.socket);
        config.admin.bind = running.admin.bind;
        config.admin.state_file.clone_from(&running.admin.state_file);
        if config.threadpool.queue_capacity > self.proxy.queue_room() {
            tell("threadpool.queue_capacity", running.threadpool.queue_capacity.to_string());
            config.threadpool.queue_capacity = running.threadpool.queue_capacity;
        }
        let open: Vec<bool> =
            before.still_open(&config.listen.listeners).iter().map(Option::is_some).collect();
        for (listener, _) in config.listen.listeners.iter_mut().zip(open).filter(|(_, is_open)| !is_open) {
            let other = before
                .listeners
                .iter()
                .find(|open| is_in_the_way(&listener.place, std::slice::from_ref(open)));
            if let Some(other) = other {
                tell(&listener.bind_key(), other.place.to_string());
                listener.place = other.settings.place.clone();
            }
        }
        found
    }

    /// A sink for the lines of requests; with a thread of its own where the settings are others than before.
    fn open_access_log(
        &self,
        config: &Config,
        before: &Live,
    ) -> Result<(Option<AccessSink>, Option<AccessWriter>), Vec<Fault>> {
        if config.log.access == before.config.log.access {
            return Ok((before.access.clone(), None));
        }
        let Some(settings) = &config.log.access else { return Ok((None, None)) };
        let (sink, lines) = AccessSink::open(&settings.format, settings.filter);
        let thread = start_access_log(settings, lines, Arc::clone(&self.proxy.shared.stats))
            .map_err(|error| vec![config::fault_at(self.file.as_deref(), "log.access", error.to_string())])?;
        Ok((Some(sink), Some(thread)))
    }

    fn take_access_log(
        &self,
        thread: Option<AccessWriter>,
        config: &Config,
        before: &Live,
        state: &mut State,
    ) {
        if config.log.access != before.config.log.access {
            let old = std::mem::replace(&mut *self.access.lock(), thread);
            state.old_writers.retain(|(_, thread)| !thread.is_finished());
            state.old_writers.extend(old);
        }
    }
}

/// What is different, without what needs a restart; and what no key tells: files that were read again.
fn changes(
    differences: &[Difference],
    needs_restart: &[String],
    merged: &Merged,
    before: &Live,
    after: &Live,
) -> Vec<String> {
    let waits = |path: &str| needs_restart.iter().any(|key| key.starts_with(&format!("{path} ")));
    let told = differences.iter().filter(|found| !waits(&found.path));
    let mut all: Vec<String> = told.map(|found| format!("{}: {}", found.path, found.change)).collect();
    for listener in &after.listeners {
        let Some(old) = before.listener(listener.id) else { continue };
        let is_renewed = old.settings == listener.settings
            && old.tls.as_ref().map(Arc::as_ptr) != listener.tls.as_ref().map(Arc::as_ptr);
        if is_renewed {
            all.push(format!("{}.tls: the certificates were read again", listener.settings.key()));
        }
    }
    if before.config.guards != after.config.guards && all.is_empty() {
        all.push("files of guards were read again".to_owned());
    }
    let labels = |servers: &[Arc<crate::state::server::Server>]| {
        servers.iter().map(|server| server.label.clone()).collect::<Vec<_>>().join(", ")
    };
    if !merged.removed.is_empty() {
        log::info!("reload: drained and taken out: {}", labels(&merged.removed));
    }
    all
}

fn no_file() -> Fault {
    let advice = "this balancer was started without a file, so there is nothing to read again".to_owned();
    config::fault_at(None, "", advice)
}

/// A fault in one line.
fn told(fault: &Fault) -> String {
    fault.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
