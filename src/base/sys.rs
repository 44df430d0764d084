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

/// Leaves the choice of a port, which binding to port 0 makes, to `connect` (`IP_BIND_ADDRESS_NO_PORT`, ip(7)): a port then
/// serves connections to several places, and is not used up by one. Returns whether it worked; without it there are fewer.
pub fn choose_port_later(socket: &impl AsFd) -> bool {
    #[cfg(target_os = "linux")]
    {
        let on: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the call reads `size` bytes at `on`,
        // which outlives it.
        let done = unsafe {
            libc::setsockopt(
                fd,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size,
            )
        };
        done == 0
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        false
    }
}

/// Puts the calling thread under `SCHED_BATCH` (sched(7)): waking it does not preempt the thread that runs, so what it waits
/// for comes in batches where the processors are busy. Returns whether it worked; without it only time is lost.
pub fn schedule_as_batch() -> bool {
    #[cfg(target_os = "linux")]
    {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread, and the call only reads `parameters`, which outlive it.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_is_scheduled_as_batch_by_itself() {
        let policy = |name: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).unwrap();
            let after_name = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().nth(38));
            after_name.flatten().map(str::to_owned)
        };
        let there = std::thread::spawn(move || (super::schedule_as_batch(), policy("thread-self")));
        assert_eq!(there.join().unwrap(), (true, Some("3".to_owned())));
        assert_eq!(policy("thread-self").as_deref(), Some("0"), "no other thread is");
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
