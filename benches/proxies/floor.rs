//! The floor: a forwarder that parses nothing, as its own process with one thread.
//!
//! Each client connection has its own connection to the server, and each request takes the four socket calls that no
//! proxy can do without: read from the client, write to the server, read from the server, write to the client. So its
//! processor time per request is what a proxy pays before it does anything. It is for small exchanges: a peer that
//! does not accept all bytes at once loses its connection.

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

const LISTENER: Token = Token(usize::MAX);
const BUFFER: usize = 16 << 10;
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A client's connection, and its own to the server.
type Pair = [TcpStream; 2];

/// Forwards until it is ended by a signal. The file has the address to listen on and that of the server.
pub fn serve(file: &str) -> Result<(), String> {
    let cannot = |error: &dyn Display| format!("the floor cannot start: {error}");
    let text = std::fs::read_to_string(file).map_err(|error| cannot(&error))?;
    let mut addresses = text.split_whitespace().map(str::parse::<SocketAddr>);
    let (Some(Ok(own)), Some(Ok(server))) = (addresses.next(), addresses.next()) else {
        return Err(cannot(&"two addresses are needed"));
    };
    run(own, server).map_err(|error| cannot(&error))
}

fn run(own: SocketAddr, server: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(own)?;
    // The default backlog of 128 is too short for a thousand clients at once.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    let mut pairs: Slab<Pair> = Slab::with_capacity(1024);
    let mut buffer = vec![0; BUFFER];
    let mut events = Events::with_capacity(512);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, server, &poll, &mut pairs);
                continue;
            }
            let (index, side) = (event.token().0 / 2, event.token().0 % 2);
            let Some(pair) = pairs.get_mut(index) else { continue };
            let moved = forward(pair, side, event.is_read_closed(), &mut buffer);
            if moved.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                pairs.remove(index);
            }
        }
    }
}

/// Accepts all waiting clients; one whose server cannot be reached is closed.
fn accept(listener: &TcpListener, server: SocketAddr, poll: &Poll, pairs: &mut Slab<Pair>) {
    while let Ok((client, _)) = listener.accept() {
        let Ok(server) = TcpStream::connect(server) else { continue };
        let entry = pairs.vacant_entry();
        let pair = [client, server];
        let ready = |side: usize| -> io::Result<()> {
            pair[side].set_nodelay(true)?;
            pair[side].set_nonblocking(true)?;
            let token = Token(entry.key() * 2 + side);
            poll.registry().register(&mut SourceFd(&pair[side].as_raw_fd()), token, Interest::READABLE)
        };
        if ready(CLIENT).and_then(|()| ready(SERVER)).is_ok() {
            entry.insert(pair);
        }
    }
}

/// Forwards what one side has sent. A read that does not fill the buffer has emptied the socket; only the end of the
/// connection may follow it.
fn forward(pair: &mut Pair, side: usize, closing: bool, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let count = pair[side].read(buffer)?;
        // A write that would block is an error here, unlike a read.
        let written = if count == 0 { 0 } else { pair[1 - side].write(&buffer[..count]).unwrap_or(0) };
        if count == 0 || written < count {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if count < buffer.len() && !closing {
            return Ok(());
        }
    }
}
