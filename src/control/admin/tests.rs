//! The admin API over its real socket. This file has the API with a data plane that the tests control, and their client.

mod access;
mod intake;
mod lifetime;
mod servers;
mod shown;

use super::*;
use crate::base::ids::PoolId;
use crate::base::ids::ServerId;
use crate::http1::reason::Reason;
use crate::policy::health::Health;
use crate::policy::latency::Reading;
use crate::policy::pick::{Algorithm, Candidate, Slot, Weight, Why};
use crate::policy::pool::Bounds;
use crate::state::choose::{Considered, Excluded, Exclusion, Note, Picked};
use crate::state::config::{self, Config};
use crate::state::decisions::{self, Decision};
use crate::state::history::Load;
use crate::state::reload::{Reload, Reloaded};
use crate::state::server::Check;
use crate::state::stats::{Counter, Outcome};
use crate::state::traffic::Ended;
use crate::state::workers::{Gauges, RequestInfo, Workers};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// A call that takes longer fails the test.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A data plane controlled by the test.
#[derive(Default)]
struct Proxy {
    gauges: Gauges,
    draining: AtomicBool,
    panicking: AtomicBool,
}

impl Workers for Proxy {
    fn gauges(&self) -> &Gauges {
        assert!(!self.panicking.load(Ordering::SeqCst), "as the test asked for");
        &self.gauges
    }
    fn bounds(&self) -> Bounds {
        Bounds { min: 1, max: 50 }
    }
    fn queued(&self) -> usize {
        3
    }
    fn waiting(&self) -> usize {
        4
    }
    fn waiting_in(&self, _: PoolId) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        1
    }
    fn held(&self) -> usize {
        5
    }
    fn slept(&self) -> Duration {
        Duration::ZERO
    }
    fn moves(&self) -> u64 {
        0
    }
    fn start_worker(&self) -> io::Result<()> {
        Ok(())
    }
    fn alive(&self) -> usize {
        0
    }
    fn stop_worker(&self) -> bool {
        false
    }
    fn set_share(&self, _connections: Option<usize>) {}
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
    fn is_leaving(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
    fn is_stopped(&self) -> bool {
        false
    }
    fn connections(&self) -> usize {
        7
    }
    fn tunnels(&self) -> usize {
        2
    }
    fn requests(&self) -> Vec<RequestInfo> {
        Vec::new()
    }
}

/// A running admin API, stopped when it is dropped.
struct Fixture {
    socket: PathBuf,
    proxy: Arc<Proxy>,
    table: Arc<Table>,
    stats: Arc<Stats>,
    events: Arc<Events>,
    history: Arc<History>,
    registered: Arc<Mutex<Vec<String>>>,
    forgotten: Arc<Mutex<Vec<ServerId>>>,
    published: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Fixture::of(
            r#"{"servers":{"list":[{"name":"a","address":"127.0.0.1:9001","weight":2},
                  {"name":"b","address":"unix:/run/b.sock","backup":true}]}}"#,
        )
    }

    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Fixture::with(config::parse(text, folder.path()).unwrap(), folder)
    }

    fn with(config: Config, folder: TempDir) -> Self {
        let socket = config.admin.socket.clone().unwrap();
        let (proxy, stats) = (Arc::new(Proxy::default()), Arc::new(Stats::default()));
        let table = Arc::new(Table::of(Live::plain(config)));
        let (events, history): (Arc<Events>, Arc<History>) = Default::default();
        let (registered, forgotten) = (Arc::default(), Arc::default());
        let (told, gone): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) =
            (Arc::clone(&registered), Arc::clone(&forgotten));
        let view = View {
            published: Arc::default(),
            table: Arc::clone(&table),
            stats: Arc::clone(&stats),
            events: Arc::clone(&events),
            history: Arc::clone(&history),
            workers: Arc::clone(&proxy) as Arc<dyn Workers>,
            instance: Instance::default(),
            started: time::now(),
            registered: Arc::new(move |server| told.lock().push(server.name.clone())),
            forgotten: Arc::new(move |id| gone.lock().push(id)),
            changed: Arc::new(|| ()),
            reload: Reload::new(|| Ok(Reloaded::default()), || Ok(Reloaded::default())),
            reloads: Arc::default(),
            upgrading: Arc::new(Upgrading::new(None)),
            takes_over: false,
        };
        let admin = open(view).unwrap();
        let (stopper, published) = (admin.stopper(), admin.published_at());
        let thread = Some(thread::spawn(move || admin.run()));
        Fixture {
            socket,
            proxy,
            table,
            stats,
            events,
            history,
            registered,
            forgotten,
            published,
            stopper,
            thread,
            folder,
        }
    }

    fn connect(&self) -> BufReader<UnixStream> {
        Fixture::connect_at(&self.socket)
    }

    fn connect_at(path: &Path) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
        BufReader::new(stream)
    }

    /// One request on a connection of its own. `Host`, and `Content-Length` with a body, are added.
    fn call(&self, line: &str, fields: &[&str], body: &str) -> Reply {
        Fixture::call_on(self.connect(), line, fields, body)
    }

    fn call_on(mut connection: BufReader<UnixStream>, line: &str, fields: &[&str], body: &str) -> Reply {
        let has = |name: &str| fields.iter().any(|field| field.to_ascii_lowercase().starts_with(name));
        let mut head = format!("{line} HTTP/1.1\r\n");
        if !has("host:") {
            head.push_str("Host: localhost\r\n");
        }
        fields.iter().for_each(|field| head.push_str(&format!("{field}\r\n")));
        if !body.is_empty() && !has("content-length:") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        connection.get_mut().write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        reply(&mut connection, line.starts_with("HEAD"))
    }

    fn get(&self, path: &str) -> Reply {
        self.call(&format!("GET {path}"), &[], "")
    }

    /// A change, as sent by a well-behaved client.
    fn change(&self, line: &str, body: &str) -> Reply {
        self.call(line, &["Content-Type: application/json"], body)
    }

    fn stop(&mut self) {
        self.stopper.stop();
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    fields: HashMap<String, String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        assert_eq!(self.fields["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// A rejection under `/api`: its status, and a part of its sentence.
    fn check(&self, status: u16, sentence: &str) {
        let said = self.json();
        let error = said["error"].as_str().unwrap();
        assert!(self.status == status && error.contains(sentence), "not {status} {sentence:?}: {self:?}");
    }
}

fn reply(connection: &mut BufReader<UnixStream>, head_only: bool) -> Reply {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "closed after {lines:?}");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
    let fields: HashMap<_, _> =
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length: usize = fields["content-length"].parse().unwrap();
    let mut body = vec![0; if head_only { 0 } else { length }];
    connection.read_exact(&mut body).unwrap();
    Reply { status, fields, body: String::from_utf8(body).unwrap() }
}
