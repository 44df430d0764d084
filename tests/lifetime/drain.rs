//! How a drain ends what would go on for hours: WebSockets and event streams, each at a moment of its own, and never within
//! a frame or an event.

use crate::support::message::Framing;
use crate::support::origin::Visit;
use crate::support::{Broken, Client, Evenkeel, Gate, Origin, until};
use rustix::process::Signal;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const EVENTS: &str = "GET /events HTTP/1.1\r\nHost: h\r\n\r\n";
/// "Going away", to a client.
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];
/// The same from a client, which masks it with 0.
const CLIENT_CLOSES: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// A balancer whose drain takes so long.
fn before(origin: &Origin, drain: &str) -> Evenkeel {
    Evenkeel::before(&[origin], json!({"timeouts": {"drain": drain}, "admin": {"socket": "a.sock"}}))
}

/// A frame with a payload of this length: from a client with a masking key.
fn frame(masked: bool, len: u16) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x82, bit | 126];
    frame.extend_from_slice(&len.to_be_bytes());
    // A payload that looks like headers of frames.
    frame.resize(frame.len() + usize::from(len) + if masked { 4 } else { 0 }, 0x88);
    frame
}

/// Cuts what came into frames: the first byte of each, its payload without the mask, and what is left over.
fn frames(bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, &[u8]) {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let [first, second, after @ ..] = rest {
        let code = usize::from(second & 0x7f);
        let (len, after) = match (code, after) {
            (126, [high, low, after @ ..]) => (usize::from(*high) << 8 | usize::from(*low), after),
            (126.., _) => break,
            _ => (code, after),
        };
        let masked = second & 0x80 != 0;
        let (mask, after) =
            if masked { after.split_at_checked(4).unwrap_or_default() } else { (&[][..], after) };
        if after.len() < len || masked && mask.len() < 4 {
            break;
        }
        let (payload, after) = after.split_at(len);
        let key = |at: usize| if masked { mask[at % 4] } else { 0 };
        found.push((*first, payload.iter().enumerate().map(|(at, byte)| byte ^ key(at)).collect()));
        rest = after;
    }
    (found, rest)
}

/// Sends frames in pieces that are cut anywhere, until the other side takes no more.
fn send_frames(masked: bool, mut send: impl FnMut(&[u8]) -> bool) {
    let stream: Vec<u8> = [100, 20_000, 1, 60_000].into_iter().flat_map(|len| frame(masked, len)).collect();
    let mut pieces = stream.chunks(7001).cycle();
    while pieces.next().is_some_and(&mut send) {
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn a_web_socket_under_traffic_gets_its_close_frame_between_two_frames_on_either_side() {
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        visit.send(SWITCH);
        thread::scope(|scope| {
            let mut stream = visit.stream();
            scope.spawn(move || send_frames(false, |piece| stream.write_all(piece).is_ok()));
            visit.to_the_end();
        });
    });
    let mut balancer = before(&origin, "10s");
    let mut client = Client::to(&balancer);
    assert_eq!(client.send(UPGRADE).response().status, 101);
    let mut stream = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || send_frames(true, |piece| stream.write_all(piece).is_ok()));
    client.bytes(200_000);
    // From here on at the edge of a frame or within one, wherever the first 200,000 bytes ended.
    let until_edge = 200_000 % stream_len(false);
    client.bytes(stream_len(false) - until_edge);
    balancer.signal(Signal::TERM);
    let (received, _) = client.rest();
    let (received, rest) = frames(&received);
    assert!(rest.is_empty(), "{} bytes of a frame that was cut", rest.len());
    assert_eq!(received.last(), Some(&(0x88, vec![0x03, 0xe9])), "the last frame says going away");
    assert_eq!(received.iter().filter(|(first, _)| *first == 0x88).count(), 1);
    sender.join().unwrap();
    assert_eq!(balancer.wait().code(), Some(0));
    origin.wait_for_quiet();
    let sent = origin.bytes(0);
    let head = sent.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (sent, rest) = frames(&sent[head..]);
    assert!(rest.is_empty(), "{} bytes of a frame that was cut", rest.len());
    assert_eq!(sent.last(), Some(&(0x88, vec![0x03, 0xe9])), "the client sent no close frame, so it is ours");
}

/// Bytes of one round of [`send_frames`].
fn stream_len(masked: bool) -> usize {
    [100, 20_000, 1, 60_000].into_iter().map(|len| frame(masked, len).len()).sum()
}

#[test]
fn the_close_frame_of_the_client_and_what_it_sent_before_reach_the_server() {
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        visit.send(SWITCH);
        visit.to_the_end();
    });
    let mut balancer = before(&origin, "8s");
    let mut client = Client::to(&balancer);
    assert_eq!(client.send(UPGRADE).response().status, 101);
    let (first, last) = (frame(true, 5), frame(true, 300));
    client.send(&first[..6]);
    balancer.signal(Signal::TERM);
    assert_eq!(client.bytes(GOING_AWAY.len()), GOING_AWAY, "though it is within a frame itself");
    let all = [&first[6..], &last, CLIENT_CLOSES].concat();
    client.send(&all);
    client.sees_the_end();
    assert_eq!(balancer.wait().code(), Some(0));
    origin.wait_for_quiet();
    let expected = [&first, &last[..], CLIENT_CLOSES].concat();
    assert!(
        origin.bytes(0).ends_with(&[&b"\r\n\r\n"[..], &expected].concat()),
        "and nothing of ours behind it"
    );
}

#[test]
fn a_frame_that_stands_still_is_not_cut_before_the_deadline() {
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        visit.send([SWITCH.as_bytes(), &frame(false, 500)[..100]].concat());
        visit.to_the_end();
    });
    let mut balancer = before(&origin, "1s");
    let mut client = Client::to(&balancer);
    assert_eq!(client.send(UPGRADE).response().status, 101);
    balancer.signal(Signal::TERM);
    let (bytes, _) = client.rest();
    assert_eq!(bytes, frame(false, 500)[..100], "no close frame within a frame");
    assert_eq!(balancer.wait().code(), Some(0));
    balancer.logs("the time for draining is over");
}

#[test]
fn another_protocol_gets_no_close_frame() {
    let gate = Gate::default();
    let shut = gate.clone();
    let origin = Origin::start(move |visit| {
        let Some(_) = visit.request() else { return };
        visit.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
        visit.to_the_end();
        shut.wait();
    });
    let mut balancer = before(&origin, "500ms");
    let mut client = Client::to(&balancer);
    assert_eq!(client.send(UPGRADE.replace("websocket", "other")).response().status, 101);
    balancer.signal(Signal::TERM);
    assert_eq!(client.rest().0, b"");
    assert_eq!(balancer.wait().code(), Some(0));
    gate.open();
}

#[test]
fn clients_are_told_one_after_the_other() {
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        visit.send(SWITCH);
        visit.take(CLIENT_CLOSES.len());
        visit.send(GOING_AWAY);
    });
    // Clients that hear of it together may be those of a machine that stood still: then again.
    until("they are told one after the other, and none is cut", || {
        let Some(at) = told_at(&origin) else { return false };
        at[23] - at[0] >= Duration::from_secs(1)
            && at.windows(8).all(|some| some[7] - some[0] >= Duration::from_millis(50))
    });
}

/// When each of 24 clients was told of a drain of 4 s, in order; `None` where some were cut.
fn told_at(origin: &Origin) -> Option<Vec<Duration>> {
    let mut balancer = before(origin, "4s");
    let clients: Vec<Client> = (0..24).map(|_| Client::to(&balancer)).collect();
    let clients: Vec<Client> = clients.into_iter().map(upgraded).collect();
    let begun = Instant::now();
    balancer.signal(Signal::TERM);
    let tell = |mut client: Client| {
        let told = client.try_bytes(GOING_AWAY.len()).ok()?;
        assert_eq!(told, GOING_AWAY);
        let at = begun.elapsed();
        client.try_send(CLIENT_CLOSES).ok()?;
        client.rest().1.is_ok().then_some(at)
    };
    let at: Option<Vec<Duration>> = thread::scope(|scope| {
        let each: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| tell(client))).collect();
        each.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(balancer.wait().code(), Some(0));
    let mut at = at.filter(|_| {
        !balancer.log_lines().iter().any(|line| line.contains("the time for draining is over"))
    })?;
    at.sort();
    Some(at)
}

fn upgraded(mut client: Client) -> Client {
    assert_eq!(client.send(UPGRADE).response().status, 101);
    client
}

/// Sends events, each in two pieces, until its client is gone.
fn tick(visit: &mut Visit, piece: fn(&str) -> String) {
    for number in 0.. {
        // Mostly in the middle of an event, so that an end that heeds none would show.
        for (part, pause_ms) in [(format!("id: {number}\r\ndata: "), 10), (format!("{number}\r\n\r\n"), 1)] {
            if !visit.try_send(piece(&part)) {
                return;
            }
            thread::park_timeout(Duration::from_millis(pause_ms));
        }
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Every event is whole.
#[track_caller]
fn check_events(body: &str) {
    assert!(body.ends_with("\r\n\r\n") && body.len() > 20, "{body:?}");
    for (number, event) in body.trim_end().split("\r\n\r\n").enumerate() {
        assert_eq!(event, format!("id: {number}\r\ndata: {number}"));
    }
}

#[test]
fn an_event_stream_ends_behind_an_event_as_a_whole_response() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n";
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        match visit.number {
            0 | 2 => {
                visit.send(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"));
                tick(visit, chunk);
            }
            _ => {
                visit.send(format!("{HEAD}\r\n"));
                tick(visit, str::to_owned);
            }
        }
    });
    let mut balancer = before(&origin, "10s");
    let mut clients = Vec::new();
    for at in 0..4 {
        let mut client = Client::to(&balancer);
        client.send(if at < 2 { EVENTS.to_owned() } else { EVENTS.replace("1.1", "1.0") });
        origin.until("it is asked", |seen| seen.heads > at);
        clients.push(client);
    }
    balancer.signal(Signal::TERM);
    for mut client in clients.drain(..2) {
        let response = client.response();
        assert_eq!(response.framing, Framing::Chunked, "with its last chunk");
        check_events(&response.text());
    }
    for mut client in clients {
        let (bytes, end) = client.rest();
        assert!(end.is_ok(), "{end:?}");
        let text = String::from_utf8(bytes).unwrap();
        check_events(text.split_once("\r\n\r\n").unwrap().1);
    }
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(!balancer.log_lines().iter().any(|line| line.contains("the time for draining is over")));
}

#[test]
fn an_event_stream_that_is_silent_ends() {
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        visit
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        visit.send(chunk("data: 1\n\n"));
        visit.to_the_end();
    });
    let mut balancer = before(&origin, "8s");
    let mut client = Client::to(&balancer);
    let (head, status) = client.send(EVENTS).head();
    balancer.signal(Signal::TERM);
    assert_eq!(client.body_of("GET", head, status).unwrap().text(), "data: 1\n\n");
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_response_that_is_no_event_stream_is_never_ended_as_if_it_were_whole() {
    let origin = Origin::start(|visit| {
        let Some(_) = visit.request() else { return };
        visit.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n1\n\n\n\r\n",
        );
        visit.to_the_end();
    });
    let mut balancer = before(&origin, "500ms");
    let mut client = Client::to(&balancer);
    let (head, status) = client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").head();
    balancer.signal(Signal::TERM);
    let body = client.body_of("GET", head, status);
    assert!(matches!(body, Err(Broken::Cut(_) | Broken::Reset(_))), "{body:?}");
    assert_eq!(balancer.wait().code(), Some(0));
}

/// The first line of `/ready`.
fn ready(balancer: &Evenkeel) -> String {
    let mut stream = UnixStream::connect(balancer.folder().join("a.sock")).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn with_a_shutdown_delay_it_is_not_ready_and_serves_until_the_delay_is_over() {
    let origin = Origin::responds("ok");
    let config = json!({"timeouts": {"shutdown_delay": "5s"}, "admin": {"socket": "a.sock"}});
    let mut balancer = Evenkeel::before(&[&origin], config);
    let mut kept = Client::to(&balancer);
    assert_eq!((kept.get("/").status, &*ready(&balancer)), (200, "HTTP/1.1 200 OK"));
    let begun = Instant::now();
    balancer.signal(Signal::TERM);
    balancer.logs("SIGTERM: not ready any more; the ports close in 5s");
    until("it is not ready", || ready(&balancer).contains(" 503 "));
    let new = Client::to(&balancer).get("/");
    assert_eq!((new.status, new.fields.all("Connection").len()), (200, 0));
    assert_eq!(kept.get("/").status, 200);
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    balancer.logs("SIGTERM: the ports are closed");
}

#[test]
fn a_second_signal_within_the_shutdown_delay_stops_at_once() {
    let origin = Origin::responds("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"shutdown_delay": "1h"}}));
    until("it ends", || {
        balancer.signal(Signal::TERM);
        !balancer.runs()
    });
    assert_eq!(balancer.wait().code(), Some(1));
}
