//! What a route changes in a message on its way.

use super::fields::{Fields, Span};

/// Changes of the headers that are copied: those of a route.
pub trait Edits {
    /// The header of this name, in any case, is not copied.
    fn drops(&self, name: &[u8]) -> bool;
    /// Appends header lines, each with its CRLF, to those of a message with these fields.
    fn append(&self, fields: &Fields<'_, '_>, out: &mut Vec<u8>);
}

/// Another target for a request than the client's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewritten<'a> {
    /// In origin form; valid as it is.
    pub target: Option<&'a [u8]>,
    /// The value of Host.
    pub host: Option<&'a [u8]>,
}

/// Whether this header is not copied.
pub(super) fn is_dropped(edits: Option<&dyn Edits>, fields: &Fields<'_, '_>, span: &Span) -> bool {
    edits.is_some_and(|edits| edits.drops(fields.slice(span.start, span.name_end)))
}
