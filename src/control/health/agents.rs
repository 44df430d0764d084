//! Agents beside the servers: asked when they are due, and what they say goes to the table.

use super::{Agent, Finding, Kind, PROMPT};
use crate::base::ids::{PoolId, ServerId};
use crate::base::time::{self, Moment};
use crate::control::probe::agent::{self, Heard};
use crate::control::probe::{Silence, Target};
use crate::policy::agent::Advice;
use crate::state::config::AgentCheck;
use crate::state::events::Topic;
use crate::state::server::{AgentWord, Mode, Server};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// The table is written at most this often for what agents say, as for the servers' health.
const ADVISE_EVERY: Duration = Duration::from_millis(20);

/// What the health thread knows of a server's agent.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// When it is to be asked; other entries of the heap are out of date.
    at: Moment,
    /// A question is on its way.
    is_running: bool,
    /// The last one was answered promptly.
    is_prompt: bool,
    /// What it says; the table may not have it yet.
    word: Option<AgentWord>,
}

/// What the table does not have yet.
#[derive(Debug, Default)]
pub(super) struct Unadvised {
    servers: Vec<ServerId>,
    /// The next write of the table.
    at: Moment,
}

impl Unadvised {
    /// When the table is to be written.
    pub(super) fn next(&self) -> Moment {
        if self.servers.is_empty() { Moment::NEVER } else { self.at }
    }
}

impl Agent {
    /// A server is new: its agent is asked, if its pool has agents. An agent that was heard by the process before goes on
    /// where it was.
    pub(super) fn begin_asking(&mut self, id: ServerId, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let is_asked = self.pools[watched.server.pool].agent.is_some();
        watched.asking = Asking { word: watched.server.agent(), ..Asking::default() };
        self.schedule_question(id, if is_asked { now } else { Moment::NEVER });
    }

    /// A reload has changed whether, or how, the agents of a pool are asked. Without agents, what they said is void.
    pub(super) fn ask_agents_again(&mut self, pool: PoolId, now: Moment) {
        let is_asked = self.pools[pool].agent.is_some();
        let of_pool = self.watched.iter_mut().filter(|(_, watched)| watched.server.pool == pool);
        let mut servers = Vec::new();
        for (id, watched) in of_pool {
            servers.push(*id);
            if !is_asked && watched.asking.word.take().is_some() {
                self.unadvised.servers.push(*id);
            }
        }
        servers
            .into_iter()
            .for_each(|id| self.schedule_question(id, if is_asked { now } else { Moment::NEVER }));
    }

    fn schedule_question(&mut self, id: ServerId, at: Moment) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.asking.at = at;
            self.due.push(Reverse((at, id, Kind::Agent)));
        }
    }

    /// Asks the agent of a server, unless the operator has taken the server out.
    pub(super) fn start_question(&mut self, id: ServerId, at: Moment, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.asking.at == at) else {
            return;
        };
        let pool = &self.pools[watched.server.pool];
        // A running one schedules the next when it has ended.
        let Some(settings) = pool.agent.clone().filter(|_| !watched.asking.is_running) else { return };
        let interval = settings.interval;
        let is_found = !watched.server.addresses().all().is_empty();
        if is_found && watched.server.mode() != Mode::Maint {
            let lanes = &mut self.agents;
            let threads = if watched.asking.is_prompt { &mut lanes.prompt } else { &mut lanes.slow };
            let port = watched.server.own_agent_port().unwrap_or(settings.port);
            let target = Target::of_agent(&watched.server, &pool.name, port);
            let found = self.found.0.clone();
            watched.asking.is_running = threads.run(move || {
                let begun = time::now();
                let heard = agent::ask(&target, &settings);
                let took = time::now().since(begun);
                let _ = found.send(Finding {
                    id,
                    at: None,
                    took,
                    found: super::Found::Agent(settings, port, heard),
                });
            });
        }
        if !watched.asking.is_running {
            self.schedule_question(id, now.after(interval));
        }
    }

    /// A question has ended.
    pub(super) fn learn_agent(
        &mut self,
        id: ServerId,
        took: Duration,
        (settings, port): (&Arc<AgentCheck>, u16),
        heard: &Result<Heard, Silence>,
        now: Moment,
    ) {
        let fraction = self.random.fraction();
        let Some(watched) = self.watched.get_mut(&id) else { return };
        watched.asking.is_running = false;
        watched.asking.is_prompt = took < PROMPT.min(settings.timeout / 2);
        let Some(current) = &self.pools[watched.server.pool].agent else { return };
        // It was asked before a reload.
        if !Arc::ptr_eq(current, settings) || port != watched.server.own_agent_port().unwrap_or(current.port)
        {
            return self.schedule_question(id, now);
        }
        let before = watched.asking.word.clone().unwrap_or_default();
        let word = match heard {
            Ok(heard) => after(&before, heard),
            Err(silence) if silence.is_ours => before.clone(),
            Err(silence) => AgentWord { error: Some(silence.words.clone()), ..before.clone() },
        };
        watched.asking.word = Some(word.clone());
        match word.advice == before.advice {
            true => watched.server.hears_agent(word.clone()),
            false => self.unadvised.servers.push(id),
        }
        let server = Arc::clone(&watched.server);
        self.tell_agent(&server, &before, &word, port);
        self.schedule_question(id, now.after(settings.interval.mul_f64(0.9 + 0.2 * fraction)));
    }

    /// One line where an agent's advice changes, and one where it begins or ceases to be heard.
    fn tell_agent(&self, server: &Server, before: &AgentWord, word: &AgentWord, port: u16) {
        let name = &server.label;
        if word.advice != before.advice {
            let is_out = word.advice.state() != "ready" || word.advice.weight_percent == 0;
            let level = if is_out { log::Level::Warn } else { log::Level::Info };
            let line = format!("server {name}: its agent said {}: {}", word.line, meaning(&word.advice));
            self.events.log(Topic::Health, level, line);
        }
        match (&before.error, &word.error) {
            (None, Some(error)) => {
                let stays =
                    if word.line.is_empty() { String::new() } else { format!("; {} stays", word.line) };
                let line = format!("server {name}: its agent at port {port}: {error}{stays}");
                self.events.log(Topic::Health, log::Level::Warn, line);
            }
            (Some(_), None) => {
                let line = format!("server {name}: its agent at port {port} is heard: {}", word.line);
                self.events.log(Topic::Health, log::Level::Info, line);
            }
            _ => {}
        }
    }

    /// Writes what agents say into the table.
    pub(super) fn advise(&mut self, now: Moment) {
        if now < self.unadvised.next() {
            return;
        }
        self.unadvised.at = now.after(ADVISE_EVERY);
        let servers = std::mem::take(&mut self.unadvised.servers);
        let known = servers.iter().filter_map(|id| self.watched.get(id));
        let words: Vec<_> = known.map(|watched| (&*watched.server, watched.asking.word.clone())).collect();
        self.table.advise(words);
    }
}

fn after(before: &AgentWord, heard: &Heard) -> AgentWord {
    let unknown = heard.line.unknown.as_ref();
    AgentWord {
        advice: before.advice.with(&heard.line),
        line: heard.shown.clone(),
        at_unix_seconds: time::unix_seconds(),
        error: unknown.map(|word| format!("{word:?} is not one of its words")),
    }
}

/// `state drain, 75 % of its weight, at most 30 requests`.
fn meaning(advice: &Advice) -> String {
    let most = advice.max_in_flight.map_or_else(String::new, |most| format!(", at most {most} requests"));
    format!("state {}, {} % of its weight{most}", advice.state(), advice.weight_percent)
}
