//! Long bodies. A worker that has relayed one body for longer than a set time leaves the crew with it, as a
//! streamer: slow readers and slow uploads then cost a thread each, in a number of their own, and the
//! supervisor may hire in its place.

use super::Plane;
use super::socket::{self, Found, Socket, Want};
use crate::base::time::{self, Moment};
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// With no place free among the streamers, the worker asks again after this.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where a worker stands with the body it relays.
#[derive(Debug, Default)]
pub struct Stream {
    /// When it leaves the crew; `None` outside bodies and once it has left.
    leave_at: Option<Moment>,
    begun: Moment,
    left: bool,
}

impl Stream {
    /// A request begins, which is no body yet.
    pub fn rest(&mut self, now: Moment) {
        self.begun = now;
        self.leave_at = None;
    }

    /// A body begins.
    pub fn begin(&mut self, plane: &Plane, now: Moment) {
        self.leave_at = (!self.left).then(|| now.after(plane.config.timeouts.stream_after));
    }

    /// The body is over; what follows is a wait for the server's answer.
    pub fn pause(&mut self) {
        self.leave_at = None;
    }

    /// The worker is in the crew no more: it ends with its connection.
    pub fn has_left(&self) -> bool {
        self.left
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

    /// Waits for two sockets, and leaves the crew meanwhile when it is time.
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

    /// Its place is given back; the thread ends.
    pub fn end(&self, plane: &Plane) {
        if self.left {
            plane.streamers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn leave(&mut self, plane: &Plane, now: Moment) {
        let taken = plane.streamers.fetch_add(1, Ordering::Relaxed);
        if taken >= plane.config.limits.streamers {
            plane.streamers.fetch_sub(1, Ordering::Relaxed);
            self.leave_at = Some(now.after(ASK_AGAIN));
            return;
        }
        (self.left, self.leave_at) = (true, None);
        plane.crew.holds(now.since(self.begun));
        plane.crew.loses();
        log::debug!("{}: a worker leaves the crew with a long body, {} such now", plane.name, taken + 1);
    }
}
