//! Long bodies, slow clients and servers that do not take a connection. A worker that has relayed one body for longer
//! than a set time leaves the crew with it, as a streamer; one whose client makes it wait, or that waits to connect,
//! leaves as soon as others wait for a worker. Each then costs a thread, in a number of their own, and the supervisor
//! may hire in its place. When all those places are taken, the clients that move next to nothing give theirs up.

use super::Plane;
use super::socket::{self, Found, Socket, Want};
use crate::base::time::{self, Moment};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// With no place free among the streamers, the worker asks again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Who makes a worker wait for longer than this is slow, which matters when others wait for a worker. A thread more
/// costs less than this wait.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long a slow client is waited for before a worker looks again whether others wait.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// When places among the streamers run out, a client must have moved so many bytes a second since its body began…
const LEAST_PER_SECOND: u64 = 1024;
/// …once it has had this time to begin.
const GRACE: Duration = Duration::from_secs(5);

/// Where a worker stands with the body it relays.
#[derive(Debug, Default)]
pub struct Stream {
    /// When it leaves the crew; `None` outside bodies and once it has left.
    leave_at: Option<Moment>,
    begun: Moment,
    /// How long the client, or connecting, made the worker wait since then, or nobody waited: no work of ours.
    waited: Duration,
    body_begun: Moment,
    /// Bytes of the body that the client took or gave.
    moved: u64,
    left: bool,
}

impl Stream {
    /// A request begins, which is no body yet.
    pub fn rest(&mut self, now: Moment) {
        self.begun = now;
        self.waited = Duration::ZERO;
        self.leave_at = None;
    }

    /// A body begins.
    pub fn begin(&mut self, plane: &Plane, now: Moment) {
        (self.body_begun, self.moved) = (now, 0);
        self.leave_at = (!self.left).then(|| now.after(plane.config.timeouts.stream_after));
    }

    /// The body is over; what follows is a wait for the server's answer.
    pub fn pause(&mut self) {
        self.leave_at = None;
    }

    /// The client took or gave so many bytes of the body.
    pub fn moves(&mut self, bytes: usize) {
        self.moved += bytes as u64;
    }

    /// The request was away for so long, which held nobody.
    pub fn was_away(&mut self, time: Duration) {
        self.waited += time;
    }

    /// The part of this request's time that says nothing of how much work it was.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The worker is in the crew no more, until its connection is done with.
    pub fn has_left(&self) -> bool {
        self.left
    }

    /// The worker took its notice, and has only to end what it has sent ahead: who was counted out is not counted out
    /// again, whatever the bodies that come.
    pub fn takes_notice(&mut self) {
        (self.left, self.leave_at) = (true, None);
    }

    /// Between two pieces of a body that never makes it wait.
    pub fn look(&mut self, plane: &Plane) {
        if let Some(at) = self.leave_at {
            let now = time::now();
            if now >= at {
                self.leave(plane, now);
            }
        }
    }

    /// Waits for two sockets, the server's first, and leaves the crew meanwhile when it is time.
    pub fn wait(
        &mut self,
        plane: &Plane,
        one: (&Socket, Want),
        two: (&Socket, Want),
        limit: Duration,
    ) -> io::Result<[Found; 2]> {
        let deadline = time::now().after(limit);
        loop {
            let until = self.leave_at.map_or(deadline, |at| at.min(deadline));
            match socket::wait_both(one, two, until) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && until < deadline => self.look(plane),
                found => return found,
            }
        }
    }

    /// Waits for a client in the middle of a body, and for the server beside it. `TimedOut` also when the client is
    /// one of those that must go.
    pub fn wait_for_client(
        &mut self,
        plane: &Plane,
        client: (&Socket, Want),
        server: (&Socket, Want),
        limit: Duration,
    ) -> io::Result<[Found; 2]> {
        let mut now = time::now();
        let deadline = now.after(limit);
        let mut pause = PATIENCE;
        loop {
            let until = now.after(if self.left { ASK_AGAIN } else { pause }).min(deadline);
            // While nobody waits for a worker, a slow client is not worth a look every moment.
            pause = (pause * 2).min(LONGEST_PAUSE);
            let found = socket::wait_both(client, server, until);
            let before = std::mem::replace(&mut now, time::now());
            self.waited += now.since(before);
            match found {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && until < deadline => {}
                found => return found,
            }
            self.yields(plane, now)?;
        }
    }

    /// Waits for a connection to a server to come about, and leaves the crew meanwhile when others wait.
    pub fn wait_to_connect(&mut self, plane: &Plane, server: &Socket, limit: Duration) -> io::Result<()> {
        let deadline = time::now().after(limit);
        loop {
            let until = if self.left { deadline } else { time::now().after(PATIENCE).min(deadline) };
            match socket::wait(server, Want::Write, until) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && until < deadline => {}
                found => return found.map(drop),
            }
            let now = time::now();
            self.waited += PATIENCE;
            if !self.left && plane.is_short_of_workers() {
                self.leave(plane, now);
            }
        }
    }

    /// The client is slow. Who waits for a worker is not to wait for this one.
    fn yields(&mut self, plane: &Plane, now: Moment) -> io::Result<()> {
        let is_due = self.leave_at.is_some_and(|at| now >= at);
        if !self.left && (is_due || plane.is_short_of_workers()) {
            self.leave(plane, now);
        }
        if plane.is_full_of_streamers() && self.is_too_slow(now) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn is_too_slow(&self, now: Moment) -> bool {
        let age = now.since(self.body_begun);
        age >= GRACE && self.moved / age.as_secs().max(1) < LEAST_PER_SECOND
    }

    /// The connection is done with: its place is given back, and the worker returns to the crew if that has room.
    pub fn returns(&mut self, plane: &Plane) -> bool {
        plane.streamers.fetch_sub(1, Ordering::Relaxed);
        self.left = plane.is_draining() || !plane.crew.takes_back(plane.config.threadpool.bounds.max);
        !self.left
    }

    fn leave(&mut self, plane: &Plane, now: Moment) {
        let taken = plane.streamers.fetch_add(1, Ordering::Relaxed);
        if taken >= plane.config.limits.streamers {
            plane.streamers.fetch_sub(1, Ordering::Relaxed);
            self.leave_at = Some(now.after(ASK_AGAIN));
            return;
        }
        (self.left, self.leave_at) = (true, None);
        let held = now.since(self.begun).saturating_sub(self.waited);
        plane.crew.holds(held, held);
        plane.crew.loses();
        log::debug!("{}: a worker leaves the crew with a long body, {} such now", plane.name, taken + 1);
    }
}
