//! What the status says of a pool that uses servers whose health checks fail, or that are ejected.

use super::status::unix_rfc3339;
use crate::state::table::FailOpen;
use serde::Serialize;

/// Too few servers of a pool are up, so that the last known good ones are used as well.
#[derive(Debug, Serialize)]
pub(super) struct FailOpenStatus {
    /// RFC 3339, in UTC.
    since: String,
    /// Servers that are up, or have not been probed yet.
    left: usize,
    /// Those that are used all the same.
    used: usize,
}

impl FailOpenStatus {
    pub(super) fn of(told: FailOpen) -> Self {
        FailOpenStatus { since: unix_rfc3339(told.since_unix), left: told.left, used: told.used }
    }
}
