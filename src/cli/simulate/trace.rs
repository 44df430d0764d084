//! A recorded access log: when requests came, where they went, and how long servers took.

use crate::base::ids::PoolId;
use crate::base::random::Random;
use crate::cli::{Failure, STDIN};
use crate::http1::path;
use crate::policy::route::{Request, Rule};
use crate::state::config::Config;
use crate::state::route::{Action, Routes};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Requests of which no server is known got these reasons; what else has no server was not meant for one.
const WITHOUT_SERVER: [&str; 6] =
    ["queue_full", "queue_timeout", "queue_deadline", "overloaded", "no_server", "connect_failed"];

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// In the order of their arrival.
    pub(super) requests: Vec<Recorded>,
    /// The servers that requests went to, by pool and name.
    pub(super) servers: BTreeMap<(String, String), Seen>,
    /// Lines that could not be read, and why the first could not.
    pub(super) unread: usize,
    pub(super) first_fault: Option<String>,
    is_cut_off: bool,
}

/// A request of a trace.
#[derive(Debug)]
pub(super) struct Recorded {
    /// Since the first one.
    pub(super) at: Duration,
    /// What it would take on a server of speed 1.
    pub(super) work: Duration,
    line: Line,
}

/// What a trace tells of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// By the same routes' requests at the other servers; 1 is usual.
    pub(super) speed: f64,
    /// The most requests that it worked on at once.
    pub(super) slots: u32,
}

/// A line of the access log in JSON; other members are not read.
#[derive(Debug, Default, Deserialize)]
struct Line {
    /// When it ended.
    time: String,
    total_ms: Option<f64>,
    queue_ms: Option<f64>,
    connect_ms: Option<f64>,
    server: Option<String>,
    pool: Option<String>,
    route: Option<String>,
    client: Option<IpAddr>,
    method: Option<String>,
    host: Option<String>,
    target: Option<String>,
    reason: Option<String>,
}

/// Reads a file, plain or gzip, or `-`.
pub(super) fn read(file: &Path) -> Result<Trace, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let source: Box<dyn Read> = match file == Path::new(STDIN) {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::fs::File::open(file).map_err(|error| wrong(error.to_string()))?),
    };
    let mut source = BufReader::new(source);
    let begin = source.fill_buf().map_err(|error| wrong(error.to_string()))?;
    let is_gzip = begin.starts_with(&GZIP);
    let source: Box<dyn BufRead> = match is_gzip {
        true => Box::new(BufReader::new(MultiGzDecoder::new(source))),
        false => Box::new(source),
    };
    parse(source).map_err(wrong)
}

fn parse(source: impl BufRead) -> Result<Trace, String> {
    let (mut trace, mut lines) = (Trace::default(), Vec::new());
    for (number, bytes) in (1..).zip(source.split(b'\n')) {
        let fault = match bytes {
            Ok(bytes) if bytes.trim_ascii().is_empty() => continue,
            Ok(bytes) => match timed(&bytes) {
                Ok(line) => {
                    lines.extend(line);
                    continue;
                }
                Err(why) => why,
            },
            // What came before is used: a gzip file may end in the middle.
            Err(error) => {
                trace.is_cut_off = true;
                error.to_string()
            }
        };
        trace.unread += 1;
        trace.first_fault.get_or_insert_with(|| format!("line {number}: {fault}"));
        if trace.is_cut_off {
            break;
        }
    }
    if lines.iter().all(|line| line.took.is_none()) {
        let fault = trace.first_fault.take().map(|fault| format!(" ({fault})")).unwrap_or_default();
        return Err(format!(
            "it has no request that a server got{fault}; write the log with log.access_format json"
        ));
    }
    lines.sort_by_key(|line| line.at);
    Ok(finish(trace, lines))
}

fn finish(mut trace: Trace, lines: Vec<Timed>) -> Trace {
    let usual = usual_by_route(&lines);
    trace.servers = seen(&lines, &usual);
    let first = lines.first().map_or(Duration::ZERO, |line| line.at);
    let all: Vec<_> = usual.values().copied().collect();
    let middle = median(all);
    for Timed { at, took, line, .. } in lines {
        let speed = line.place().and_then(|place| trace.servers.get(&place)).map_or(1.0, |seen| seen.speed);
        let work = took.map(|took| took.mul_f64(speed));
        let usual = || usual.get(line.route.as_deref().unwrap_or_default()).copied().unwrap_or(middle);
        trace.requests.push(Recorded { at: at - first, work: work.unwrap_or_else(usual), line });
    }
    trace
}

/// A line with its times.
struct Timed {
    /// When it came, since 1970.
    at: Duration,
    /// When its server got it.
    sent: Duration,
    /// What it took there; `None`: no server got it.
    took: Option<Duration>,
    line: Line,
}

/// The line, if it is a request for a server.
fn timed(bytes: &[u8]) -> Result<Option<Timed>, String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let is_rejected = line.reason.as_deref().is_some_and(|reason| WITHOUT_SERVER.contains(&reason));
    if line.server.is_none() && !is_rejected {
        return Ok(None);
    }
    let ended = humantime::parse_rfc3339_weak(&line.time)
        .map_err(|_| format!("{:?} is not a valid time", line.time))?;
    let ended = ended.duration_since(UNIX_EPOCH).unwrap_or_default();
    let ms = |ms: Option<f64>| Duration::try_from_secs_f64(ms.unwrap_or(0.0) / 1e3).unwrap_or_default();
    let total = ms(line.total_ms);
    let at = ended.saturating_sub(total);
    let before = ms(line.queue_ms) + ms(line.connect_ms);
    let took = line.server.is_some().then(|| total.saturating_sub(before));
    Ok(Some(Timed { at, sent: at + before, took, line }))
}

impl Line {
    fn place(&self) -> Option<(String, String)> {
        let pool = self.pool.clone().unwrap_or_else(|| crate::state::config::DEFAULT_POOL.to_owned());
        self.server.clone().map(|server| (pool, server))
    }
}

/// The median of what the requests of each route took.
fn usual_by_route(lines: &[Timed]) -> HashMap<String, Duration> {
    let mut by_route: HashMap<&str, Vec<Duration>> = HashMap::new();
    for line in lines {
        let route = line.line.route.as_deref().unwrap_or_default();
        by_route.entry(route).or_default().extend(line.took);
    }
    by_route.into_iter().map(|(route, took)| (route.to_owned(), median(took))).collect()
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Speeds, and requests at once, of all servers.
fn seen(lines: &[Timed], usual: &HashMap<String, Duration>) -> BTreeMap<(String, String), Seen> {
    type Own<'l> = (BTreeMap<&'l str, Vec<Duration>>, Vec<(Duration, i32)>);
    let mut servers: BTreeMap<(String, String), Own<'_>> = BTreeMap::new();
    for Timed { sent, took, line, .. } in lines {
        let (Some(place), Some(took)) = (line.place(), took) else { continue };
        let (by_route, edges) = servers.entry(place).or_default();
        by_route.entry(line.route.as_deref().unwrap_or_default()).or_default().push(*took);
        edges.extend([(*sent, 1), (*sent + *took, -1)]);
    }
    let of = |(by_route, edges): Own<'_>| {
        let (mut sum, mut count) = (0.0, 0.0);
        for (route, took) in by_route {
            let (here, own) = (took.len() as f64, median(took).as_secs_f64());
            let all = usual.get(route).map_or(own, Duration::as_secs_f64);
            if own > 0.0 && all > 0.0 {
                (sum, count) = (sum + here * own / all, count + here);
            }
        }
        Seen { speed: if sum > 0.0 { count / sum } else { 1.0 }, slots: most_at_once(edges) }
    };
    servers.into_iter().map(|(place, own)| (place, of(own))).collect()
}

fn most_at_once(mut edges: Vec<(Duration, i32)>) -> u32 {
    // At the same moment one ends before another begins.
    edges.sort_unstable();
    let (mut now, mut most) = (0, 1);
    for (_, step) in edges {
        now += step;
        most = most.max(now);
    }
    most as u32
}

/// Where the requests of a trace go with a configuration.
pub(super) struct Way<'c> {
    config: &'c Config,
    routes: Routes,
    random: Random,
}

impl<'c> Way<'c> {
    pub(super) fn of(config: &'c Config) -> Self {
        // A file of a response that cannot be read matters nothing here: such routes have no servers.
        let routes = Routes::new(&config.routes).unwrap_or_default();
        Way { config, routes, random: Random::seeded(1) }
    }

    /// The pool of a request; `None` if the balancer responds itself.
    ///
    /// What the log does not have of a request counts as absent. So a route with conditions on headers or cookies gets the
    /// requests that it got when they were recorded.
    pub(super) fn pool(&mut self, recorded: &Recorded) -> Option<PoolId> {
        let line = &recorded.line;
        if self.config.routes.is_empty() {
            return Some(PoolId::default());
        }
        let target = line.target.as_deref().unwrap_or("/").as_bytes();
        let (raw, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
        let normal = path::normalise(raw, self.config.listen.encoded_slash).ok()?;
        let asked = Asked { line, path: &normal.path, query: query.get(1..).unwrap_or_default() };
        let found = self.routes.find(&asked, &normal.others).ok()?;
        let name = line.route.as_deref();
        let recorded = self.config.routes.iter().find(|spec| Some(spec.route.name.as_str()) == name);
        let is_conditional = |rule: &Rule| !rule.headers.is_empty() || !rule.cookies.is_empty();
        let route = match recorded.filter(|spec| spec.rules.iter().any(is_conditional)) {
            Some(spec) => &spec.route,
            None => match found {
                Some(found) => found.route,
                None => return Some(PoolId::default()),
            },
        };
        match &route.action {
            Action::Pool(pool) => Some(*pool),
            Action::Split(split) => Some(split.choose(self.random.number(), |_| true)),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }
}

/// A recorded request as routes look at it.
struct Asked<'l> {
    line: &'l Line,
    path: &'l [u8],
    query: &'l [u8],
}

impl Request for Asked<'_> {
    fn host(&self) -> &[u8] {
        self.line.host.as_deref().unwrap_or_default().as_bytes()
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> &[u8] {
        self.query
    }

    fn method(&self) -> &[u8] {
        self.line.method.as_deref().unwrap_or("GET").as_bytes()
    }

    fn header(&self, _: &[u8], _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }

    fn client(&self) -> Option<IpAddr> {
        self.line.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(time: &str, rest: &str) -> String {
        format!("{{\"time\":\"2026-11-27T00:00:{time}Z\",{rest}}}\n")
    }

    fn parsed(text: &str) -> Result<Trace, String> {
        parse(text.as_bytes())
    }

    #[test]
    fn lines_are_read_in_any_order_and_what_no_server_was_meant_for_is_left_out() {
        let text = [
            line("01.230", r#""server":"a","total_ms":130.0,"queue_ms":20.0,"connect_ms":null"#),
            line("01.010", r#""server":"b","total_ms":10.0,"target":"/""#),
            line("01.000", r#""server":null,"total_ms":3.0,"reason":"rate_limit""#),
            line("01.300", r#""server":null,"total_ms":5.0,"reason":"queue_full""#),
        ];
        let trace = parsed(&text.concat()).unwrap();
        let ms: Vec<_> = trace.requests.iter().map(|one| one.at.as_millis()).collect();
        assert_eq!(ms, [0, 100, 295]);
        // The one that was rejected takes as long as the middle one.
        assert!(trace.requests[2].work > Duration::from_millis(9));
        assert_eq!(trace.unread, 0);
    }

    #[test]
    fn mistakes_are_counted_and_a_file_without_requests_is_told() {
        let good = line("01.000", r#""server":"a","total_ms":10"#);
        let trace = parsed(&format!("{good}{{\"time\": 1}}\n\n127.0.0.1 - - [x] \"GET /\"\n{good}")).unwrap();
        assert_eq!((trace.requests.len(), trace.unread), (2, 2));
        assert!(trace.first_fault.unwrap().starts_with("line 2: "));
        for (text, advice) in [("", "access_format json"), ("{\"time\": 1}", "line 1"), ("\u{0}\n", "line 1")]
        {
            let told = parsed(text).unwrap_err();
            assert!(told.contains(advice) && told.contains("no request"), "{text:?}: {told}");
        }
    }

    #[test]
    fn gzip_is_read_and_one_that_was_cut_off_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.jsonl.gz");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        (0..1_000).for_each(|_| {
            packer.write_all(line("01.000", r#""server":"a","total_ms":10"#).as_bytes()).unwrap();
        });
        let packed = packer.finish().unwrap();
        let requests = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            read(&file).unwrap().requests.len()
        };
        assert_eq!(requests(&packed), 1_000);
        assert!((1..1_000).contains(&requests(&packed[..packed.len() / 2])));
        assert!(matches!(read(&folder.path().join("none")), Err(Failure::Usage(_))));
    }

    #[test]
    fn speeds_are_by_route_and_slots_are_what_was_seen_at_once() {
        let mut text = String::new();
        for at in 0..20 {
            for (server, route, total) in
                [("a", "quick", 10), ("b", "quick", 20), ("a", "long", 100), ("b", "long", 200)]
            {
                let rest =
                    format!(r#""server":"{server}","route":"{route}","pool":"api","total_ms":{total}"#);
                text += &line(&format!("{:02}.000", at * 2), &rest);
            }
        }
        let trace = parsed(&text).unwrap();
        let seen = |name: &str| trace.servers[&("api".to_owned(), name.to_owned())];
        assert!((seen("a").speed / seen("b").speed - 2.0).abs() < 0.01, "{:?}", trace.servers);
        assert_eq!((seen("a").slots, seen("b").slots), (2, 2));
    }

    #[test]
    fn routes_of_the_configuration_say_where_requests_go() {
        let text = r#"{ "servers": { "list": [ { "address": "127.0.0.1:1" } ] }, "pools": { "api": { "list": [ { "address": "127.0.0.1:2" } ] },
            "canary": { "list": [ { "address": "127.0.0.1:3" } ] } },
            "routes": [ { "path": "/v1/*", "pool": "api" }, { "name": "x", "headers": { "x-canary": "1" }, "pool": "canary" },
                        { "path": "/old", "redirect": { "target": "/new" } } ] }"#;
        let config = crate::state::config::parse(text, Path::new("/")).unwrap();
        let mut way = Way::of(&config);
        for (rest, expected) in [
            (r#""target":"/v1/a?b=1""#, Some("api")),
            (r#""target":"/v1/../v2""#, None),
            (r#""target":"/other","route":"x""#, Some("canary")),
            (r#""target":"/other""#, Some("default")),
            (r#""target":"/old""#, None),
        ] {
            let trace = parsed(&line("01.000", &format!(r#""server":"a","total_ms":1,{rest}"#))).unwrap();
            let found = way.pool(&trace.requests[0]).map(|pool| config.pool_name(pool));
            assert_eq!(found, expected, "{rest}");
        }
    }
}
