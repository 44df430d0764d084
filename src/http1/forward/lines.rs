//! Lines of a head on their way: those that are copied, in runs, and the Connection line.

use crate::http1::fields::{Fields, Span};

/// A Connection line, if any option is added.
#[derive(Default)]
pub(super) struct ConnectionLine {
    begun: bool,
}

impl ConnectionLine {
    pub(super) fn add(&mut self, option: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b", " } else { b"Connection: " });
        out.extend_from_slice(option.as_bytes());
        self.begun = true;
    }

    pub(super) fn end(self, out: &mut Vec<u8>) {
        if self.begun {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Copies the lines of a head in runs: each run ends at a line that is left out.
pub(super) struct Runs<'b> {
    head: &'b [u8],
    from: usize,
}

impl<'b> Runs<'b> {
    pub(super) fn new(fields: &Fields<'_, 'b>) -> Self {
        Runs { head: fields.head, from: fields.first }
    }

    pub(super) fn leave_out(&mut self, span: &Span, out: &mut Vec<u8>) {
        self.copy_to(span.start as usize, out);
        self.from = span.end as usize;
    }

    /// The last run ends before the empty line.
    pub(super) fn end(mut self, out: &mut Vec<u8>) {
        self.copy_to(self.head.len().saturating_sub(2), out);
    }

    pub(super) fn copy_to(&mut self, to: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.get(self.from..to).unwrap_or_default());
    }
}
