//! A server that sends interim responses in the place of a final one, for as long as it may.

use super::{Net, Wire};
use crate::base::limits::Descriptors;
use crate::base::time::Moment;
use crate::data::context::{Context, Network};
use crate::data::h1::{Advance, Connection};
use crate::data::poller::{Poller, Side};
use crate::data::shared::{ConnectionPermit, Shared};
use crate::data::transport::Transport;
use crate::state::config;
use crate::state::live::Live;
use crate::state::table::Table;
use crate::state::verdict::Verdicts;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
/// Shorter than the shortest `timeouts.response` here.
const PAUSE: Duration = Duration::from_secs(8);

/// One client, one server and the balancer between them.
struct Way {
    cx: Context,
    connection: Box<Connection>,
    client: Wire,
    server: Option<Wire>,
}

impl Way {
    fn new(response_timeout: &str) -> Self {
        let text = format!(
            r#"{{"servers": {{"list": [{{"name": "a", "address": "127.0.0.1:1"}}], "health_check": {{"enabled": false}}}},
            "timeouts": {{"response": "{response_timeout}"}}}}"#
        );
        let table = Arc::new(Table::of(Live::plain(config::parse(&text, Path::new("")).unwrap())));
        let shared =
            Arc::new(Shared::new(("test", Descriptors::ALL), table, Arc::default(), Verdicts::default()));
        let mut cx = Context::new(&shared, 1, Poller::new().unwrap());
        cx.now = Moment::from_millis(1000);
        cx.network = Network::Simulated(Net::new(1, 0));
        let (near, client) = Wire::pair(100_000);
        let permit = ConnectionPermit::new(&shared, &cx.live().listeners[0], None, false);
        let mut connection = Box::new(Connection::new(Transport::Simulated(near), None, permit, cx.now));
        connection.adopt(0, 0, &mut cx);
        Way { cx, connection, client, server: None }
    }

    /// Delivers what was sent, and has the connection go on until it waits.
    fn go_on(&mut self) {
        for _ in 0..4 {
            let wires = [Some(&self.client), self.server.as_ref()];
            for wire in wires.into_iter().flatten().map(Wire::shared) {
                let mut wire = wire.lock();
                (0..2).for_each(|side| wire.deliver(side, 100_000));
                let Some((token, ready)) = wire.take_edge() else { continue };
                match token.side {
                    Side::Server => _ = self.cx.servers.notify(token, ready),
                    Side::Client => self.connection.notify(ready),
                }
            }
            self.cx.polled_at = self.cx.now;
            while self.connection.advance(&mut self.cx) == Advance::Yield {}
            self.connection.watch(&mut self.cx).unwrap();
            let Network::Simulated(net) = &mut self.cx.network else { unreachable!() };
            self.server = self.server.take().or_else(|| net.accepted.pop_front().map(|(_, wire)| wire));
        }
    }

    fn ask(&mut self, request: &str) {
        self.client.send(&[IoSlice::new(request.as_bytes())]).unwrap();
        self.go_on();
    }

    /// The server sends this after a pause; the status of the last response that the client got then, if any.
    fn responds(&mut self, bytes: &[u8]) -> Option<String> {
        self.cx.now = self.cx.now.after(PAUSE);
        let server = self.server.as_mut().expect("it was connected to");
        let _ = server.send(&[IoSlice::new(bytes)]);
        self.go_on();
        let mut got = vec![0; 10_000];
        let count = self.client.recv(&mut got).unwrap_or(0);
        let got = String::from_utf8_lossy(&got[..count]).into_owned();
        Some(got.rsplit_once("HTTP/1.1 ")?.1.get(..3)?.to_owned())
    }
}

/// How long a client hears of nothing but interim responses, and what comes then.
#[track_caller]
fn check(response_timeout: &str, seconds: u64) {
    let mut way = Way::new(response_timeout);
    way.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let (begun, most) = (way.cx.now, Duration::from_secs(seconds));
    loop {
        let status = way.responds(HINT);
        let waited = way.cx.now.since(begun);
        match status.as_deref() {
            Some("103") => assert!(waited < most + PAUSE, "{waited:?}"),
            status => {
                assert_eq!(status, Some("504"));
                assert!(waited >= most, "{waited:?}");
                return;
            }
        }
    }
}

#[test]
fn interim_responses_put_the_final_one_off_for_a_minute_or_as_long_as_a_response_may_take() {
    check("10s", 60);
    check("3m", 180);
}

#[test]
fn while_a_request_moves_interim_responses_may_go_on() {
    let mut way = Way::new("10s");
    way.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(way.responds(HINT).as_deref(), Some("103"));
        way.ask("x");
    }
    assert_eq!(way.responds(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").as_deref(), Some("200"));
}
