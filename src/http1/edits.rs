//! What a route changes in a message on its way.

use super::fields::{Fields, Span};

/// Changes of the headers that are copied: those of a route.
pub trait Edits {
    /// What becomes of a header of this name, in any case.
    fn change(&self, name: &[u8]) -> Change;
    /// Whether [`Edits::append`] writes what the server is told in a header of this name, or that there is to be none.
    fn sets(&self, name: &[u8]) -> bool;
    /// Appends the value that a header for which [`Change::Replace`] was said gets in the place of its own.
    fn append_replaced(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>);
    /// Appends header lines, each with its CRLF, to those of a message with these fields.
    fn append(&self, fields: &Fields<'_, '_>, out: &mut Vec<u8>);
}

/// What becomes of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is copied.
    Keep,
    /// It is left out.
    Drop,
    /// It gets another value.
    Replace,
}

/// Another target for a request than the client's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rewritten<'a> {
    /// In origin form; valid as it is.
    pub target: Option<&'a [u8]>,
    /// The value of Host.
    pub host: Option<&'a [u8]>,
}

/// What becomes of this header.
pub(super) fn change_of(edits: Option<&dyn Edits>, fields: &Fields<'_, '_>, span: &Span) -> Change {
    edits.map_or(Change::Keep, |edits| edits.change(fields.slice(span.start, span.name_end)))
}

/// Appends the line that stands in the place of this one; none where the value is empty.
pub(super) fn append_replaced(
    edits: Option<&dyn Edits>,
    fields: &Fields<'_, '_>,
    span: &Span,
    out: &mut Vec<u8>,
) {
    let (line, field) = (out.len(), fields.field(span));
    out.extend_from_slice(field.name);
    out.extend_from_slice(b": ");
    let start = out.len();
    edits.into_iter().for_each(|edits| edits.append_replaced(field.name, field.value, out));
    match out.len() == start {
        true => out.truncate(line),
        false => out.extend_from_slice(b"\r\n"),
    }
}
