//! Step 8, another way: an upgraded connection (RFC 9110 section 7.8). After 101 the bytes are nobody's but
//! the two ends'; a thread of its own passes them on, never a worker.

use super::Plane;
use super::close;
use super::dial::Link;
use super::finish;
use super::hands::{Failure, Hands, Request};
use super::hear::Final;
use super::park::Connection;
use super::relay::Delivered;
use super::socket::{self, Found, Socket, Then, Want};
use super::upload::Upload;
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::state::server::Lease;
use crate::state::stats::Counter;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Bytes held in each direction.
const BUFFER: usize = 16 * 1024;
/// A tunnel's thread needs little.
const STACK: usize = 128 * 1024;

/// Hands the connection, the link and the lease to a tunnel thread. The 101 goes out first.
pub fn open(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    lease: Lease,
    link: Link,
    last: &Final,
) -> Result<Delivered, Failure> {
    let place = Place::take(plane).ok_or(Failure::client(Reason::TunnelLimit))?;
    hands
        .tell(plane, &request.connection.socket, Then::Open)
        .map_err(|_| Failure::begun(Reason::ClientGone))?;
    hands.told.status = last.status;
    hands.told.bytes += hands.reply.len() as u64;
    plane.lot.unwatch(request.connection);
    finish::praise(plane, &lease);
    let ends = Ends {
        connection: Arc::clone(request.connection),
        link,
        flows: Flows::new(
            Flow::new(&request.early[upload.early_used()..]),
            Flow::new(&hands.answer[last.here.0..last.here.1]),
        ),
        _lease: lease,
        place,
    };
    upload.takes_all_early(request.early.len());
    let number = plane.next_worker.fetch_add(1, Ordering::Relaxed);
    let builder = thread::Builder::new().name(format!("tunnel-{number}")).stack_size(STACK);
    builder.spawn(move || ends.run()).map_err(|_| Failure::begun(Reason::TunnelLimit))?;
    hands.shard(plane).count(Counter::Tunnels);
    Ok(Delivered { status: 101, client_keeps: false, tunnelled: true })
}

/// One of the places that `limits.tunnels` gives; free again when dropped.
struct Place(Arc<Plane>);

impl Place {
    fn take(plane: &Arc<Plane>) -> Option<Self> {
        let place = Place(Arc::clone(plane));
        let taken = plane.tunnels.fetch_add(1, Ordering::Relaxed);
        (taken < plane.config.limits.tunnels).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Both ends of a tunnel, and what is on its way between them.
struct Ends {
    connection: Arc<Connection>,
    link: Link,
    flows: Flows,
    _lease: Lease,
    place: Place,
}

impl Ends {
    fn run(mut self) {
        let plane = Arc::clone(&self.place.0);
        let (client, server) = (&self.connection.socket, &self.link.socket);
        while !self.flows.is_over() {
            if let Err(error) = self.flows.step(client, server, plane.config.timeouts.tunnel) {
                log::debug!("{}: a tunnel ends: {error}", plane.name);
                break;
            }
        }
        let shard = plane.stats.shard(0);
        shard.add(Counter::BytesIn, self.flows.upward.passed);
        shard.add(Counter::BytesOut, self.flows.downward.passed);
        close::now(&plane, &self.connection);
    }
}

/// Both directions of a tunnel.
struct Flows {
    /// From the client to the server.
    upward: Flow,
    /// From the server to the client.
    downward: Flow,
    /// When a byte was last received or sent, in either direction.
    moved_at: Moment,
}

impl Flows {
    fn new(upward: Flow, downward: Flow) -> Self {
        Flows { upward, downward, moved_at: time::now() }
    }

    /// Neither direction has anything left to do.
    fn is_over(&self) -> bool {
        self.upward.is_over() && self.downward.is_over()
    }

    /// One wait, and what it allows to be moved. `TimedOut` when no byte moved for `idle`, whatever was polled
    /// meanwhile; other errors when a side was reset and all that it had sent has been passed on.
    fn step(&mut self, client: &Socket, server: &Socket, idle: Duration) -> io::Result<()> {
        let deadline = self.moved_at.after(idle);
        let at_client = want(&self.upward, &self.downward);
        let at_server = want(&self.downward, &self.upward);
        let [client_found, server_found] = wait(client, at_client, server, at_server, deadline)?;
        // Such a side is polled only to learn that nothing can be sent to it any more.
        if at_client == Some(Want::Nothing) && client_found.gone {
            self.downward.abandon();
        }
        if at_server == Some(Want::Nothing) && server_found.gone {
            self.upward.abandon();
        }
        let up = self.upward.flow((client, client_found), server)?;
        let down = self.downward.flow((server, server_found), client)?;
        let now = time::now();
        match up || down {
            true => self.moved_at = now,
            false if now >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            false => {}
        }
        Ok(())
    }
}

/// What a side is polled for, given the direction that it feeds and the one that ends there. `None`: it has nothing
/// left to do. It must be left out then, as poll reports an end or an error at once, each time, whether asked or not.
fn want(from: &Flow, to: &Flow) -> Option<Want> {
    match (from.reads(), to.writes()) {
        (true, true) => Some(Want::Either),
        (true, false) => Some(Want::Read),
        (false, true) => Some(Want::Write),
        (false, false) if to.is_over() => None,
        (false, false) => Some(Want::Nothing),
    }
}

fn wait(
    client: &Socket,
    at_client: Option<Want>,
    server: &Socket,
    at_server: Option<Want>,
    deadline: Moment,
) -> io::Result<[Found; 2]> {
    let none = Found::default();
    match (at_client, at_server) {
        (Some(one), Some(two)) => socket::wait_both((client, one), (server, two), deadline),
        (Some(one), None) => socket::wait(client, one, deadline).map(|found| [found, none]),
        (None, Some(two)) => socket::wait(server, two, deadline).map(|found| [none, found]),
        (None, None) => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// One direction: bytes that were read and not written yet.
struct Flow {
    buffer: Vec<u8>,
    from: usize,
    passed: u64,
    /// The source said that no more will come.
    ended: bool,
    /// The sink has been told.
    told: bool,
}

impl Flow {
    fn new(early: &[u8]) -> Self {
        Flow { buffer: early.to_vec(), from: 0, passed: 0, ended: false, told: false }
    }

    fn reads(&self) -> bool {
        !self.ended && !self.writes()
    }

    fn writes(&self) -> bool {
        self.from < self.buffer.len()
    }

    fn is_over(&self) -> bool {
        self.told
    }

    /// The sink takes no more. What it has sent itself may still be passed on the other way.
    fn abandon(&mut self) {
        (self.from, self.ended, self.told) = (self.buffer.len(), true, true);
    }

    /// Moves what can be moved now. Whether a byte was. An error is the source's.
    fn flow(&mut self, source: (&Socket, Found), sink: &Socket) -> io::Result<bool> {
        let received = self.reads() && source.1.read && self.receive(source.0)?;
        let sent = self.writes() && self.send(sink);
        if self.ended && !self.writes() && !self.told {
            // Half-close: the other direction may go on.
            sink.finish_writing();
            self.told = true;
        }
        Ok(received || sent)
    }

    fn receive(&mut self, source: &Socket) -> io::Result<bool> {
        self.buffer.resize(BUFFER, 0);
        self.from = 0;
        let count = match source.recv_now(&mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            got => Some(got?),
        };
        self.ended = count == Some(0);
        self.buffer.truncate(count.unwrap_or(0));
        Ok(self.writes())
    }

    fn send(&mut self, sink: &Socket) -> bool {
        match sink.send_now(&self.buffer[self.from..], Then::Open) {
            Ok(count) => {
                self.from += count;
                self.passed += count as u64;
                count > 0
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.abandon();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    /// Longer than any of these tests may take.
    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(1_000);
    /// A tunnel that spins makes some 100,000 steps in the shortest of these tests.
    const STEPS_MAX: u32 = 100;

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        far.set_read_timeout(Some(LONG)).unwrap();
        (Socket::from(OwnedFd::from(listener.accept().unwrap().0)), far)
    }

    fn reset(stream: TcpStream) {
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }

    /// Sends until the tunnel and both kernels take no more.
    fn fill(stream: &mut TcpStream) {
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        while stream.write(&[7; 1 << 16]).is_ok() {}
    }

    fn is_at_end(stream: &mut TcpStream) -> bool {
        matches!(stream.read(&mut [0; 64]), Ok(0))
    }

    /// Runs a tunnel while the peers (client, then server) do what they do: it must end within `idle` and a little,
    /// by time or not as `times_out` says (`None`: either), and in few steps. What the peers still have is returned with them.
    fn check<T>(idle: Duration, times_out: Option<bool>, peers: impl FnOnce(TcpStream, TcpStream) -> T) -> T {
        let ((client, far_client), (server, far_server)) = (pair(), pair());
        let tunnel = thread::spawn(move || {
            let mut flows = Flows::new(Flow::new(b""), Flow::new(b""));
            let mut steps = 0;
            let mut end = Ok(());
            while !flows.is_over() && end.is_ok() && steps < 100_000 {
                end = flows.step(&client, &server, idle);
                steps += u32::from(end.is_ok() && time::now() > flows.moved_at.after(SHORT / 4));
            }
            (steps, end.map_err(|error| error.kind()))
        });
        let left = peers(far_client, far_server);
        let (steps, end) = tunnel.join().unwrap();
        assert!(steps < STEPS_MAX, "{steps} steps in which nothing moved");
        let timed_out = end == Err(io::ErrorKind::TimedOut);
        assert!(times_out.is_none_or(|expected| expected == timed_out), "{end:?}");
        left
    }

    #[test]
    fn it_ends_when_the_client_sends_to_a_server_that_has_closed() {
        check(LONG, Some(false), |mut client, mut server| {
            server.write_all(b"bye").unwrap();
            drop(server);
            client.read_exact(&mut [0; 3]).unwrap();
            assert!(is_at_end(&mut client));
            // The server's kernel answers this with a reset.
            client.write_all(b"bye").unwrap();
            client
        });
    }

    #[test]
    fn it_ends_when_a_client_that_half_closed_resets_while_the_server_is_silent() {
        check(LONG, Some(false), |client, mut server| {
            client.shutdown(Shutdown::Write).unwrap();
            assert!(is_at_end(&mut server));
            reset(client);
            server
        });
    }

    #[test]
    fn it_ends_when_the_server_resets_while_the_client_is_silent() {
        check(LONG, Some(false), |client, server| {
            reset(server);
            client
        });
    }

    #[test]
    fn it_ends_when_both_have_half_closed() {
        check(LONG, Some(false), |mut client, mut server| {
            client.shutdown(Shutdown::Write).unwrap();
            assert!(is_at_end(&mut server));
            server.write_all(b"last").unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            client.read_exact(&mut [0; 4]).unwrap();
            assert!(is_at_end(&mut client));
            (client, server)
        });
    }

    #[test]
    fn a_side_that_takes_nothing_is_given_up_after_the_idle_time_however_the_other_ended() {
        check(SHORT, Some(true), |client, mut server| {
            fill(&mut server);
            server.shutdown(Shutdown::Write).unwrap();
            (client, server)
        });
        // The reset is seen first where the client's kernel finds room for the rest after all.
        check(SHORT, None, |client, mut server| {
            fill(&mut server);
            reset(server);
            client
        });
        // Both have ended, and poll reports a hang-up at the server each time.
        check(SHORT, Some(true), |client, mut server| {
            client.shutdown(Shutdown::Write).unwrap();
            assert!(is_at_end(&mut server));
            fill(&mut server);
            server.shutdown(Shutdown::Write).unwrap();
            (client, server)
        });
        check(SHORT, Some(true), |mut client, server| {
            fill(&mut client);
            client.shutdown(Shutdown::Write).unwrap();
            (client, server)
        });
    }

    #[test]
    fn silence_of_both_ends_it_after_the_idle_time() {
        check(SHORT, Some(true), |client, server| (client, server));
    }

    #[test]
    fn what_a_server_sent_last_arrives_though_it_takes_no_more() {
        let ((client, mut far_client), (server, mut far_server)) = (pair(), pair());
        let mut flows = Flows::new(Flow::new(b"one"), Flow::new(b""));
        far_server.write_all(b"last words").unwrap();
        // Bytes that it has not read make its close a reset.
        flows.upward.flow((&client, Found::default()), &server).unwrap();
        far_server.peek(&mut [0]).unwrap();
        drop(far_server);
        flows.upward = Flow::new(b"two");
        while !flows.is_over() && flows.step(&client, &server, LONG).is_ok() {}
        drop((client, server));
        let mut seen = Vec::new();
        let _ = far_client.read_to_end(&mut seen);
        assert_eq!(seen, b"last words");
    }
}
