//! Which server a client's session belongs to, as a cookie says it.
//!
//! The value is a keyed hash of the server's name (SipHash-2-4 with 128 bits, a message authentication code): it tells
//! nothing of the server, cannot be made without the key, and is the same in every process with the same key. So no
//! table is needed, and restarts and several balancers keep sessions.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// What stands for a server in a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u128);

/// The key of a pool's cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagKey(u64, u64);

/// Under which the key itself is derived, so that this use of a secret has keys of its own.
const DERIVATION: (u64, u64) = (0x6576_656e_6b65_656c, 0x7365_7373_696f_6e73);

impl TagKey {
    /// Of a secret; the pool and the cookie have a part in it, so that a cookie of one pool means nothing in another.
    pub fn new(secret: &str, pool: &str, cookie: &str) -> Self {
        let mut hasher = SipHasher24::new_with_keys(DERIVATION.0, DERIVATION.1);
        for part in [secret, pool, cookie] {
            hasher.write_u64(part.len() as u64);
            hasher.write(part.as_bytes());
        }
        let hash = hasher.finish128();
        TagKey(hash.h1, hash.h2)
    }

    /// The tag of a server.
    pub fn tag(&self, server: &str) -> Tag {
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        hasher.write(server.as_bytes());
        Tag(hasher.finish128().as_u128())
    }
}

impl Tag {
    /// Of the value of a cookie; `None` for what cannot be one of ours.
    pub fn read(value: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        let read = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes);
        (read == Ok(bytes.len())).then_some(Tag(u128::from_be_bytes(bytes)))
    }

    /// Appends it as the value of a cookie: 22 characters.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut text = [0; 22];
        // 16 bytes always fit.
        let _ = URL_SAFE_NO_PAD.encode_slice(self.0.to_be_bytes(), &mut text);
        out.extend_from_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: Tag) -> String {
        let mut out = Vec::new();
        tag.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_value_is_read_as_it_was_written_and_tells_nothing_of_the_server() {
        let key = TagKey::new("0123456789abcdef", "default", "server");
        let tag = key.tag("10.0.0.1:8080");
        let text = value(tag);
        assert_eq!(text.len(), 22);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(Tag::read(text.as_bytes()), Some(tag));
        // Cookies of one version must be understood by the next.
        assert_eq!(text, "SsaCXP9x7rkRGdmPsapjHw");
    }

    #[test]
    fn each_secret_pool_cookie_and_server_has_tags_of_its_own() {
        let tag = |secret, pool, cookie, server| TagKey::new(secret, pool, cookie).tag(server);
        let one = tag("s", "p", "c", "a");
        assert_eq!(one, tag("s", "p", "c", "a"));
        let others = [
            tag("t", "p", "c", "a"),
            tag("s", "q", "c", "a"),
            tag("s", "p", "d", "a"),
            tag("s", "p", "c", "b"),
            tag("sp", "", "c", "a"),
        ];
        assert!(others.iter().all(|other| *other != one));
    }

    #[test]
    fn what_is_no_tag_is_none() {
        let text = value(TagKey::new("s", "p", "c").tag("a"));
        let forged = [
            text[1..].to_owned(),
            format!("{text}A"),
            format!("{text}="),
            "a".repeat(22_000),
            String::new(),
            "=".repeat(22),
        ];
        for forged in forged {
            assert_eq!(Tag::read(forged.as_bytes()), None, "{forged:.40}");
        }
    }
}
