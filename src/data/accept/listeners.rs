//! Layer 5: the listeners of the accept thread: opened and closed by reloads, handed to another process, and their files.

use super::{Acceptor, LISTENER};
use crate::base::ids::ListenerId;
use crate::base::inherited;
use crate::base::time::{self, Moment};
use crate::data::listen::Listener;
use crate::data::poller::{Side, Token};
use crate::data::worker_pool::ListenerChange;
use crate::state::listener::OpenListener;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The files of Unix sockets are looked at this often: a temporary folder may be swept.
const FILES_LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A listener of this thread.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) listener: Listener,
    /// What its next connections know of it.
    pub(super) known: Arc<OpenListener>,
    /// There may be more connections, and no edge will say so again.
    pub(super) has_more: bool,
    /// It is closed when its backlog is empty: clients that the kernel has accepted for us may have sent their requests.
    pub(super) closing: bool,
}

impl Acceptor {
    /// Accepts on one more listener from now on.
    pub(super) fn open(&mut self, listener: Listener, known: Arc<OpenListener>) -> io::Result<()> {
        let id = known.id;
        self.poller.add(listener.raw(), Token::new(Side::Client, id.0 as usize, LISTENER), false)?;
        if listener.is_unix() {
            self.look_at_files = self.look_at_files.min(time::now().after(FILES_LOOK_INTERVAL));
        }
        self.listeners.insert(id, Open { listener, known, has_more: true, closing: false });
        Ok(())
    }

    /// Opens and closes listeners.
    pub(super) fn change_listeners(&mut self, ListenerChange { opened, closed }: ListenerChange) {
        for (listener, known) in opened {
            let place = listener.place.clone();
            if let Err(error) = self.open(listener, known) {
                log::error!("{}: {place} cannot be watched: {error}", self.shared().name);
            }
        }
        for id in closed {
            self.listeners.get_mut(&id).into_iter().for_each(|open| open.closing = true);
        }
    }

    pub(super) fn close_listener(&mut self, id: ListenerId) {
        let Some(Open { listener, .. }) = self.listeners.remove(&id) else { return };
        // Another process may have the socket, too: closing it here would not end its events.
        self.poller.remove(listener.raw());
        if self.shared().is_handed_over() {
            listener.leave();
        }
    }

    /// Copies of the listening sockets, for another process.
    pub(super) fn duplicates(&self) -> io::Result<Vec<inherited::Socket>> {
        let open = self.listeners.values().filter(|open| !open.closing);
        open.map(|open| open.listener.duplicate(&open.known.settings.name)).collect()
    }

    /// Unix sockets whose files are gone get them again.
    pub(super) fn renew_files(&mut self, now: Moment) {
        if now < self.look_at_files {
            return;
        }
        self.look_at_files = now.after(FILES_LOOK_INTERVAL);
        for (id, open) in &mut self.listeners {
            let listener = &mut open.listener;
            if listener.is_unix() && listener.renew() {
                let token = Token::new(Side::Client, id.0 as usize, LISTENER);
                if let Err(error) = self.poller.add(listener.raw(), token, false) {
                    log::error!("{}: {} cannot be watched: {error}", self.pool.shared.name, listener.place);
                }
                open.has_more = true;
            }
        }
    }
}
