//! The name of the server in headers of a request (`{server}`), which is known only once the server is chosen.

use super::Upload;

/// A place in a head for text that has the server's name. It has room for the longest name and ends in white space, so that a
/// further attempt can name another server while one beside it is being sent.
#[derive(Clone, Debug)]
pub struct NameSlot {
    /// Where in the head it begins.
    pub at: usize,
    /// How long it is.
    pub len: usize,
    /// The text before each name, and behind the last one.
    pub around: Vec<Vec<u8>>,
    /// What of the server is named.
    pub named: Named,
}

/// What of a server a [`NameSlot`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Its name.
    Name,
    /// Its host and port.
    Authority,
}

impl NameSlot {
    /// The place of this length in the Host line, which is the first behind the request line.
    pub fn of_host(head: &[u8], len: usize) -> Option<NameSlot> {
        const NAME: &[u8] = b"\r\nHost: ";
        let at = memchr::memmem::find(head, NAME)? + NAME.len();
        Some(NameSlot { at, len, around: vec![Vec::new(); 2], named: Named::Authority })
    }
}

impl Upload {
    /// Has the head name its server, in these places.
    pub fn will_name_server(&mut self, name_slots: Vec<NameSlot>) {
        self.name_slots = name_slots;
    }

    /// The places in which its server is named, for a copy.
    pub fn name_slots(&self) -> &[NameSlot] {
        &self.name_slots
    }

    /// Names the server of an attempt, before anything of it was sent. `authority` is its host and port.
    pub fn name_server(&mut self, name: &str, authority: impl Fn() -> String) {
        // What is not kept any more is not sent again either.
        if !self.buffered {
            return;
        }
        for NameSlot { at, len, around, named } in &self.name_slots {
            let Some(slot) = self.out.get_mut(*at..at + len) else { continue };
            let text = match named {
                Named::Name => around.join(name.as_bytes()),
                // A part of a host would be another host. The server rejects a request with an empty one.
                Named::Authority => {
                    Some(authority().into_bytes()).filter(|host| host.len() <= *len).unwrap_or_default()
                }
            };
            slot.fill(b' ');
            slot.iter_mut().zip(text).for_each(|(place, byte)| *place = byte);
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
    fn each_attempt_names_its_server_in_the_same_slot() {
        let head = b"GET / HTTP/1.1\r\nX-To: --------------\r\nHost: h\r\n\r\n".to_vec();
        let mut upload = Upload::new(head, Body::new(Framing::None), false, None, Moment::START);
        let around = [&b"<"[..], b"/", b">"].map(<[u8]>::to_vec).to_vec();
        upload.will_name_server(vec![NameSlot { at: 22, len: 14, around, named: Named::Name }]);
        let mut check = |name: &str, expected: &str| {
            upload.name_server(name, String::new);
            let head = format!("GET / HTTP/1.1\r\nX-To: {expected}\r\nHost: h\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(upload.whole().unwrap()), head);
        };
        check("abcd", "<abcd/abcd>   ");
        check("b", "<b/b>         ");
    }

    #[test]
    fn a_host_is_that_of_the_server_or_none() {
        let head = b"GET /Host: HTTP/1.1\r\nHost:             \r\nX: y\r\n\r\n".to_vec();
        let slot = NameSlot::of_host(&head, 12).unwrap();
        let mut upload = Upload::new(head, Body::new(Framing::None), false, None, Moment::START);
        upload.will_name_server(vec![slot]);
        for (host, expected) in
            [("10.0.0.1:80", "10.0.0.1:80 "), ("a:1", "a:1         "), ("too.long.test:80", "            ")]
        {
            upload.name_server("name", || host.to_owned());
            let head = format!("GET /Host: HTTP/1.1\r\nHost: {expected}\r\nX: y\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(upload.whole().unwrap()), head);
        }
    }
}
