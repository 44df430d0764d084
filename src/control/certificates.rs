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
    /// By file and name.
    warned: HashMap<(PathBuf, String), Warned>,
    stop: Receiver<()>,
}

/// The last warning of something.
#[derive(Debug)]
struct Warned {
    at: Moment,
    /// It said that it has expired, or something else that does not change with time.
    is_final: bool,
}

/// Stops the thread when it is dropped.
#[derive(Debug)]
pub struct Handle {
    _stop: Sender<()>,
}

impl Warned {
    fn is_due_again(&self, is_final: bool, now: Moment) -> bool {
        now.since(self.at) >= WARN_AGAIN || is_final && !self.is_final
    }
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
                    (true, now),
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
            let is_final = has_expired(&expiry, unix_now);
            self.warn_once_a_day((expiry.file, expiry.name), place, &warning, (is_final, now));
        }
    }

    /// Warns, unless the same was said within a day. That something has expired is said at once: the clock may have been set.
    fn warn_once_a_day(
        &mut self,
        about: (PathBuf, String),
        place: &str,
        warning: &str,
        (is_final, now): (bool, Moment),
    ) {
        if self.warned.get(&about).is_none_or(|told| told.is_due_again(is_final, now)) {
            log::warn!("{place}: {warning}");
            self.warned.insert(about, Warned { at: now, is_final });
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

fn has_expired(expiry: &Expiry, now: i64) -> bool {
    expiry.not_after < now
}

/// What to say of something that is about to expire. `now` is in seconds since 1970.
pub fn warning(expiry: &Expiry, now: i64) -> Option<String> {
    match expiry.not_after.saturating_sub(now) {
        _ if has_expired(expiry, now) => Some("has expired".to_owned()),
        left if left >= expiry.warn_before => None,
        ..DAY => Some("expires within a day".to_owned()),
        left => Some(format!("expires in {} days", left / DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_once_a_day_and_at_once_when_something_has_expired() {
        let start = time::now();
        for (was_final, is_final, after_s, expected) in [
            (false, false, 3600, false),
            (false, true, 2, true),
            (true, true, 3600, false),
            (true, false, 3600, false),
            (false, false, 24 * 3600, true),
            (true, true, 24 * 3600, true),
        ] {
            let warned = Warned { at: start, is_final: was_final };
            let is_due = warned.is_due_again(is_final, start.after(Duration::from_secs(after_s)));
            assert_eq!(is_due, expected, "{was_final}, {is_final}, {after_s} s");
        }
    }

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
