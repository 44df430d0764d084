//! What the admin API changed, over a restart: made again at the start, and written by a thread when it changes
//! (`admin.state_file`).

use super::{Error, preflight, spawn};
use crate::base::text;
use crate::control::state_file::{self, Found, Handle, Writer};
use crate::state::changes::Changes;
use crate::state::config::Config;
use crate::state::table::Table;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Makes the changes of the file on a new table, and returns what the file has. Nothing that is wrong with it prevents a
/// start: that would turn a lost weight into an outage.
pub(super) fn restore(config: &Config, table: &Table) -> Changes {
    let Some(path) = &config.admin.state_file else { return Changes::default() };
    match state_file::read(path) {
        Ok(Found::Nothing) => Changes::default(),
        Ok(Found::Changes(changes)) => {
            apply(&changes, config, table);
            changes
        }
        Ok(Found::SetAside(why)) => {
            log::error!(
                "admin.state_file: {} cannot be used: {why}; the servers are as the file of the configuration says",
                path.display()
            );
            Changes::default()
        }
        Err(error) => {
            log::error!("admin.state_file: {} cannot be read: {error}", path.display());
            Changes::default()
        }
    }
}

/// Makes these changes on a new table, and logs what does not fit any more.
pub(super) fn apply(changes: &Changes, config: &Config, table: &Table) {
    for left_out in changes.apply(config, table) {
        log::warn!("admin.state_file: left out {left_out}");
    }
    let count: usize = changes.pools.values().map(|servers| servers.len()).sum();
    if count > 0 {
        let changes = text::counted(count, "change of the API was", "changes of the API were");
        log::info!("admin: {changes} made again (`evenkeel status --changes` shows them)");
    }
}

/// Starts the thread that writes, if there is a file; `written` is what it has.
pub(super) fn start(
    config: &Arc<Config>,
    table: &Arc<Table>,
    written: Changes,
) -> Result<Option<(Handle, JoinHandle<()>)>, Error> {
    let Some(path) = &config.admin.state_file else { return Ok(None) };
    if let Err((key, advice)) = preflight::state_file(path) {
        log::warn!("{key}: {advice}; until then a restart loses what the admin API changes");
    }
    let table = Arc::clone(table);
    let changes = move || {
        let snapshot = table.snapshot();
        Changes::between(&snapshot.live.config, &snapshot.listed())
    };
    let (writer, handle) = Writer::new(path, written, changes);
    Ok(Some((handle, spawn(state_file::THREAD, move || writer.run())?)))
}
