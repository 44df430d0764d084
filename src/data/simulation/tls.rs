//! TLS over the simulated network: whatever pieces the records come in, the same bytes come out.

use super::Wire;
use crate::base::cryptography::provider;
use crate::base::random::Random;
use crate::data::poller::Side;
use crate::data::poller::Token;
use crate::data::socket::Then;
use crate::data::transport::{Moved, Stream, Transport};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use std::io::IoSlice;
use std::sync::Arc;

/// Configurations of both ends, with a certificate of their own.
fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    (Arc::new(client.with_root_certificates(roots).with_no_client_auth()), Arc::new(server))
}

/// One end: what it is to send, and what it has received.
struct End {
    stream: Stream,
    message: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
    ended: bool,
}

impl End {
    fn new(wire: Wire, session: Connection, message: Vec<u8>) -> Self {
        let mut stream = Stream::new(Transport::Simulated(wire), Token::new(Side::Client, 0, 0));
        stream.secure(session, &[]);
        End { stream, message, sent: 0, received: Vec::new(), ended: false }
    }

    /// Sends some of what is left, in one or two places; the end follows the last byte.
    fn send(&mut self, random: &mut Random) {
        let rest = &self.message[self.sent..];
        if rest.is_empty() {
            return;
        }
        // What was refused is offered again with the same beginning, and perhaps more.
        let (one, other) = rest.split_at(random.below(rest.len() + 1));
        let parts = [IoSlice::new(one), IoSlice::new(other)];
        let parts = if one.is_empty() { &parts[1..] } else { &parts[..] };
        if let Moved::Bytes(count) = self.stream.send(parts, Then::Open).unwrap() {
            self.sent += count;
            if self.sent == self.message.len() {
                self.stream.finish_writing();
            }
        }
    }

    fn receive(&mut self, random: &mut Random) {
        let mut into = vec![0; 1 + random.below(20_000)];
        match self.stream.recv(&mut into).unwrap() {
            Moved::Bytes(count) => self.received.extend_from_slice(&into[..count]),
            Moved::Blocked => {}
            Moved::End => self.ended = true,
        }
    }
}

/// Both ends send a message to each other and see the end.
fn check(seed: u64, configs: &(Arc<ClientConfig>, Arc<ServerConfig>)) {
    let mut random = Random::seeded(seed);
    let capacity = [40, 600, 5000, 100_000][random.below(4)];
    let (near, far) = Wire::pair(capacity);
    let shared = near.shared();
    let message =
        |random: &mut Random| (0..random.below(60_000)).map(|at| (at * 7 + 3) as u8).collect::<Vec<_>>();
    let name = ServerName::try_from("a.test").unwrap();
    let client = ClientConnection::new(Arc::clone(&configs.0), name).unwrap();
    let server = ServerConnection::new(Arc::clone(&configs.1)).unwrap();
    let (mut up, mut down) = (message(&mut random), message(&mut random));
    // An empty message would be an end without a word.
    up.push(1);
    down.push(2);
    let mut ends = [End::new(near, server.into(), down), End::new(far, client.into(), up)];
    for step in 0.. {
        assert!(step < 2_000_000, "seed {seed} stands still");
        let side = random.below(2);
        match random.below(4) {
            0 => ends[side].send(&mut random),
            1 => ends[side].receive(&mut random),
            2 => shared.lock().deliver(side, 1 + random.below(3000)),
            // Readiness may be told at any time: it is no promise.
            _ => ends[side].stream.notify(super::Ready {
                readable: true,
                writable: true,
                ended: false,
                reset: false,
            }),
        }
        if ends.iter().all(|end| end.ended) {
            break;
        }
    }
    let [server, client] = &ends;
    assert!(server.received == client.message && client.received == server.message, "seed {seed}");
}

#[test]
fn the_same_bytes_come_out_however_the_records_are_cut() {
    let configs = configs();
    (0..40).for_each(|seed| check(seed, &configs));
}

#[test]
fn close_notify_behind_the_last_bytes_is_an_end_though_the_connection_stays_open() {
    let configs = configs();
    let (near, far) = Wire::pair(100_000);
    let shared = near.shared();
    let name = ServerName::try_from("a.test").unwrap();
    let client = ClientConnection::new(Arc::clone(&configs.0), name).unwrap();
    let server = ServerConnection::new(Arc::clone(&configs.1)).unwrap();
    let (mut near, mut far) =
        (End::new(near, client.into(), Vec::new()), End::new(far, server.into(), Vec::new()));
    let told = super::Ready { readable: true, writable: true, ended: false, reset: false };
    let deliver = |near: &mut End, far: &mut End| {
        [0, 1].into_iter().for_each(|side| shared.lock().deliver(side, 100_000));
        [near, far].into_iter().for_each(|end| end.stream.notify(told));
    };
    loop {
        let both = [near.stream.handshake().unwrap(), far.stream.handshake().unwrap()];
        deliver(&mut near, &mut far);
        if both == [true, true] {
            break;
        }
    }
    assert_eq!(far.stream.send(&[IoSlice::new(b"last")], Then::End).unwrap(), Moved::Bytes(4));
    deliver(&mut near, &mut far);
    let mut into = [0; 100];
    assert_eq!(near.stream.recv(&mut into).unwrap(), Moved::Bytes(4));
    assert!(near.stream.may_read(), "without another event");
    assert_eq!(near.stream.recv(&mut into).unwrap(), Moved::End);
}
