//! Servers that behave well and badly, and clients that know what to expect of them: each request has a number, which
//! says how its server behaves and what the response must be.

use super::message::Seen;
use super::origin::Visit;
use super::{Broken, Client, Evenkeel, Origin, Shared, chunked};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Requests with this in their number are answered at once, but for a few, and most are answered well.
pub const QUICK: usize = 1 << 24;

/// What a server does with the request of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Length,
    Chunked,
    Trailers,
    UntilClose,
    TellsAndCloses,
    HalfCloses,
    ClosesBefore,
    ResetsBefore,
    ResetsWithin,
    CutsHead,
}

/// The same for the same number, in the client and in the server.
pub struct Plan {
    number: usize,
    behaviour: Behaviour,
    delay: Duration,
    size: usize,
}

impl Plan {
    fn of(number: usize) -> Self {
        let mut random = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5555_aaaa;
        let mut roll = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 20) % below
        };
        use Behaviour::*;
        let behaviour = match roll(40) {
            0..20 => Length,
            20..25 => Chunked,
            25..29 => Trailers,
            29 => UntilClose,
            30 | 31 => TellsAndCloses,
            32..35 => HalfCloses,
            35 => ClosesBefore,
            36 => ResetsBefore,
            37 | 38 => ResetsWithin,
            _ => CutsHead,
        };
        let is_quick = number & QUICK != 0 && roll(50) > 0;
        let behaviour = if is_quick { Length } else { behaviour };
        let delay = Duration::from_millis(if is_quick { 0 } else { roll(31) });
        let size = match roll(12) {
            _ if is_quick => roll(3000),
            0 => roll(300 * 1024),
            1 | 2 => 60 * 1024 + roll(8 * 1024),
            3 => 0,
            _ => roll(3000),
        };
        Plan { number, behaviour, delay, size: size as usize }
    }

    fn body(&self, method: &str, sent: &[u8]) -> Vec<u8> {
        let mut body = format!("{method} {} ", self.number).into_bytes();
        body.extend_from_slice(sent);
        let from = body.len();
        body.extend((0..self.size).map(|at| (at.wrapping_mul(31) ^ (self.number >> (at % 3 * 8))) as u8));
        assert!(body.len() == from + self.size);
        body
    }

    /// False: the connection is over.
    fn response(&self, visit: &mut Visit, seen: &Seen) -> bool {
        let body = self.body(seen.method(), &seen.body);
        let with_length = |more: &str| {
            let mut bytes =
                format!("HTTP/1.1 200 OK\r\n{more}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
            bytes.extend_from_slice(&body);
            bytes
        };
        let third = body.len() / 3;
        let pieces = chunked(&[&body[..third + 1], &body[third + 1..2 * third + 1], &body[2 * third + 1..]]);
        let pieces = if third < 2 { chunked(&[&body]) } else { pieces };
        match self.behaviour {
            Behaviour::Length => visit.send(with_length("")),
            Behaviour::Chunked | Behaviour::Trailers => {
                visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                if self.behaviour == Behaviour::Trailers {
                    visit.send(&pieces[..pieces.len() - 2]);
                    visit.send(format!("X-Number: {}\r\n\r\n", self.number));
                } else {
                    visit.send(&pieces);
                }
            }
            Behaviour::UntilClose => {
                visit.send("HTTP/1.1 200 OK\r\n\r\n");
                visit.send(&body);
                return false;
            }
            Behaviour::TellsAndCloses => {
                visit.send(with_length("Connection: close\r\n"));
                return false;
            }
            Behaviour::HalfCloses => {
                visit.send(with_length(""));
                visit.finish_writing();
                visit.to_the_end();
                return false;
            }
            Behaviour::ClosesBefore => return false,
            Behaviour::ResetsBefore => {
                visit.reset_on_close();
                return false;
            }
            Behaviour::ResetsWithin => {
                let whole = with_length("");
                visit.send(&whole[..whole.len() - 1 - self.size / 2]);
                visit.reset_on_close();
                return false;
            }
            Behaviour::CutsHead => {
                visit.send("HTTP/1.1 200 OK\r\nContent-");
                return false;
            }
        }
        true
    }
}

/// What arrived at all servers: how often each request that must not be repeated came.
pub type Arrived = Shared<HashMap<usize, usize>>;

pub fn origin(arrived: &Arrived) -> Origin {
    let arrived = arrived.clone();
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            let number = seen.target().trim_start_matches('/').parse().expect("a number");
            if seen.method() == "POST" {
                assert_eq!(seen.body, format!("body of {number}").as_bytes());
                arrived.change(|arrived| *arrived.entry(number).or_default() += 1);
            }
            let plan = Plan::of(number);
            thread::park_timeout(plan.delay);
            if !plan.response(visit, &seen) {
                return;
            }
        }
    })
}

pub fn request(number: usize) -> Vec<u8> {
    let body = format!("body of {number}");
    let head = format!("/{number} HTTP/1.1\r\nHost: h\r\n");
    match number % 4 {
        0 | 1 => format!("GET {head}\r\n").into_bytes(),
        2 => format!("POST {head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes(),
        _ => {
            let mut bytes = format!("POST {head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            let (one, two) = body.as_bytes().split_at(3);
            let pieces = chunked(&[one, two]);
            bytes.extend_from_slice(&pieces[..pieces.len() - 2]);
            bytes.extend_from_slice(b"X-T: u\r\n\r\n");
            bytes
        }
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    /// Whole responses.
    pub well: AtomicUsize,
    /// 502, or cut short.
    pub failed: AtomicUsize,
    /// Clients that left before their response.
    pub left: AtomicUsize,
}

/// One connection; another one follows when it ends.
pub struct Caller<'e> {
    balancer: &'e Evenkeel,
    client: Client,
    asked: Vec<usize>,
}

impl<'e> Caller<'e> {
    pub fn new(balancer: &'e Evenkeel) -> Self {
        Caller { balancer, client: Client::to(balancer), asked: Vec::new() }
    }

    pub fn ask(&mut self, number: usize) {
        let both = number.is_multiple_of(7);
        self.asked = if both { vec![number, number + 1_000_001] } else { vec![number] };
        let sent: Vec<u8> = self.asked.iter().flat_map(|number| request(*number)).collect();
        if self.client.try_send(&sent).is_err() {
            *self = Caller { asked: Vec::new(), ..Caller::new(self.balancer) };
        }
    }

    pub fn read(&mut self, tally: &Tally) {
        for number in std::mem::take(&mut self.asked) {
            if number % 23 == 0 {
                // It has seen enough.
                tally.left.fetch_add(1, Ordering::Relaxed);
                *self = Caller::new(self.balancer);
                return;
            }
            if !self.read_one(number, tally) {
                *self = Caller::new(self.balancer);
                return;
            }
        }
    }

    /// False: the connection is over.
    fn read_one(&mut self, number: usize, tally: &Tally) -> bool {
        let plan = Plan::of(number);
        let (method, sent) =
            if number % 4 < 2 { ("GET", String::new()) } else { ("POST", format!("body of {number}")) };
        match self.client.try_response() {
            Ok(response) if response.status == 200 => {
                let expected = plan.body(method, sent.as_bytes());
                let told = String::from_utf8_lossy(&response.body[..response.body.len().min(60)]);
                assert!(response.body == expected, "{number} ({:?}) got {told:?}", plan.behaviour);
                assert_eq!(response.trailers.has("X-Number"), plan.behaviour == Behaviour::Trailers);
                tally.well.fetch_add(1, Ordering::Relaxed);
                !response.fields.has("Connection")
            }
            Ok(response) => {
                // 502 also where a connection that had been used before died with this request.
                assert_eq!(response.status, 502, "{number} ({:?}): {}", plan.behaviour, response.text());
                tally.failed.fetch_add(1, Ordering::Relaxed);
                !response.fields.has("Connection")
            }
            Err(Broken::Late) => panic!("{number} ({:?}) hangs", plan.behaviour),
            Err(Broken::Malformed(what)) => panic!("{number} ({:?}): {what}", plan.behaviour),
            Err(Broken::End | Broken::Cut(_) | Broken::Reset(_)) => {
                assert_eq!(plan.behaviour, Behaviour::ResetsWithin, "{number} was cut");
                tally.failed.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Clients in so many threads, so many in each, that ask so often each. Each thread calls `between` while its clients
/// wait for their responses.
pub fn run(
    balancer: &Evenkeel,
    (threads, each, rounds): (usize, usize, usize),
    mark: usize,
    between: impl Fn(usize) + Sync,
) -> Tally {
    let tally = Tally::default();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (tally, between) = (&tally, &between);
            scope.spawn(move || {
                let mut callers: Vec<_> = (0..each).map(|_| Caller::new(balancer)).collect();
                for round in 0..rounds {
                    for (at, caller) in callers.iter_mut().enumerate() {
                        caller.ask(((thread * each + at) * rounds + round) | mark);
                    }
                    between(thread);
                    callers.iter_mut().for_each(|caller| caller.read(tally));
                }
            });
        }
    });
    tally
}

/// No request that must not be repeated came twice.
pub fn nothing_came_twice(arrived: &Arrived) {
    arrived.look(|arrived| {
        let again: Vec<_> = arrived.iter().filter(|(_, count)| **count > 1).collect();
        assert!(again.is_empty(), "sent more than once: {again:?}");
    });
}
