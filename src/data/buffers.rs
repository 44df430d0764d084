//! Layer 0: a worker's spare buffers. What an exchange keeps while it is suspended it takes from here and gives back, so
//! that requests in the steady state allocate nothing.

/// Buffers that are kept; as many as small requests are likely to be in flight at once in one worker.
const SPARE: usize = 256;
/// A buffer that grew beyond this is not kept: most requests need a fraction of it.
const KEPT_BYTES: usize = 16 * 1024;
/// What a new one has room for: the head of a usual request.
const ROOM_BYTES: usize = 1024;

/// Empty buffers for reuse.
#[derive(Debug, Default)]
pub struct Buffers(Vec<Vec<u8>>);

impl Buffers {
    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(ROOM_BYTES))
    }

    /// Gives one back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        if self.0.len() < SPARE && (1..=KEPT_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}
