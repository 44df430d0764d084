//! What a server says to us and not to the client: what is copied of a response that lets a request pass, the session that it
//! began, and its load.

use super::{Download, ResponseContext};
use crate::http1::forward;
use crate::http1::head::ResponseHead;
use crate::http1::names::Name;
use crate::policy::key::Key;
use crate::policy::orca::{self, Reported};
use crate::state::config::guards::ForwardAuth;

/// What of it has not been taken yet. Few responses have any, so it is in a box.
#[derive(Debug, Default)]
pub(super) struct Told {
    copied: Copied,
    learned: Option<Key>,
    reported: Option<Reported>,
}

/// Header lines of the response that lets a request pass, each with its line end.
#[derive(Debug, Default)]
pub struct Copied {
    /// For the request.
    pub to_server: Vec<u8>,
    /// For the response to it.
    pub to_client: Vec<u8>,
}

impl Download {
    /// After [`Downloaded::Authorized`](super::Downloaded::Authorized): what is copied of that response.
    pub fn take_copied(&mut self) -> Copied {
        self.told.as_mut().map(|told| std::mem::take(&mut told.copied)).unwrap_or_default()
    }

    /// The session that the server began with its response.
    pub fn take_learned(&mut self) -> Option<Key> {
        self.told.as_mut()?.learned.take()
    }

    /// What the server said of its load.
    pub fn take_reported(&mut self) -> Option<Reported> {
        self.told.as_mut()?.reported.take()
    }

    /// The response lets the request pass: what the rules name of its headers is copied.
    pub(super) fn copy(&mut self, head: &ResponseHead<'_, '_>, rules: &ForwardAuth) {
        let copied = &mut self.told.get_or_insert_default().copied;
        forward::copied(&head.fields, &rules.copy_headers, &mut copied.to_server);
        forward::copied(&head.fields, &rules.copy_to_response, &mut copied.to_client);
    }

    /// Notes the session that the server began, and its load, where they are looked for.
    pub(super) fn note_told(&mut self, head: &ResponseHead<'_, '_>, context: &ResponseContext<'_>) {
        if let Some((name, sessions)) = context.learns {
            let lines = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"set-cookie"));
            let learned = lines.filter_map(|field| sessions.key_of(field.value, name)).last();
            self.told.get_or_insert_default().learned = learned;
        }
        if let Some((metric, true)) = context.load_metric {
            let value = head.fields.values(Name::LoadMetrics).next();
            self.told.get_or_insert_default().reported = Some(orca::read_if_any(value, metric));
        }
    }
}
