//! The two transfers of a request: its body from the client, and the whole request to tiny_http and its response back.

use super::Limits;
use crate::http1::body::Body;
use crate::http1::reason::Reason;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::OwnedFd;

/// A body that is being read.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) path: String,
    pub(super) head_only: bool,
    pub(super) head: Vec<u8>,
    pub(super) body: Body,
    pub(super) kept: Vec<u8>,
    pub(super) length: u64,
}

/// A request at tiny_http.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) socket: OwnedFd,
    pub(super) request: Vec<u8>,
    pub(super) sent: usize,
    pub(super) response: Vec<u8>,
}

impl Incoming {
    /// Takes the body from the input. Returns true if it is complete.
    pub(super) fn take(&mut self, input: &mut Vec<u8>, limits: &Limits) -> Result<bool, Reason> {
        let mut used = 0;
        while used < input.len() && !self.body.is_done() {
            let step = self.body.step(&input[used..])?;
            self.length += step.data.len() as u64;
            if self.length > limits.body_max {
                return Err(Reason::BodyTooLarge);
            }
            if limits.keeps_bodies {
                self.kept.extend_from_slice(step.data);
            }
            if step.consumed == 0 {
                break;
            }
            used += step.consumed;
        }
        input.drain(..used);
        Ok(self.body.is_done())
    }
}

impl Behind {
    /// Returns true if the response has ended.
    pub(super) fn relay(&mut self, scratch: &mut [u8]) -> Result<bool, Errno> {
        while self.sent < self.request.len() {
            match send(&self.socket, &self.request[self.sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match recv(&self.socket, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(true),
                Ok((count, _)) => self.response.extend_from_slice(&scratch[..count]),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
