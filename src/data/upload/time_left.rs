//! What a server is told of the time that is left for its response.

use super::Upload;
use crate::http1::head::DEADLINE_DIGITS;
use std::time::Duration;

impl Upload {
    /// Tells the server in the head how much time is left (`X-Request-Deadline`), before anything of this attempt was sent: in
    /// whole milliseconds, at least one. White space before it makes up the length, so that a further attempt can say
    /// something else while one beside it is being sent.
    pub fn tell_time_left(&mut self, left: Duration) {
        let left_ms = left.as_millis().clamp(1, 10u128.pow(DEADLINE_DIGITS as u32) - 1);
        let value = format!("{left_ms:DEADLINE_DIGITS$}");
        if self.deadline_at == 0 {
            self.insert(format!("X-Request-Deadline: {value}\r\n").as_bytes());
            self.deadline_at = self.head_len - b"\r\n\r\n".len() - DEADLINE_DIGITS;
        } else if let Some(room) = self.out.get_mut(self.deadline_at..self.deadline_at + DEADLINE_DIGITS) {
            room.copy_from_slice(value.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Moment;
    use crate::http1::body::Body;
    use crate::http1::framing::Framing;

    #[test]
    fn each_attempt_tells_the_time_left_in_the_same_room() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
        let mut upload = Upload::new(head, Body::new(Framing::None), false, None, Moment::START);
        let mut check = |left: Duration, expected: &str| {
            upload.tell_time_left(left);
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Request-Deadline: {expected}\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(upload.whole().unwrap()), head);
        };
        check(Duration::from_millis(12_345), "   12345");
        check(Duration::from_micros(900), "       1");
        check(Duration::from_secs(1_000_000), "99999999");
    }
}
