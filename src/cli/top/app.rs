//! What `top` shows, and what its keys do. Knows no terminal and asks no balancer.

use super::super::view::{Quantiles, Server, Status};
use super::calls::{News, Told};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde::Deserialize;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept, one a second: as many as the balancer keeps.
const SAMPLES: usize = 300;

/// The new part of `GET /api/v1/history`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct History {
    next: u64,
    samples: Vec<Sample>,
}

/// A second of traffic.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sample {
    pub(super) span_ms: u64,
    pub(super) requests: u64,
    pub(super) responses: BTreeMap<String, u64>,
    pub(super) rejections: u64,
    pub(super) request_ms: Option<Quantiles>,
}

impl Sample {
    /// A count of this sample per second.
    pub(super) fn per_second(&self, number: u64) -> f64 {
        number as f64 * 1000.0 / self.span_ms.max(1) as f64
    }
}

/// The column that servers are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// By pool, in the order of the balancer.
    #[default]
    Pool,
    Rate,
    InFlight,
    Latency,
    /// Those with a problem first.
    State,
    Name,
}

impl Sort {
    const ALL: [Sort; 6] = [Sort::Pool, Sort::Rate, Sort::InFlight, Sort::Latency, Sort::State, Sort::Name];

    fn next(self) -> Self {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }

    /// The word on the screen.
    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Pool => "pool",
            Sort::Rate => "req/s",
            Sort::InFlight => "in flight",
            Sort::Latency => "latency",
            Sort::State => "state",
            Sort::Name => "name",
        }
    }

    fn order(self, one: &Server, other: &Server) -> Ordering {
        match self {
            Sort::Pool => Ordering::Equal,
            Sort::Rate => other.rate.total_cmp(&one.rate),
            Sort::InFlight => other.in_flight.cmp(&one.in_flight),
            Sort::Latency => other.ewma_ms.unwrap_or(-1.0).total_cmp(&one.ewma_ms.unwrap_or(-1.0)),
            Sort::State => (one.state == "up").cmp(&(other.state == "up")).then(one.state.cmp(&other.state)),
            Sort::Name => one.name.cmp(&other.name),
        }
    }
}

/// What the keys mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Input {
    #[default]
    Commands,
    /// Text for the filter.
    Filter,
    /// Yes or no to draining this server, by pool and name.
    Drain(String, String),
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    Quit,
    /// Set the mode of a server.
    Set {
        pool: String,
        name: String,
        mode: &'static str,
    },
}

/// The state of the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct App {
    pub(super) place: String,
    pub(super) status: Status,
    pub(super) samples: VecDeque<Sample>,
    next: u64,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) input: Input,
    /// The chosen server, by pool and name: it stays chosen when the order changes.
    chosen: Option<(String, String)>,
    /// The result of the last change, or why there is no news.
    pub(super) message: Option<String>,
}

impl App {
    /// What the balancer has responded.
    pub(super) fn hears(&mut self, news: News) {
        match news {
            News::Told(Ok(told)) => {
                let Told { place, status, history } = *told;
                self.told(place, status);
                history.into_iter().for_each(|history| self.adds(history));
            }
            News::Told(Err(why)) => self.message = Some(why.to_string()),
            News::Set(sentence) => self.message = Some(sentence),
        }
    }

    /// A new status.
    pub(super) fn told(&mut self, place: String, status: Status) {
        let is_another = status.instance.pid != self.status.instance.pid;
        if is_another {
            (self.next, self.samples) = (0, VecDeque::new());
        }
        (self.place, self.status) = (place, status);
    }

    /// The number of the last sample that is known.
    pub(super) fn history_from(&self) -> u64 {
        self.next
    }

    /// New samples.
    pub(super) fn adds(&mut self, history: History) {
        self.next = history.next;
        self.samples.extend(history.samples);
        self.samples.drain(..self.samples.len().saturating_sub(SAMPLES));
    }

    /// The servers in their order on the screen.
    pub(super) fn servers(&self) -> Vec<&Server> {
        let text = self.filter.to_lowercase();
        let matches = |server: &&Server| {
            [&server.name, &server.address, &server.state, &server.pool]
                .iter()
                .any(|part| part.to_lowercase().contains(&text))
        };
        let place = |server: &Server| self.status.pools.iter().position(|pool| pool.name == server.pool);
        let mut servers: Vec<_> = self.status.servers.iter().filter(matches).collect();
        servers.sort_by(|one, other| match self.sort {
            Sort::Pool => place(one).cmp(&place(other)),
            sort => sort.order(one, other),
        });
        servers
    }

    /// The index of the chosen server on the screen.
    pub(super) fn chosen(&self) -> usize {
        let is_chosen = |server: &&Server| {
            self.chosen.as_ref().is_some_and(|(pool, name)| server.pool == *pool && server.name == *name)
        };
        self.servers().iter().position(is_chosen).unwrap_or(0)
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Act {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Act::Quit;
        }
        self.message = None;
        match std::mem::take(&mut self.input) {
            Input::Commands => self.command(key.code),
            Input::Filter => self.write_filter(key.code),
            Input::Drain(pool, name) => match key.code {
                KeyCode::Char('y' | 'Y') => Act::Set { pool, name, mode: "drain" },
                _ => Act::Nothing,
            },
        }
    }

    fn command(&mut self, key: KeyCode) -> Act {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Act::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.moves(1),
            KeyCode::Up | KeyCode::Char('k') => self.moves(-1),
            KeyCode::PageDown => self.moves(10),
            KeyCode::PageUp => self.moves(-10),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.input = Input::Filter,
            KeyCode::Char('d') => {
                let server = self.target();
                self.input = server.map_or(Input::Commands, |(pool, name)| Input::Drain(pool, name));
            }
            KeyCode::Char('r') => {
                if let Some((pool, name)) = self.target() {
                    return Act::Set { pool, name, mode: "ready" };
                }
            }
            _ => {}
        }
        Act::Nothing
    }

    fn write_filter(&mut self, key: KeyCode) -> Act {
        match key {
            KeyCode::Enter => return Act::Nothing,
            KeyCode::Esc => {
                self.filter.clear();
                return Act::Nothing;
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(char) if self.filter.len() < 64 => self.filter.push(char),
            _ => {}
        }
        self.input = Input::Filter;
        Act::Nothing
    }

    /// The chosen server, by pool and name.
    fn target(&self) -> Option<(String, String)> {
        let servers = self.servers();
        let server = servers.get(self.chosen())?;
        Some((server.pool.clone(), server.name.clone()))
    }

    fn moves(&mut self, by: isize) {
        let servers = self.servers();
        let at = self.chosen().saturating_add_signed(by).min(servers.len().saturating_sub(1));
        self.chosen = servers.get(at).map(|server| (server.pool.clone(), server.name.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        let server = |pool: &str, name: &str, state: &str, rate: f64| Server {
            pool: pool.to_owned(),
            name: name.to_owned(),
            state: state.to_owned(),
            rate,
            ..Server::default()
        };
        let servers =
            vec![server("p", "a", "up", 1.0), server("p", "b", "down", 0.0), server("p", "c", "up", 9.0)];
        App { status: Status { servers, ..Status::default() }, ..App::default() }
    }

    fn press(app: &mut App, keys: &str) -> Vec<Act> {
        keys.chars()
            .map(|key| {
                let code = match key {
                    '\n' => KeyCode::Enter,
                    '\x1b' => KeyCode::Esc,
                    key => KeyCode::Char(key),
                };
                app.press(KeyEvent::from(code))
            })
            .collect()
    }

    fn names(app: &App) -> String {
        app.servers().iter().map(|server| server.name.as_str()).collect()
    }

    #[test]
    fn keys_sort_filter_and_choose() {
        for (keys, shown, chosen) in [
            ("", "abc", 0),
            ("j", "abc", 1),
            ("jjjjj", "abc", 2),
            ("jk", "abc", 0),
            ("s", "cab", 0),
            ("js", "cab", 2),
            ("ssss", "bac", 0),
            ("/down\n", "b", 0),
            ("/x\x1b", "abc", 0),
        ] {
            let mut app = app();
            press(&mut app, keys);
            assert_eq!((names(&app).as_str(), app.chosen()), (shown, chosen), "{keys:?}");
        }
    }

    #[test]
    fn a_drain_asks_and_only_y_is_yes() {
        let set = |name: &str, mode| Act::Set { pool: "p".to_owned(), name: name.to_owned(), mode };
        for (keys, last) in [
            ("d", Act::Nothing),
            ("dy", set("a", "drain")),
            ("jdY", set("b", "drain")),
            ("dn", Act::Nothing),
            ("d\n", Act::Nothing),
            ("dqy", Act::Nothing),
            ("jr", set("b", "ready")),
            ("q", Act::Quit),
            ("/q", Act::Nothing),
        ] {
            assert_eq!(press(&mut app(), keys).pop(), Some(last), "{keys:?}");
        }
        let mut none = App::default();
        assert_eq!(press(&mut none, "djkry").pop(), Some(Act::Nothing));
    }

    #[test]
    fn another_process_begins_a_new_history() {
        let mut app = App::default();
        app.adds(History { next: 5, samples: vec![Sample::default(); SAMPLES + 5] });
        assert_eq!((app.history_from(), app.samples.len()), (5, SAMPLES));
        let mut status = Status::default();
        status.instance.pid = 9;
        app.told(String::new(), status);
        assert_eq!((app.history_from(), app.samples.len()), (0, 0));
    }
}
