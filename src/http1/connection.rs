//! The options of Connection (RFC 9110 section 7.6.1): what they say about the connection, and which fields they limit
//! to this hop.

use super::fields::{Fields, list};
use super::head::Version;
use super::names::Name;

/// The most fields that Connection may nominate: each is compared with every field of the head.
const NOMINATED_MAX: usize = 64;

/// The content of the Connection fields of one head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    nominated: usize,
}

impl Options {
    /// Adds one Connection value.
    pub(super) fn note(&mut self, value: &[u8]) {
        // Most values are one option: they need no search for commas.
        if !self.knows(value) {
            list(value).for_each(|option| self.nominated += usize::from(!self.knows(option)));
        }
    }

    /// Adds an option about the connection itself; false: it is none, and so a name of a field.
    fn knows(&mut self, option: &[u8]) -> bool {
        let known = match option.len() {
            5 if option.eq_ignore_ascii_case(b"close") => &mut self.close,
            7 if option.eq_ignore_ascii_case(b"upgrade") => &mut self.upgrade,
            10 if option.eq_ignore_ascii_case(b"keep-alive") => &mut self.keep_alive,
            _ => return false,
        };
        *known = true;
        true
    }

    /// The sender wants the connection kept after this message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// More nominations than any legitimate sender has.
    pub(super) fn is_excessive(&self) -> bool {
        self.nominated > NOMINATED_MAX
    }

    /// Connection names fields other than those that are removed anyway.
    pub(super) fn nominates(&self) -> bool {
        self.nominated > 0
    }
}

/// The names that Connection limits to this hop, collected once, so that a long Connection field is not parsed again
/// for each field of the head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nominations<'b> {
    names: [&'b [u8]; NOMINATED_MAX],
    count: usize,
}

impl<'b> Nominations<'b> {
    /// The nominations of a head; a head whose `Options` are excessive was rejected.
    pub(super) fn of(fields: &Fields<'_, 'b>) -> Self {
        let mut found = Nominations { names: [b""; NOMINATED_MAX], count: 0 };
        let options = fields.values(Name::Connection).flat_map(list).filter(|option| !is_ours(option));
        for (room, option) in found.names.iter_mut().zip(options) {
            *room = option;
            found.count += 1;
        }
        found
    }

    /// The names, in their original case.
    pub(super) fn names(&self) -> &[&'b [u8]] {
        self.names.get(..self.count).unwrap_or_default()
    }

    /// `name` is among them.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.names().iter().any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

/// An option about the connection itself; fields with these names are never forwarded anyway.
fn is_ours(option: &[u8]) -> bool {
    let ours: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    ours.iter().any(|ours| option.eq_ignore_ascii_case(ours))
}
