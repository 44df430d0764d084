//! The one room of `unsafe`: calls of the operating system that no safe crate offers.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

/// Puts the calling thread under `SCHED_BATCH`, so that a wake-up does not pre-empt the thread that caused
/// it. Measured: without it the cost of a request doubles at 256 connections. Says whether it worked;
/// where it does not exist (macOS) nothing is lost but that.
pub fn schedule_as_batch() -> bool {
    #[cfg(target_os = "linux")]
    {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: pid 0 is the calling thread, and `param` outlives the call, which only reads it.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// Lets the kernel hold at most about so many bytes of a TCP socket that were not sent yet (`TCP_NOTSENT_LOWAT`, in
/// tcp(7) by name only): a peer that does not read then costs this much instead of megabytes, and its bytes are not
/// copied before their time. Accepted sockets inherit it from their listener. Says whether it worked; nothing is
/// lost without it but memory.
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
    fn a_thread_can_be_put_under_batch_scheduling() {
        assert!(std::thread::spawn(super::schedule_as_batch).join().unwrap());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn unsent_bytes_can_be_bounded_on_tcp_alone() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(super::hold_unsent(&tcp, 65_536));
        let (unix, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!super::hold_unsent(&unix, 65_536));
    }
}
