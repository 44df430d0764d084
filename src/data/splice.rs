//! Step 8, for long bodies: bytes pass from socket to socket through a pipe, by splice(2), and are never copied into
//! this process. It pays from [`LONG`] bytes on; a worker keeps its pipe for the next time. Only a body whose length
//! was told goes this way: a chunked one is read and framed anew.

use super::socket::Socket;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;

/// With less than this to come, a copy costs no more.
pub const LONG: u64 = 256 * 1024;

/// How much a pipe holds, where the operating system gives so much; it gives 64 KiB in any case.
const SIZE: usize = 256 * 1024;

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
        // What a user may have in pipes is bounded; a small pipe does as well.
        let _ = fcntl_setpipe_size(&into, SIZE);
        Ok(Pipe { out, into, held: 0 })
    }

    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes at most `most` bytes from a socket into the empty pipe; 0 when the peer closed. Waits for the socket's
    /// slice, as a receive does: `WouldBlock` when nothing came.
    pub fn fill(&mut self, from: &Socket, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(SIZE);
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
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = Socket::from(OwnedFd::from(listener.accept().unwrap().0));
        near.set_slice(Duration::from_millis(1)).unwrap();
        (far, near)
    }

    #[test]
    fn what_comes_in_goes_out_and_an_end_is_an_end() {
        let ((mut client, from), (mut server, to)) = (pair(), pair());
        let mut pipe = Pipe::new().unwrap();
        assert_eq!(pipe.fill(&from, 9).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"twelve bytes").unwrap();
        while pipe.held() < 6 {
            pipe.fill(&from, 6 - pipe.held() as u64).unwrap();
        }
        while pipe.held() > 0 {
            pipe.empty(&to).unwrap();
        }
        let mut seen = [0; 6];
        server.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"twelve", "no more than was asked for");
        drop(client);
        assert_eq!(pipe.fill(&from, 6).unwrap(), 6);
        assert_eq!(pipe.fill(&from, 6).unwrap(), 0);
    }
}
