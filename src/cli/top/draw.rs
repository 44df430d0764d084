//! How `top` looks: which balancer, its traffic and load, the servers, and the keys.

use super::super::view::{Mood, Server, count, cut_in_the_middle, millis, plain, rate};
use super::app::{App, Input};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};

/// Samples whose mean is shown as the present: single seconds jump too much to be read.
const PRESENT: usize = 5;

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let foot = footer(app, usize::from(frame.area().width), usize::from(frame.area().height));
    let foot_lines = u16::try_from(foot.len()).unwrap_or(u16::MAX);
    let left = frame.area().height.saturating_sub(foot_lines);
    // A terminal of few lines shows servers and keys, which need it more than the rest.
    let (title, numbers, chart) = match left {
        11.. => (2, 3, 3),
        8.. => (2, 3, 0),
        5.. => (1, 1, 0),
        _ => (0, 0, 0),
    };
    let rows = [
        Constraint::Length(title),
        Constraint::Length(numbers),
        Constraint::Length(chart),
        Constraint::Min(0),
        Constraint::Length(foot_lines),
    ];
    let [title, numbers, chart, servers, bottom] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(Paragraph::new(heading(app)), title);
    frame.render_widget(Paragraph::new(traffic(app)), numbers);
    sparkline(frame, app, chart);
    table(frame, app, servers);
    frame.render_widget(Paragraph::new(foot), bottom);
}

fn strong() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn colour(mood: Mood) -> Style {
    match mood {
        Mood::Good => Style::new().fg(Color::Green),
        Mood::Pending => Style::new().fg(Color::Blue),
        Mood::Warning => Style::new().fg(Color::Yellow),
        Mood::Bad => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Mood::Off => dim(),
    }
}

fn heading(app: &App) -> Vec<Line<'static>> {
    let instance = &app.status.instance;
    let place = format!("{}, through {}", plain(instance.file()), plain(&app.place));
    vec![Line::styled(app.status.title(), strong()), Line::styled(place, dim())]
}

/// A name, dim, and its value.
fn fact(name: &str, value: impl Into<String>) -> [Span<'static>; 2] {
    [Span::styled(format!("{name} "), dim()), Span::raw(format!("{}  ", value.into()))]
}

fn traffic(app: &App) -> Vec<Line<'static>> {
    let recent: Vec<_> = app.samples.iter().rev().take(PRESENT).collect();
    let mean = |what: &dyn Fn(&super::app::Sample) -> u64| {
        let sum: f64 = recent.iter().map(|sample| sample.per_second(what(sample))).sum();
        rate(sum / recent.len().max(1) as f64)
    };
    let class = |name: &'static str| mean(&|sample| sample.responses.get(name).copied().unwrap_or(0));
    let times = recent.iter().find_map(|sample| sample.request_ms);
    let ms = |which: fn(&super::super::view::Quantiles) -> f64| {
        times.as_ref().map_or_else(|| "-".to_owned(), |times| millis(which(times)))
    };
    let (workers, totals) = (&app.status.threadpool, &app.status.totals);
    let first = [
        fact("requests/s", mean(&|sample| sample.requests)),
        fact("2xx", class("2xx")),
        fact("3xx", class("3xx")),
        fact("4xx", class("4xx")),
        fact("5xx", class("5xx")),
        fact("rejected", mean(&|sample| sample.rejections)),
    ];
    let second = [
        fact("latency p50", ms(|times| times.p50)),
        fact("p90", ms(|times| times.p90)),
        fact("p99", ms(|times| times.p99)),
    ];
    let third = [
        fact("workers", format!("{}/{}", workers.workers, workers.max)),
        fact("in flight", count(workers.in_flight as u64)),
        fact("queue", format!("{}/{}", workers.queued, workers.queue_capacity)),
        fact("waiting", count(workers.waiting as u64)),
        fact("connections", count(totals.connections.open as u64)),
        fact("tunnels", count(totals.connections.tunnels as u64)),
    ];
    vec![
        Line::from_iter(first.into_iter().flatten()),
        Line::from_iter(second.into_iter().flatten()),
        Line::from_iter(third.into_iter().flatten()),
    ]
}

/// Requests per second, the newest at the right.
fn sparkline(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let width = usize::from(area.width);
    let known = app.samples.iter().rev().take(width).map(|one| one.per_second(one.requests).round() as u64);
    let mut values: Vec<u64> = known.collect();
    values.resize(width, 0);
    values.reverse();
    frame.render_widget(Sparkline::default().data(&values).style(Style::new().fg(Color::Cyan)), area);
}

fn table(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let servers = app.servers();
    let room = Room::of(area.width);
    let names = [("", 1), ("pool", room.pool), ("server", room.name)];
    let columns: Vec<_> = names.into_iter().chain(COLUMNS.into_iter().take(room.columns)).collect();
    let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
    let heads = columns.iter().enumerate().map(|(at, (head, _))| aligned((*head).to_owned(), at > 3));
    let head = Row::new(heads);
    let rows = servers.iter().map(|server| row(server, room));
    let table = Table::new(rows, widths)
        .header(head.style(dim().add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected((!servers.is_empty()).then(|| app.chosen()));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The columns after the names, and their widths.
const COLUMNS: [(&str, u16); 6] =
    [("state", 8), ("req/s", 7), ("share", 5), ("busy", 4), ("latency", 8), ("weight", 6)];
/// The least width for the names of pools and servers together: in a narrow terminal the last columns are left out.
const NAMES: u16 = 20;

/// What there is room for in the table.
#[derive(Clone, Copy)]
struct Room {
    /// The widths of the names.
    pool: u16,
    name: u16,
    /// How many of the other columns.
    columns: usize,
}

impl Room {
    fn of(width: u16) -> Self {
        // The mark and the spaces between the columns take what the columns do not.
        let taken = |columns| 3 + COLUMNS.iter().take(columns).map(|(_, width)| width + 1).sum::<u16>();
        let left = |columns| width.saturating_sub(taken(columns));
        let columns = (1..=COLUMNS.len()).rev().find(|columns| left(*columns) >= NAMES).unwrap_or(1);
        let pool = left(columns) * 2 / 5;
        Room { pool, name: left(columns) - pool, columns }
    }
}

fn aligned(text: String, to_the_right: bool) -> Cell<'static> {
    let line = Line::from(text);
    Cell::from(if to_the_right { line.right_aligned() } else { line })
}

fn row(server: &Server, room: Room) -> Row<'static> {
    let style = colour(server.mood());
    let cells = [
        Cell::from(server.mark()).style(style),
        aligned(cut_in_the_middle(&plain(&server.pool), usize::from(room.pool)), false),
        aligned(cut_in_the_middle(&plain(&server.name), usize::from(room.name)), false),
        aligned(plain(&server.state), false).style(style),
        aligned(rate(server.rate), true),
        aligned(server.share(), true),
        aligned(server.in_flight.to_string(), true),
        aligned(server.latency(), true),
        aligned(server.weight.to_string(), true),
    ];
    Row::new(cells.into_iter().take(3 + room.columns))
}

/// Lines for what is to be said of the chosen server: the rest of it is cut.
const ABOUT_LINES: usize = 3;

/// Lines of the screen that are not for what is to be said of the chosen server.
const OTHER_LINES: usize = 6;

/// What is to be said of the chosen server and of its pool, as far as there is room, and the keys, a question or a message.
fn footer(app: &App, width: usize, height: usize) -> Vec<Line<'static>> {
    let servers = app.servers();
    let chosen = servers.get(app.chosen());
    let about = chosen.map_or_else(|| "no servers".to_owned(), |server| about(server, width));
    let about = wrapped(&about, width, ABOUT_LINES).into_iter().map(Line::raw);
    let of_pool = chosen.map(|server| [pool(app, &server.pool), tiers(app, &server.pool)]);
    let keys = keys(app, width);
    let room = height.saturating_sub(OTHER_LINES + keys.len());
    about.chain(of_pool.into_iter().flatten().flatten()).take(room).chain(keys).collect()
}

/// The keys; or a question or a message, whole.
fn keys(app: &App, width: usize) -> Vec<Line<'static>> {
    let (text, style) = match (&app.input, &app.message) {
        (Input::Drain(_, name), _) => (
            format!("Drain {}? It gets no new requests. y: yes, any other key: no", plain(name)),
            colour(Mood::Warning).add_modifier(Modifier::BOLD),
        ),
        (Input::Filter, _) => (format!("filter: {}_", app.filter), strong()),
        (Input::Commands, Some(message)) => (plain(message), strong()),
        (Input::Commands, None) => {
            let filter = if app.filter.is_empty() { String::new() } else { format!(": {}", app.filter) };
            let sort = app.sort.name();
            let keys =
                format!("q quit  d drain  r ready  s sort: {sort}  / filter{filter}  up, down: choose");
            return vec![Line::styled(keys, dim())];
        }
    };
    wrapped(&text, width, ABOUT_LINES).into_iter().map(|line| Line::styled(line, style)).collect()
}

/// A server in a sentence: its name where the table has cut it, where it is, and why it is in its state.
fn about(server: &Server, width: usize) -> String {
    let name = plain(&server.name);
    let room = Room::of(u16::try_from(width).unwrap_or(u16::MAX));
    let is_cut = name.chars().count() > usize::from(room.name);
    let name = Some(name).filter(|name| is_cut && *name != plain(&server.address));
    let check = Some(server.probes()).filter(|probes| !probes.is_empty());
    let why = Some(server.why()).filter(|why| !why.is_empty());
    let first = name.into_iter().chain([plain(&server.address)]).chain(server.place());
    first.chain(server.slow_start_told()).chain(check).chain(why).collect::<Vec<_>>().join("; ")
}

/// A text in so many lines of this width, cut between words where that is possible.
fn wrapped(text: &str, width: usize, lines: usize) -> Vec<String> {
    let (mut out, mut rest) = (Vec::new(), text);
    while !rest.is_empty() && out.len() < lines {
        let end = rest.char_indices().nth(width.max(1)).map_or(rest.len(), |(at, _)| at);
        let cut = if end == rest.len() { end } else { rest[..end].rfind(' ').unwrap_or(end) };
        out.push(rest[..cut].to_owned());
        rest = rest[cut..].trim_start();
    }
    out
}

/// The chosen server's pool: its algorithm, its servers, its queue.
fn pool(app: &App, name: &str) -> Option<Line<'static>> {
    let pool = app.status.pools.iter().find(|one| one.name == name)?;
    let first = [format!("pool {}", plain(&pool.name)), plain(&pool.algorithm), pool.ready_told()];
    let in_flight = format!("in flight {}", pool.in_flight);
    let facts = first.into_iter().chain([in_flight]).chain(pool.waiting_told());
    Some(Line::styled(facts.collect::<Vec<_>>().join("  "), dim()))
}

/// What each tier of a pool gets now; `None` where there is one only.
fn tiers(app: &App, pool: &str) -> Option<Line<'static>> {
    let pool = app.status.pools.iter().find(|one| one.name == pool).filter(|pool| !pool.tiers.is_empty())?;
    let told = pool.tiers.iter().map(|tier| {
        let (name, share) = (plain(&tier.name), 100.0 * tier.share);
        format!("{name}: {share:.0} % ({} of {} ready)", tier.ready, tier.servers)
    });
    Some(Line::styled(format!("tiers  {}", told.collect::<Vec<_>>().join("; ")), dim()))
}

#[cfg(test)]
mod tests {
    use super::super::super::view::Tier;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    fn app() -> App {
        let status = serde_json::json!({
            "version": "0.1.0", "uptime_s": 61, "instance": { "pid": 12, "config": "/etc/e/config.json" },
            "threadpool": { "max": 50, "workers": 3, "in_flight": 2, "queue_capacity": 100 },
            "pools": [{ "name": "default", "algorithm": "dynamic", "servers": 1, "ready": 1, "in_flight": 2 },
                      { "name": "api", "algorithm": "round_robin", "servers": 1 }],
            "servers": [
                { "name": "a", "pool": "default", "address": "127.0.0.1:9001", "state": "up", "weight": 5,
                  "rate": 12.0, "share": 0.75, "in_flight": 2, "ewma_ms": 1.234 },
                { "name": "b", "pool": "api", "address": "127.0.0.1:9002", "state": "down", "weight": 1,
                  "reason": "a probe failed", "last_check": { "outcome": "connection refused", "took_ms": 0.2 } }
            ],
        });
        let history = serde_json::json!({ "next": 1, "samples": [{ "span_ms": 1000, "requests": 16,
            "responses": { "2xx": 15, "5xx": 1 }, "request_ms": { "p50": 1.0, "p90": 2.0, "p99": 30.0 } }] });
        let mut app = App::default();
        app.told("the socket /run/a.sock".to_owned(), serde_json::from_value(status).unwrap());
        app.adds(serde_json::from_value(history).unwrap());
        app
    }

    fn screen(app: &App, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, app)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..height).map(line).collect()
    }

    #[test]
    fn everything_has_its_place_in_80_by_24() {
        let lines = screen(&app(), 80, 24);
        for (at, expected) in [
            (0, "evenkeel 0.1.0, pid 12, up 1m 1s"),
            (1, "/etc/e/config.json, through the socket /run/a.sock"),
            (2, "requests/s 16  2xx 15  3xx 0  4xx 0  5xx 1.0  rejected 0"),
            (3, "latency p50 1.00 ms  p90 2.00 ms  p99 30.0 ms"),
            (4, "workers 3/50  in flight 2  queue 0/100  waiting 0  connections 0  tunnels 0"),
            (8, "  pool          server               state      req/s share busy  latency weight"),
            (9, "● default       a                    up            12  75 %    2  1.23 ms      5"),
            (10, "✕ api           b                    down           0     -    0        -      1"),
            (21, "127.0.0.1:9001"),
            (22, "pool default  dynamic  1 of 1 take requests  in flight 2"),
            (23, "q quit  d drain  r ready  s sort: pool  / filter  up, down: choose"),
        ] {
            assert_eq!(lines[at], expected, "line {at} of {lines:#?}");
        }
        assert!(lines[7].ends_with('█'), "{lines:#?}");
    }

    #[test]
    fn a_narrow_terminal_keeps_the_names_and_leaves_out_the_last_columns() {
        for (width, head, first) in [
            (
                60,
                "  pool     server       state      req/s share busy  latency",
                "● default  a            up            12  75 %    2  1.23 ms",
            ),
            (40, "  pool     server       state      req/s", "● default  a            up            12"),
        ] {
            let lines = screen(&app(), width, 24);
            assert_eq!((lines[8].as_str(), lines[9].as_str()), (head, first), "{lines:#?}");
        }
    }

    #[test]
    fn the_chosen_server_is_explained_and_a_drain_asks() {
        let mut app = app();
        app.press(KeyEvent::from(KeyCode::Down));
        let lines = screen(&app, 100, 30);
        assert_eq!(lines[27], "127.0.0.1:9002; probe: connection refused in 0.20 ms; a probe failed");
        app.press(KeyEvent::from(KeyCode::Char('d')));
        let lines = screen(&app, 100, 30);
        assert_eq!(lines[29], "Drain b? It gets no new requests. y: yes, any other key: no");
    }

    #[test]
    fn a_server_says_where_it_belongs_and_its_pool_which_tiers_it_has() {
        let mut app = app();
        let server = &mut app.status.servers[0];
        (server.member_of, server.priority) = (Some("web".to_owned()), 1);
        server.zone = Some("eu-1a".to_owned());
        app.status.pools[0].tiers = [("priority 0", 1, 0.7), ("priority 1", 2, 0.3)]
            .map(|(name, ready, share)| Tier { name: name.to_owned(), servers: 2, ready, share })
            .to_vec();
        let lines = screen(&app, 80, 24);
        assert_eq!(lines[20], "127.0.0.1:9001; member of web; priority 1; zone eu-1a");
        assert_eq!(lines[22], "tiers  priority 0: 70 % (1 of 2 ready); priority 1: 30 % (2 of 2 ready)");
        assert!(lines[23].starts_with("q quit"));
        app.press(KeyEvent::from(KeyCode::Down));
        assert!(screen(&app, 80, 24)[21].starts_with("127.0.0.1:9002"), "a pool without tiers has no line");
    }

    #[test]
    fn long_names_differ_on_the_screen_and_the_chosen_one_is_told_in_full() {
        let mut app = app();
        let server = &mut app.status.servers[0];
        server.name = "server-in-the-datacentre-frankfurt-rack-1-machine-007".to_owned();
        server.address = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535".to_owned();
        server.slow_start = Some(0.35);
        (app.status.pools[0].waiting, app.status.pools[0].queue_capacity) = (7, 1000);
        let lines = screen(&app, 80, 24);
        assert!(lines[9].starts_with("● default       server-in-…chine-007 up"), "{lines:#?}");
        assert_eq!(lines[20], "server-in-the-datacentre-frankfurt-rack-1-machine-007;");
        assert_eq!(
            lines[21],
            "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535; slow start, 35 % of its share"
        );
        assert_eq!(lines[22], "pool default  dynamic  1 of 1 take requests  in flight 2  waiting 7 of 1,000");
    }

    #[test]
    fn a_terminal_of_few_lines_has_the_servers_and_the_whole_question() {
        let mut app = app();
        app.press(KeyEvent::from(KeyCode::Down));
        let lines = screen(&app, 40, 10);
        assert!(lines.iter().any(|line| line.starts_with("✕ api")), "{lines:#?}");
        assert!(lines[9].starts_with("q quit  d drain"), "{lines:#?}");
        app.press(KeyEvent::from(KeyCode::Char('d')));
        let lines = screen(&app, 40, 10);
        assert_eq!(
            lines[8..],
            ["Drain b? It gets no new requests. y:", "yes, any other key: no"],
            "{lines:#?}"
        );
    }

    #[test]
    fn any_size_is_drawn() {
        for (width, height) in [(1, 1), (10, 3), (20, 12), (300, 100)] {
            screen(&app(), width, height);
            screen(&App::default(), width, height);
        }
    }
}
