//! Layer 0, for long bodies: bytes pass from socket to socket through a pipe, by splice(2), and are never copied into
//! this process. Only a body whose length is known goes this way: a chunked one is read and framed again.

use super::buffers::TURN_BYTES;
use super::socket::Socket;
use crate::base::limits::Descriptors;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;
use std::os::fd::AsRawFd;

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    held: usize,
}

impl Pipe {
    /// An empty one. The error is the operating system's: no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // What a user may have in pipes is bounded; a pipe of 64 KiB, the least, does as well.
        let _ = fcntl_setpipe_size(&into, TURN_BYTES);
        Ok(Pipe { out, into, held: 0 })
    }

    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes at most `most` bytes from a socket into the empty pipe; 0 when the peer has ended its stream.
    /// `WouldBlock` when nothing is there.
    pub fn fill(&mut self, from: &Socket, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(TURN_BYTES);
        let count = spliced(|| splice(from, None, &self.into, None, most, SpliceFlags::NONBLOCK))?;
        self.held += count;
        Ok(count)
    }

    /// Gives what it holds to a socket, as far as that has room: `WouldBlock` when it has none.
    pub fn empty(&mut self, to: &Socket) -> io::Result<usize> {
        let count = spliced(|| splice(&self.out, None, to, None, self.held, SpliceFlags::NONBLOCK))?;
        self.held = self.held.saturating_sub(count);
        Ok(count)
    }
}

/// Pipes that are kept for the next long bodies: long ones are few at once, and a pipe costs two descriptors.
const PIPES_KEPT: usize = 4;

/// A worker's empty pipes.
#[derive(Debug)]
pub struct Pipes {
    empty: Vec<Pipe>,
    descriptors: Descriptors,
}

impl Pipes {
    /// None yet; later ones take these descriptors.
    pub fn new(descriptors: Descriptors) -> Self {
        Pipes { empty: Vec::new(), descriptors }
    }

    /// Whether there is an empty pipe, which is made if need be. False where there are no descriptors for one: then bodies are
    /// copied.
    pub fn has_one(&mut self) -> bool {
        if self.empty.is_empty() {
            let may_be = |pipe: &Pipe| !self.descriptors.are_exceeded_by(pipe.into.as_raw_fd());
            self.empty.extend(Pipe::new().ok().filter(may_be));
        }
        !self.empty.is_empty()
    }

    /// An empty pipe, if [`Pipes::has_one`].
    pub fn take(&mut self) -> Option<Pipe> {
        if self.has_one() { self.empty.pop() } else { None }
    }

    /// Keeps a pipe for the next body, if it is empty.
    pub fn give(&mut self, pipe: Pipe) {
        if pipe.held() == 0 && self.empty.len() < PIPES_KEPT {
            self.empty.push(pipe);
        }
    }
}

fn spliced(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = Socket::connect(&listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, near)
    }

    #[test]
    fn what_comes_in_goes_out_and_an_end_is_an_end() {
        let ((mut source, from), (mut sink, to)) = (pair(), pair());
        let mut pipe = Pipe::new().unwrap();
        assert_eq!(pipe.fill(&from, 8).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        source.write_all(b"0123456789").unwrap();
        while pipe.held() == 0 {
            let _ = pipe.fill(&from, 4);
        }
        assert_eq!(pipe.held(), 4, "no more than was asked for");
        assert_eq!(pipe.empty(&to).unwrap(), 4);
        let mut got = [0; 4];
        sink.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"0123");
        drop(source);
        while pipe.fill(&from, 100).unwrap_or(1) != 0 {}
        assert_eq!(pipe.held(), 6, "what was there comes before the end");
    }
}
