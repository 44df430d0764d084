//! The only module with `unsafe`: calls of the operating system that no safe crate offers.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

/// Limits the unsent bytes that the kernel holds for a TCP socket (`TCP_NOTSENT_LOWAT`, mentioned in tcp(7) by name
/// only): a peer that does not read then costs this much instead of megabytes, and its bytes are not copied too early.
/// Accepted sockets inherit it from their listener. Returns whether it worked; without it only memory is lost.
pub fn hold_unsent(socket: &impl AsFd, bytes: u32) -> bool {
    #[cfg(target_os = "linux")]
    {
        let size = size_of::<u32>() as libc::socklen_t;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the call reads `size` bytes at
        // `bytes`, which outlives it.
        let done = unsafe {
            libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, (&raw const bytes).cast(), size)
        };
        done == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, bytes);
        false
    }
}

#[cfg(test)]
mod tests {

    #[test]
    #[cfg(target_os = "linux")]
    fn unsent_bytes_can_be_bounded_on_tcp_alone() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(super::hold_unsent(&tcp, 65_536));
        let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!super::hold_unsent(&unix, 65_536));
    }
}
