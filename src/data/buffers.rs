//! Layer 0: a worker's spare buffers. What an exchange keeps while it is suspended it takes from here and gives back, so
//! that requests in the steady state allocate nothing.

/// Bytes that one connection moves before others get their turn: some 50 us of copying. A pipe holds as many. Of a body of
/// which less is still to come the bytes are copied and not spliced: measured, both cost the same then.
pub const TURN_BYTES: usize = 256 * 1024;
/// Bytes received at once of a body, and encrypted before they are sent. The longest head of a response fits in as many. So
/// much is also kept of a request to send it again, and so much of a response may be on its way before that matters.
pub const BODY_BYTES: usize = 64 * 1024;
/// A body of this size is worth a copy that saves a system call: it is received together with its head, and sent so.
pub const SMALL_BODY_BYTES: usize = 4 * 1024;
/// Buffers that are kept; as many as small requests are likely to be in flight at once in one worker.
const BUFFERS_KEPT: usize = 256;
/// A buffer that grew beyond this is not kept: most requests need a fraction of it.
pub const KEPT_BYTES: usize = 16 * 1024;

/// Appends what is left of `parts` behind their first `sent` bytes.
pub fn keep_unsent(parts: &[&[u8]], mut sent: usize, out: &mut Vec<u8>) {
    for part in parts {
        let skipped = sent.min(part.len());
        out.extend_from_slice(&part[skipped..]);
        sent -= skipped;
    }
}

/// Empty buffers for reuse.
#[derive(Debug, Default)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Gives one back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < BUFFERS_KEPT && (1..=KEPT_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
