//! The options of Connection (RFC 9110 section 7.6.1): what they say of the connection, and which fields they
//! declare to be for this hop alone.

use super::fields::{Fields, list};
use super::head::Version;
use super::names::Name;

/// The most fields that Connection may nominate: each is held against every field of the head.
const NOMINATED_MAX: u32 = 64;

/// What the Connection fields of one head say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    nominated: u32,
}

impl Options {
    /// Takes in one Connection value.
    pub(super) fn note(&mut self, value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominated += 1;
            }
        }
    }

    /// The sender wants the connection kept after this message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// More nominations than any honest sender has.
    pub(super) fn is_excessive(&self) -> bool {
        self.nominated > NOMINATED_MAX
    }

    /// Connection names fields, other than those that are removed anyway.
    pub(super) fn nominates(&self) -> bool {
        self.nominated > 0
    }
}

/// Connection declares `name` to be for this hop alone.
pub(super) fn nominated(fields: &Fields<'_, '_>, name: &[u8]) -> bool {
    fields.values(Name::Connection).any(|value| list(value).any(|option| option.eq_ignore_ascii_case(name)))
}
