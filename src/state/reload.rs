//! What came of reloads, for status and metrics, and how one is asked for.

use super::config::Fault;
use crate::base::time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What a reload changed, in sentences with key paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is different now: `timeouts.response: 30s -> 10s`.
    pub changes: Vec<String>,
    /// What stays as it is until a restart: `admin.bind needs a restart; still 127.0.0.1:9301`.
    pub needs_restart: Vec<String>,
}

/// How a reload ends; with faults nothing has changed.
pub type Outcome = Result<Reloaded, Vec<Fault>>;

/// The functions that reload the configuration, and that say what a reload would do; one runs at a time.
#[derive(Clone)]
pub struct Reload {
    run: Arc<dyn Fn() -> Outcome + Send + Sync>,
    preview: Arc<dyn Fn() -> Outcome + Send + Sync>,
}

impl Reload {
    /// Reloads with the first function; the second one says what it would do.
    pub fn new(
        run: impl Fn() -> Outcome + Send + Sync + 'static,
        preview: impl Fn() -> Outcome + Send + Sync + 'static,
    ) -> Self {
        Reload { run: Arc::new(run), preview: Arc::new(preview) }
    }

    /// Reads the file again and applies it, or tells what is wrong with it.
    pub fn run(&self) -> Outcome {
        (self.run)()
    }

    /// Reads the file, and tells what a reload would do; nothing changes.
    pub fn preview(&self) -> Outcome {
        (self.preview)()
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reload")
    }
}

/// The last reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Seconds since 1970.
    pub at_unix: u64,
    /// Whether it was applied.
    pub is_applied: bool,
    /// What changed, or what is wrong.
    pub message: String,
}

/// What there is to tell of the configuration and its reloads.
#[derive(Clone, Debug)]
pub struct Told {
    /// When the current configuration was read, in seconds since 1970.
    pub loaded_at_unix: u64,
    /// Reloads that were applied.
    pub applied: u64,
    /// Reloads that were not.
    pub failed: u64,
    /// The last one, if there was one.
    pub last: Option<Last>,
}

/// Keeps count of reloads.
#[derive(Debug)]
pub struct Reloads(Mutex<Told>);

impl Default for Reloads {
    /// The configuration was read now.
    fn default() -> Self {
        Reloads(Mutex::new(Told { loaded_at_unix: time::unix_seconds(), applied: 0, failed: 0, last: None }))
    }
}

impl Reloads {
    /// What there is to tell now.
    pub fn told(&self) -> Told {
        self.0.lock().clone()
    }

    /// Counts one.
    pub fn record(&self, is_applied: bool, message: String) {
        let mut told = self.0.lock();
        let at_unix = time::unix_seconds();
        if is_applied {
            (told.applied, told.loaded_at_unix) = (told.applied + 1, at_unix);
        } else {
            told.failed += 1;
        }
        told.last = Some(Last { at_unix, is_applied, message });
    }
}
