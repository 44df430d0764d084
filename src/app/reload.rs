//! The reload: reads the file again, and has every part of the running balancer go on with it; or changes nothing.

mod told;

use super::listeners::listener_error;
use super::preflight;
use super::sinks::{AccessLogThread, AccessWriter, Exporters, start_access_log, start_exporter};
use super::systemd;
use crate::base::text;
use crate::base::time;
use crate::control::health;
use crate::data::Proxy;
use crate::data::reload::{Unopened, is_in_the_way};
use crate::state::access::AccessSink;
use crate::state::config::{self, Config, Fault, Refined, Written};
use crate::state::events::{Events, Topic};
use crate::state::live::{Files, Live};
use crate::state::reload::{Outcome, Reloaded, Reloads};
use crate::state::sinks::Sinks;
use crate::state::spans::SpanSink;
use crate::state::stamp::Stamped;
use log::Level;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a reload works on.
#[derive(Debug)]
pub(super) struct Reloader {
    file: Option<PathBuf>,
    proxy: Proxy,
    health: health::Handle,
    access: AccessLogThread,
    exporters: Exporters,
    reloads: Arc<Reloads>,
    events: Arc<Events>,
    state: Mutex<State>,
}

/// What one reload leaves to the next.
#[derive(Debug)]
struct State {
    /// The file as it is in use; `None` if there is none.
    written: Option<Written>,
    failed: Failed,
    next_pool: u32,
    next_listener: u32,
    /// Writers of earlier access logs: each ends with the last exchange that began under it.
    old_writers: Vec<AccessWriter>,
}

/// The files of attempts that failed since the last one that was applied.
#[derive(Debug, Default)]
struct Failed {
    /// Of an attempt with the file as it was then.
    file: Option<Vec<Stamped>>,
    /// Of an attempt with the file as it is in use.
    contents: Option<Vec<Stamped>>,
}

/// What is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The configuration file, and all that belongs to it.
    File,
    /// Only files that it names, such as those of networks: the configuration itself is as it is in use.
    Contents,
}

/// What would be used next; nothing has been changed yet.
struct Plan {
    config: Config,
    files: Files,
    needs_restart: Vec<String>,
    changes: Vec<String>,
}

impl Reloader {
    /// For a balancer that runs with this configuration.
    pub(super) fn new(
        config: &Config,
        proxy: &Proxy,
        health: &health::Handle,
        (access, exporters): (&AccessLogThread, &Exporters),
        events: &Arc<Events>,
    ) -> Self {
        let state = State {
            written: config.file.as_deref().and_then(|file| Written::read(file).ok()),
            failed: Failed::default(),
            next_pool: config.pools.len() as u32 + 1,
            next_listener: config.listen.listeners.len() as u32,
            old_writers: Vec::new(),
        };
        Reloader {
            file: config.file.clone(),
            proxy: proxy.clone(),
            health: health.clone(),
            access: Arc::clone(access),
            exporters: Arc::clone(exporters),
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
        self.run_for(Scope::File, true)
    }

    /// The same because files have changed; it is in the log if something is different.
    pub(super) fn run_by_itself(&self, scope: Scope) {
        let _ = self.run_for(scope, false);
    }

    fn run_for(&self, scope: Scope, is_asked: bool) -> Outcome {
        let is_told = !self.proxy.shared.is_draining();
        is_told.then(systemd::reloading);
        let outcome = self.reload(scope);
        is_told.then(systemd::ready);
        match &outcome {
            Ok(reloaded) => {
                reloaded.changes.iter().for_each(|change| log::info!("reload: {change}"));
                reloaded.needs_restart.iter().for_each(|key| log::warn!("reload: {key}"));
                super::warn_of_connections(&self.proxy.shared.table.live().config);
                let message = match reloaded.changes.len() {
                    0 => "nothing has changed".to_owned(),
                    count => format!("{} in use", text::counted(count, "change is", "changes are")),
                };
                let was_rejected = self.reloads.told().last.is_some_and(|last| !last.is_applied);
                if is_asked || was_rejected || !reloaded.changes.is_empty() {
                    self.events.log(Topic::Reload, Level::Info, format!("reload: {message}"));
                }
                self.reloads.record(true, message);
            }
            Err(faults) => {
                let first = faults.first().map_or_else(String::new, told::in_one_line);
                faults.iter().skip(1).for_each(|fault| log::error!("reload: {}", told::in_one_line(fault)));
                let line = format!("reload: nothing was changed: {first}");
                self.events.log(Topic::Reload, Level::Error, line);
                self.reloads.record(false, first);
            }
        }
        outcome
    }

    /// What a reload would do now. Nothing is changed.
    pub(super) fn preview(&self) -> Outcome {
        let file = self.reloadable()?;
        let state = self.state.lock();
        let written = Written::read(file)?;
        let before = self.proxy.shared.table.live();
        let plan =
            self.plan(&state, &written, written.refine().config?, &before, &mut state.next_pool.clone())?;
        let obstacles = preflight::of_reload(&plan.config, &before);
        let fault =
            |obstacle: preflight::Obstacle| config::fault_at(Some(file), &obstacle.key, obstacle.advice);
        match obstacles.is_empty() {
            true => Ok(Reloaded { changes: plan.changes, needs_restart: plan.needs_restart }),
            false => Err(obstacles.into_iter().map(fault).collect()),
        }
    }

    /// The files of the last attempt to use what is in scope; a change of them is a reason for the next one. `None`: there
    /// is no reason to look at them.
    pub(super) fn tried(&self, scope: Scope) -> Option<Vec<Stamped>> {
        self.reloadable().ok()?;
        let (state, live) = (self.state.lock(), self.proxy.shared.table.live());
        let (failed, used) = match scope {
            Scope::File => (&state.failed.file, &live.config.files),
            Scope::Contents => (&state.failed.contents, &live.config.contents),
        };
        let is_wanted = scope == Scope::Contents || live.config.watch;
        is_wanted.then(|| failed.as_ref().unwrap_or(used).clone())
    }

    /// The file that can be read again, or why none can.
    fn reloadable(&self) -> Result<&Path, Vec<Fault>> {
        let file = self.file.as_deref().ok_or_else(|| vec![no_file()])?;
        if self.proxy.shared.is_draining() {
            let advice = "the balancer drains; it takes no other configuration".to_owned();
            return Err(vec![config::fault_at(None, "", advice)]);
        }
        Ok(file)
    }

    fn reload(&self, scope: Scope) -> Outcome {
        let file = self.reloadable()?;
        let mut state = self.state.lock();
        let mut seen = vec![Stamped::now(file)];
        let outcome = match (scope, state.written.take()) {
            (Scope::Contents, Some(used)) => self.take_over(&mut state, None, used, &mut seen),
            (_, used) => match Written::read(file) {
                Ok(read) => self.take_over(&mut state, used, read, &mut seen),
                Err(faults) => {
                    state.written = used;
                    Err(faults)
                }
            },
        };
        match (&outcome, scope) {
            (Ok(_), _) => state.failed = Failed::default(),
            (Err(_), Scope::File) => state.failed.file = Some(seen),
            (Err(_), Scope::Contents) => state.failed.contents = Some(seen),
        }
        outcome
    }

    /// Goes on with a file in the place of the one in use, or with the same (`used` is `None`) and the files that it names.
    /// What is not valid leaves the one in use there. `seen` becomes the files that were looked at.
    fn take_over(
        &self,
        state: &mut State,
        used: Option<Written>,
        read: Written,
        seen: &mut Vec<Stamped>,
    ) -> Outcome {
        let Refined { config, contents } = read.refine();
        let is_same = used.is_none();
        *seen = contents;
        if !is_same {
            seen.extend_from_slice(read.files());
        }
        // It is compared with what is there.
        state.written = used;
        let outcome = config.and_then(|config| self.apply(state, &read, config));
        if is_same || outcome.is_ok() {
            state.written = Some(read);
        }
        outcome
    }

    fn apply(&self, state: &mut State, written: &Written, config: Config) -> Outcome {
        let before = self.proxy.shared.table.live();
        let mut next_pool = state.next_pool;
        let plan = self.plan(state, written, config, &before, &mut next_pool)?;
        state.next_pool = next_pool;
        let Plan { config, files, needs_restart, changes } = plan;
        let file = config.file.clone();
        let (access, writer) = self.open_access_log(&config, &before)?;
        let (spans, exporter) = self.open_spans(&config, &before)?;
        let config = Arc::new(config);
        let sinks = Sinks { access, spans };
        let merged = self.proxy.reload(Arc::clone(&config), files, sinks, &mut state.next_listener);
        let merged = merged.map_err(|Unopened { index, error }| {
            let listener = &config.listen.listeners[index];
            let advice = listener_error(&listener.place, &error).to_string();
            vec![config::fault_at(file.as_deref(), &listener.port_key(), advice)]
        })?;
        self.take_access_log(writer, &config, &before, state);
        let mut exporters = self.exporters.lock();
        exporters.retain(|(_, thread)| !thread.is_finished());
        exporters.extend(exporter);
        self.health.look();
        if std::env::var_os("RUST_LOG").is_none_or(|filters| filters.is_empty()) {
            log::set_max_level(config.log.level);
        }
        told::removed(&merged);
        Ok(Reloaded { changes, needs_restart })
    }

    /// Reads all that a configuration needs, and compares it with what is in use.
    fn plan(
        &self,
        state: &State,
        written: &Written,
        mut config: Config,
        before: &Live,
        next_pool: &mut u32,
    ) -> Result<Plan, Vec<Fault>> {
        let needs_restart = self.keep_what_needs_a_restart(&mut config, before);
        config.renumber(&before.config, next_pool);
        let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
        let files = Files::read(&config, Some(before), now).map_err(|problems| {
            let fault = |problem: crate::state::tls::Problem| {
                config::fault_at(config.file.as_deref(), &problem.key, problem.advice)
            };
            problems.into_iter().map(fault).collect::<Vec<_>>()
        })?;
        let differences = state.written.as_ref().map_or_else(Vec::new, |used| used.changes(written));
        let changes = told::changes(&differences, &needs_restart, before, &config, &files);
        Ok(Plan { config, files, needs_restart, changes })
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

    /// A sink for spans; with a thread of its own where the settings are others than before.
    fn open_spans(
        &self,
        config: &Config,
        before: &Live,
    ) -> Result<(Option<SpanSink>, Option<super::sinks::Exporter>), Vec<Fault>> {
        if config.tracing == before.config.tracing {
            return Ok((before.spans.clone(), None));
        }
        let Some(tracing) = &config.tracing else { return Ok((None, None)) };
        let (sink, spans) = SpanSink::open(tracing.sample);
        let thread = start_exporter(tracing, spans, Arc::clone(&self.proxy.shared.stats))
            .map_err(|error| vec![config::fault_at(self.file.as_deref(), "tracing", error.to_string())])?;
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

fn no_file() -> Fault {
    let advice = "this balancer was started without a file, so there is nothing to read again; \
        `evenkeel run --print-config` with the same arguments prints a file to start it with"
        .to_owned();
    config::fault_at(None, "", advice)
}
