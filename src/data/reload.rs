//! Layer 5: another configuration for a running data plane: sockets first, then servers and settings with one swap, then
//! the threads are woken.

use super::listen::Listener;
use super::worker_pool::{ListenerChange, WorkerPool};
use crate::base::ids::ListenerId;
use crate::state::config::{Config, Place};
use crate::state::listener::OpenListener;
use crate::state::live::{Files, Live};
use crate::state::merge::Merged;
use crate::state::sinks::Sinks;
use std::io;
use std::sync::Arc;

/// A listener that cannot be opened: nothing was changed.
#[derive(Debug)]
pub struct Unopened {
    /// Its index in the configuration.
    pub index: usize,
    /// The operating system's error.
    pub error: io::Error,
}

/// Goes on with another configuration. Listeners that are new are bound before anything is changed; those that are gone
/// stop accepting, and their connections stay until their next response. `next_id` numbers new listeners.
pub fn reload(
    pool: &WorkerPool,
    config: Arc<Config>,
    mut files: Files,
    sinks: Sinks,
    next_id: &mut u32,
) -> Result<Merged, Unopened> {
    let before = pool.shared.table.live();
    let settings = &config.listen.listeners;
    let mut tls = std::mem::take(&mut files.tls.listeners).into_iter();
    let (mut known, mut opened) = (Vec::new(), Vec::new());
    for (index, (settings, open)) in settings.iter().zip(before.still_open(settings)).enumerate() {
        let (id, place, new) = match open {
            Some(open) => (open.id, open.place.clone(), None),
            None => {
                let listener = Listener::open(&settings.place).map_err(|error| Unopened { index, error })?;
                *next_id += 1;
                (ListenerId(*next_id - 1), listener.place.clone(), Some(listener))
            }
        };
        let listener = Arc::new(OpenListener {
            id,
            name: settings.name.as_str().into(),
            settings: settings.clone(),
            place,
            tls: tls.next().flatten(),
            traffic: pool.shared.stats.traffic.listener(&settings.name),
        });
        opened.extend(new.map(|new| (new, Arc::clone(&listener))));
        known.push(listener);
    }
    let is_open = |id| known.iter().any(|listener| listener.id == id);
    let closed = before.listeners.iter().map(|listener| listener.id).filter(|id| !is_open(*id)).collect();
    let capacity = config.threadpool.queue_capacity;
    let live = Live::new(config, files, known, sinks, &pool.shared.stats.traffic, Some(&before));
    let merged = pool.shared.table.reload(live);
    pool.set_capacity(capacity);
    pool.change_listeners(ListenerChange { opened, closed });
    pool.wake_all();
    Ok(merged)
}

/// Whether a place can be bound only once one of these listeners is closed, which would leave a moment without either.
pub fn is_in_the_way(place: &Place, listeners: &[Arc<OpenListener>]) -> bool {
    listeners.iter().any(|open| open.place.conflicts(place))
}
