//! Upgrade (RFC 9110 section 7.8): the protocols that a client offers, and those that a server may switch to.

use super::fields::{Fields, list};
use super::names::Name;

/// The protocols that a request offers.
#[derive(Clone, Debug)]
pub struct Offer(Box<[u8]>);

impl Offer {
    /// Those in the Upgrade lines of a request.
    pub fn of(fields: &Fields<'_, '_>) -> Self {
        Offer(fields.values(Name::Upgrade).collect::<Vec<_>>().join(&b',').into())
    }

    /// Whether a response switches to none but these. One that names none does: some servers switch without a word of the
    /// protocol.
    pub fn has_all(&self, response: &Fields<'_, '_>) -> bool {
        let is_offered = |to: &[u8]| list(&self.0).any(|offered| offered.eq_ignore_ascii_case(to));
        response.values(Name::Upgrade).flat_map(list).all(is_offered)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Slots;
    use super::super::framing::Method;
    use super::super::head::{self, Limits, Parsed};
    use super::*;

    #[test]
    fn a_server_switches_to_what_was_offered() {
        let limits = Limits { head: 1000, headers: 10, uri: 100, trace: false };
        let check = |offered: &str, switched: &str, expected| {
            let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{offered}\r\n");
            let response = format!("HTTP/1.1 101 S\r\n{switched}\r\n");
            let (mut slots, mut others) = (Slots::new(), Slots::new());
            let Ok(Parsed::Complete(request)) = head::request(request.as_bytes(), &limits, &mut slots) else {
                panic!("{request}")
            };
            let Ok(Parsed::Complete(response)) =
                head::response(response.as_bytes(), Method::Other, &limits, &mut others)
            else {
                panic!("{response}")
            };
            assert_eq!(
                Offer::of(&request.fields).has_all(&response.fields),
                expected,
                "{offered} {switched}"
            );
        };
        check("Upgrade: websocket\r\n", "Upgrade: WebSocket\r\n", true);
        check("Upgrade: websocket\r\n", "", true);
        check("Upgrade: a/1, b\r\nUpgrade: c\r\n", "Upgrade: c, A/1\r\n", true);
        check("Upgrade: websocket\r\n", "Upgrade: h2c\r\n", false);
        check("Upgrade: websocket\r\n", "Upgrade: websocket, h2c\r\n", false);
        check("Upgrade: websocket\r\n", "Upgrade: websocket\r\nUpgrade: tls/1.2\r\n", false);
        check("Upgrade: a/1\r\n", "Upgrade: a\r\n", false);
    }
}
