//! Limits that the operating system sets for this process.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;
use std::sync::Arc;

/// Not among the constants of signal_hook.
const SIGXFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();

/// Raises the descriptor limit to its maximum: every connection needs a descriptor, and the usual soft limit is too low
/// for that. If that fails, the limit stays as it is.
pub fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the descriptor limit stays as it is: {error}");
    }
}

/// A file at the file size limit makes a write fail, as a full disk does; without this the signal `SIGXFSZ` would end
/// the process. It is caught rather than ignored, because child processes would inherit an ignored signal.
pub fn survive_full_files() {
    let told = Arc::default();
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, told) {
        log::debug!("a file at its limit of size would end the process: {error}");
    }
}

/// The most descriptors that this process may have; `usize::MAX` when there is no limit.
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}

/// Whether a socket could not be created because this process or this machine has run out of descriptors or memory,
/// independent of the peer.
pub fn is_exhausted(error: &io::Error) -> bool {
    is_out_of_descriptors(error) || Errno::from_io_error(error) == Some(Errno::ADDRNOTAVAIL)
}

/// Whether no socket could be created at all, whatever it was to be connected to.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    const OURS: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| OURS.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_our_own_shortage() {
        for (errno, expected) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::CONNREFUSED, false),
            (Errno::TIMEDOUT, false),
        ] {
            assert_eq!(is_exhausted(&errno.into()), expected, "{errno}");
        }
        assert!(!is_exhausted(&io::ErrorKind::NotFound.into()));
        assert!(is_out_of_descriptors(&Errno::MFILE.into()));
        assert!(!is_out_of_descriptors(&Errno::ADDRNOTAVAIL.into()), "another address may be had");
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_descriptors();
        let hard = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |limit| limit as usize);
        assert_eq!(descriptors(), hard);
    }
}
