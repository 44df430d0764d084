//! What is said of a reload, for people.

use crate::state::config::diff::Difference;
use crate::state::config::{Config, Fault};
use crate::state::live::{Files, Live};
use crate::state::merge::Merged;
use std::sync::Arc;

/// What is different, without what needs a restart; and what no key tells: files that were read again.
pub(super) fn changes(
    differences: &[Difference],
    needs_restart: &[String],
    before: &Live,
    config: &Config,
    files: &Files,
) -> Vec<String> {
    let waits = |path: &str| needs_restart.iter().any(|key| key.starts_with(&format!("{path} ")));
    let told = differences.iter().filter(|found| !waits(&found.path));
    let mut all: Vec<String> = told.map(|found| format!("{}: {}", found.path, found.change)).collect();
    let listeners = &config.listen.listeners;
    for ((listener, old), tls) in listeners.iter().zip(before.still_open(listeners)).zip(&files.tls.listeners)
    {
        let Some(old) = old.filter(|old| old.settings == *listener) else { continue };
        if old.tls.as_ref().map(Arc::as_ptr) != tls.as_ref().map(Arc::as_ptr) {
            all.push(format!("{}.tls: the certificates were read again", listener.key()));
        }
    }
    for file in &config.contents {
        let old = before.config.contents.iter().find(|old| old.path == file.path);
        let line = format!("{}: was read again", file.path.display());
        if old.is_some_and(|old| old.stamp != file.stamp) && !all.contains(&line) {
            all.push(line);
        }
    }
    all
}

/// Logs the servers that are gone.
pub(super) fn removed(merged: &Merged) {
    if !merged.removed.is_empty() {
        let labels: Vec<&str> = merged.removed.iter().map(|server| &*server.label).collect();
        log::info!("reload: removed once their requests are finished: {}", labels.join(", "));
    }
}

/// A fault in one line, without the line of the file.
pub(super) fn in_one_line(fault: &Fault) -> String {
    let fault = Fault { excerpt: None, ..fault.clone() };
    fault.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
