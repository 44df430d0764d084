//! A body in chunks for a server that knows none: it is collected, and gets a length.

use super::Upload;
use crate::base::time::Moment;
use crate::data::client::Client;
use crate::data::failure::Failure;
use crate::http1::body::Body;
use crate::http1::framing::Framing;
use crate::http1::reason::Reason;
use memchr::memmem;

impl Upload {
    /// For a server that knows no chunks: receives the body without sending it, and gives it a length when it is whole.
    /// How many bytes came; [`Reason::LengthRequired`] when it is too long to be kept.
    pub fn collect(
        &mut self,
        client: &mut Client,
        scratch: &mut [u8],
        now: Moment,
    ) -> Result<usize, Failure> {
        let count = if self.body.is_done() { 0 } else { self.receive(client, None, scratch)? };
        if !self.buffered {
            return Err(Failure::last(Reason::LengthRequired));
        }
        if count > 0 {
            self.progress.moved_at = now;
        }
        if self.body.is_done() {
            self.unchunk()?;
        }
        Ok(count)
    }

    fn unchunk(&mut self) -> Result<(), Failure> {
        const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";
        let fault = Failure::last(Reason::Internal);
        let mut body = self.out.split_off(self.head_len);
        let (_, len) = Body::new(Framing::Chunked).compact(&mut body).map_err(|_| fault)?;
        let at = memmem::find(&self.out, CHUNKED).ok_or(fault)?;
        let length = format!("Content-Length: {len}\r\n").into_bytes();
        let shorter = CHUNKED.len() - length.len();
        self.out.splice(at..at + CHUNKED.len(), length);
        self.head_len = self.out.len();
        // What stands behind the line has moved.
        self.deadline_at = self.deadline_at.saturating_sub(shorter);
        self.name_slots.iter_mut().filter(|slot| slot.at > at).for_each(|slot| slot.at -= shorter);
        self.out.extend_from_slice(&body[..len]);
        self.chunked = false;
        Ok(())
    }
}
