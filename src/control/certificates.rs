//! The thread that reads certificates again when their files have changed, and warns before they expire.

use crate::base::time::{self, Moment};
use crate::state::table::Table;
use crate::state::tls::listener::{Expiry, ListenerTls, Look};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The name of the thread.
pub const THREAD: &str = "certificates";
/// Between two looks at the files: renewals are not urgent, but whoever makes one wants to see it work.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const DAY: i64 = 24 * 3600;
/// Between two warnings of one certificate.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The state of the thread.
#[derive(Debug)]
pub struct Watcher {
    table: Arc<Table>,
    /// By file and name, when.
    warned: HashMap<(PathBuf, String), Moment>,
    stop: Receiver<()>,
}

/// Stops the thread when it is dropped.
#[derive(Debug)]
pub struct Handle {
    _stop: Sender<()>,
}

impl Watcher {
    /// A watcher of the certificates of this table's configuration.
    pub fn new(table: Arc<Table>) -> (Self, Handle) {
        let (stop, stopped) = bounded(0);
        (Watcher { table, warned: HashMap::new(), stop: stopped }, Handle { _stop: stop })
    }

    /// Looks at the files every few seconds until the handle is dropped.
    pub fn run(mut self) {
        loop {
            let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
            self.look(now);
            self.warn(now, time::now());
            if self.stop.recv_timeout(LOOK_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    fn listeners(&self) -> Vec<Arc<ListenerTls>> {
        self.table.live().listeners.iter().filter_map(|listener| listener.tls.clone()).collect()
    }

    fn look(&self, now: i64) {
        for listener in self.listeners() {
            match listener.look(now) {
                Look::Same => {}
                Look::Renewed => log::info!("listener {}: the certificates were read again", listener.name),
                Look::Kept(problems) => {
                    for problem in problems {
                        log::error!(
                            "listener {}: {}: {}; the certificates that were read before stay in use",
                            listener.name,
                            problem.key,
                            problem.advice
                        );
                    }
                }
            }
        }
    }

    fn warn(&mut self, unix_now: i64, now: Moment) {
        for listener in self.listeners() {
            let place = format!("listener {}", listener.name);
            self.warn_of(&place, "clients", listener.expiries(), listener.lists(), (unix_now, now));
            for doubt in listener.doubts() {
                self.warn_once_a_day(
                    (PathBuf::from(doubt.key), doubt.advice.clone()),
                    &place,
                    &doubt.advice,
                    now,
                );
            }
        }
        // Their files are read again by a reload.
        let live = self.table.live();
        for tls in live.config.pool_ids().filter_map(|pool| live.servers_tls(pool)) {
            let certificate = tls.certificate.iter().cloned().collect();
            let place = format!("pool {}", tls.pool);
            self.warn_of(&place, "servers", certificate, tls.lists.clone(), (unix_now, now));
        }
    }

    /// Warns of certificates, and of lists of those of clients or servers.
    fn warn_of(
        &mut self,
        place: &str,
        whose: &str,
        certificates: Vec<Expiry>,
        lists: Vec<Expiry>,
        (unix_now, now): (i64, Moment),
    ) {
        let of_certificates = certificates.into_iter().filter_map(|expiry| {
            let warning = warning(&expiry, unix_now)?;
            Some((format!("the certificate {} {warning}; renew it", expiry.file.display()), expiry))
        });
        let of_lists = lists.into_iter().filter_map(|expiry| {
            let warning = warning(&expiry, unix_now)?;
            Some((list_warning(&expiry, &warning, whose), expiry))
        });
        for (warning, expiry) in of_certificates.chain(of_lists) {
            self.warn_once_a_day((expiry.file, expiry.name), place, &warning, now);
        }
    }

    fn warn_once_a_day(&mut self, about: (PathBuf, String), place: &str, warning: &str, now: Moment) {
        if self.warned.get(&about).is_none_or(|told| now.since(*told) >= WARN_AGAIN) {
            log::warn!("{place}: {warning}");
            self.warned.insert(about, now);
        }
    }
}

fn list_warning(expiry: &Expiry, warning: &str, whose: &str) -> String {
    let (file, name) = (expiry.file.display(), &expiry.name);
    format!(
        "the list of revoked certificates {file} of \"{name}\" {warning}; get the next one: without it all {whose} of that \
         authority are rejected"
    )
}

/// What to say of something that is about to expire. `now` is in seconds since 1970.
pub fn warning(expiry: &Expiry, now: i64) -> Option<String> {
    match expiry.not_after.saturating_sub(now) {
        ..0 => Some("has expired".to_owned()),
        left if left >= expiry.warn_before => None,
        0..DAY => Some("expires within a day".to_owned()),
        left => Some(format!("expires in {} days", left / DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_14_days_before() {
        let check = |left: i64, expected: Option<&str>| {
            let expiry = Expiry {
                name: "a".into(),
                file: "a.pem".into(),
                not_after: 1_000_000 + left,
                warn_before: 14 * DAY,
            };
            let found = warning(&expiry, 1_000_000);
            assert_eq!(found.is_some(), expected.is_some(), "{left}: {found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{left}");
        };
        check(15 * DAY, None);
        check(14 * DAY - 1, Some("in 13 days"));
        check(3600, Some("within a day"));
        check(-1, Some("has expired"));
    }
}
