//! ureq over a connection that was made before. Its own connector cannot tell which address accepted it and knows no Unix
//! sockets, and its own resolver starts a thread for each call.

use super::SHORTEST;
use super::connection::{self, Channel};
use crate::base::time::{self, Moment};
use parking_lot::Mutex;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};

/// For a Unix socket, which needs no address.
pub const NO_ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));

/// An agent for one request over this connection to this address, whatever the name in its URL.
pub fn agent(config: Config, channel: Channel, address: SocketAddr) -> Agent {
    Agent::with_parts(config, Connected(Mutex::new(Some(channel))), Pinned(address))
}

/// Returns the one address, whatever the name.
#[derive(Debug)]
struct Pinned(SocketAddr);

impl Resolver for Pinned {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

/// Returns the one connection, once.
#[derive(Debug)]
struct Connected(Mutex<Option<Channel>>);

impl Connector for Connected {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, Error> {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(self.0.lock().take().map(|stream| Connection { stream, buffers }))
    }
}

#[derive(Debug)]
struct Connection {
    stream: Channel,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let sent = self.stream.write_all(&self.buffers.output()[..amount], deadline(timeout));
        sent.map_err(|error| late(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let received = self.stream.read(self.buffers.input_append_buf(), deadline(timeout));
        let count = received.map_err(|error| late(error, timeout))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Never called: no connection is kept.
        false
    }
}

fn late(error: io::Error, timeout: NextTimeout) -> Error {
    if connection::is_late(&error) { Error::Timeout(timeout.reason) } else { Error::Io(error) }
}

fn deadline(timeout: NextTimeout) -> Option<Moment> {
    timeout.not_zero().map(|after| time::now().after((*after).max(SHORTEST)))
}
