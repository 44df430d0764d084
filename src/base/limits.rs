//! Limits that the operating system sets for this process.

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Not among the constants of signal_hook.
const SIGXFSZ: i32 = rustix::process::Signal::XFSZ.as_raw();

/// Descriptors that clients and their requests leave to all else, so that the admin API, probes, the log and a reload work
/// while clients use up the others. Half of them is for clients of the admin API: more than dashboards, scrapers and terminals have
/// open at once. The other half is for what responds to these (two connections to the library), for probes that come one after
/// the other where descriptors are short, and for files. All are within what the default of `limits.connections` sets aside.
const KEPT_DESCRIPTORS: usize = 32;
/// The part of a low limit that is kept, by that default as well: a quarter of the descriptors may be connections of clients.
const KEPT_PART: usize = 4;

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

/// What to do about an error, as the end of its sentence, where a limit of descriptors has caused it.
pub fn remedy(error: &io::Error) -> Option<&'static str> {
    let is_limit = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
    is_limit.then_some("; raise the limit of open files (`ulimit -n`, or LimitNOFILE of the unit)")
}

/// The most descriptors that this process may have; `usize::MAX` when there is no limit.
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}

/// Which descriptors a part of this process may take. The system gives the lowest number that is free: where that is one
/// of the last, the others are in use.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    end: RawFd,
}

impl Descriptors {
    /// All that there are.
    pub const ALL: Descriptors = Descriptors { end: RawFd::MAX };

    /// None: as if all were in use.
    #[cfg(test)]
    pub const NONE: Descriptors = Descriptors { end: 0 };

    /// Those for clients: all but those that are kept.
    pub fn for_clients() -> Self {
        Self::without(descriptors(), 1)
    }

    /// Those for clients of the admin API: they leave half of what is kept, for what serves them.
    pub fn for_admin_clients() -> Self {
        Self::without(descriptors(), 2)
    }

    /// Of so many, all without a part of those that are kept.
    fn without(limit: usize, part: usize) -> Self {
        let kept = KEPT_DESCRIPTORS.min(limit / KEPT_PART) / part;
        Descriptors { end: RawFd::try_from(limit - kept).unwrap_or(RawFd::MAX) }
    }

    /// Whether this one is left to others.
    pub fn are_exceeded_by(self, descriptor: RawFd) -> bool {
        descriptor >= self.end
    }

    /// A shortage of descriptors, if this one is left to others.
    pub fn check(self, descriptor: RawFd) -> io::Result<()> {
        if self.are_exceeded_by(descriptor) { Err(Errno::MFILE.into()) } else { Ok(()) }
    }
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
    fn clients_leave_descriptors_to_all_else() {
        // The limit, and what clients of requests and of the admin API may have of it.
        for (limit, clients, admin) in [(64, 48, 56), (256, 224, 240), (20_000, 19_968, 19_984)] {
            for (part, end) in [(1, clients), (2, admin)] {
                let bound = Descriptors::without(limit, part);
                assert!(bound.check(end - 1).is_ok(), "{limit}");
                assert!(is_out_of_descriptors(&bound.check(end).unwrap_err()), "{limit}");
            }
        }
        assert!(!Descriptors::without(usize::MAX, 1).are_exceeded_by(RawFd::MAX - 1), "no limit");
        assert!(!Descriptors::ALL.are_exceeded_by(RawFd::MAX - 1));
    }

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
