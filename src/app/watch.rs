//! The thread that reloads by itself: when files change that the configuration names (networks, users, pages), and with
//! `watch` when a file of the configuration changes.

use super::reload::{Reloader, Scope};
use super::{Error, spawn};
use crate::state::stamp::{Stamp, Stamped, stamp};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The name of the thread.
const THREAD: &str = "watch";
/// Between two looks. A change is taken up when two looks in a row have found the same, so that a file which is being
/// written is mostly read when it is whole; one that is read too early is not valid, changes nothing, and is read again.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Ends the thread when it is dropped.
#[derive(Debug)]
pub(super) struct Handle {
    _stop: Sender<()>,
}

/// Starts the thread.
pub(super) fn start(reloader: &Arc<Reloader>) -> Result<(Handle, JoinHandle<()>), Error> {
    let (stop, stopped) = bounded(0);
    let reloader = Arc::clone(reloader);
    let run = move || {
        let (mut file, mut contents) = (Looks::default(), Looks::default());
        while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            for (scope, looks) in [(Scope::File, &mut file), (Scope::Contents, &mut contents)] {
                let is_due = reloader.tried(scope).is_some_and(|tried| looks.is_due(&tried, stamp));
                if is_due {
                    reloader.run_by_itself(scope);
                }
            }
        }
    };
    Ok((Handle { _stop: stop }, spawn(THREAD, run)?))
}

/// What the last look has found.
#[derive(Debug, Default)]
struct Looks {
    last: Vec<Stamped>,
}

impl Looks {
    /// Looks at the files: whether they are others than those that were tried, and have been as they are for one interval.
    fn is_due(&mut self, tried: &[Stamped], look: impl Fn(&Path) -> Stamp) -> bool {
        let now: Vec<Stamped> =
            tried.iter().map(|file| Stamped { path: file.path.clone(), stamp: look(&file.path) }).collect();
        let is_settled = self.last == now;
        self.last.clone_from(&now);
        is_settled && now != tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sizes of a file at successive looks, and at which of them it is read.
    fn check(sizes: &[Option<u64>], expected: &[usize]) {
        let of = |size: Option<u64>| size.map(|size| (size, 0, [0; 2], [0; 2]));
        let mut tried = [Stamped { path: "c.json".into(), stamp: of(Some(1)) }];
        let (mut looks, mut read) = (Looks::default(), Vec::new());
        for (at, size) in sizes.iter().enumerate() {
            if looks.is_due(&tried, |_| of(*size)) {
                tried[0].stamp = of(*size);
                read.push(at);
            }
        }
        assert_eq!(read, expected, "{sizes:?}");
    }

    #[test]
    fn a_change_is_read_once_and_only_when_it_has_settled() {
        let (a, b, c) = (Some(1), Some(2), Some(3));
        check(&[a, a, a], &[]);
        check(&[a, b, b, b], &[2]);
        check(&[a, b, c, b, c, c, c], &[5]);
        check(&[b, b, a, a], &[1, 3]);
        check(&[a, None, a, a], &[]);
        check(&[a, None, None, b, b], &[2, 4]);
        check(&[a, b, a, a], &[]);
    }
}
