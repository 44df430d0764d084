//! The keys that limits count by: a client, a header, a cookie. A key is 128 bits of a keyed hash, so that each takes the
//! same memory whatever a client sends, and no client can choose two that collide.

use crate::base::random::entropy;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::{IpAddr, Ipv6Addr};

/// What is counted separately from other keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u128);

/// Makes keys; two makers make different ones of the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Keys(u64, u64);

impl Default for Keys {
    fn default() -> Self {
        Keys(entropy(), entropy())
    }
}

impl Keys {
    /// The key of these bytes. Parts are kept apart: `["ab", "c"]` and `["a", "bc"]` have different keys.
    pub fn of(&self, parts: &[&[u8]]) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        Key(hasher.finish128().as_u128())
    }

    /// The key of a client: its IPv4 address, or the /64 of its IPv6 address, which one customer has for himself
    /// (RFC 6177). A client without an address, on a Unix socket, is one client.
    pub fn of_client(&self, client: Option<IpAddr>) -> Key {
        match client.map(|client| client.to_canonical()) {
            Some(IpAddr::V4(client)) => self.of(&[&client.octets()]),
            Some(IpAddr::V6(client)) => self.of(&[&network_of(client).to_be_bytes()]),
            None => self.of(&[]),
        }
    }
}

impl Key {
    /// Which of so many shards the key belongs to.
    pub fn shard(self, shards: usize) -> usize {
        (self.0 >> 64) as usize % shards.max(1)
    }
}

/// The first 64 bits of an IPv6 address.
fn network_of(address: Ipv6Addr) -> u64 {
    (address.to_bits() >> 64) as u64
}

/// Hashes a [`Key`] for a map: it is a hash already.
#[derive(Debug, Default)]
pub struct KeyHasher(u64);

/// A map's hasher for keys.
pub type ByKey = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        let keys = Keys::default();
        let of = |text: &str| keys.of_client(Some(text.parse().unwrap()));
        assert_eq!(of(one) == of(other), same, "{one} {other}");
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
        check("10.0.0.1", "::ffff:10.0.0.1", true);
        check("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true);
        check("2001:db8:1:2::1", "2001:db8:1:3::1", false);
        check("::", "0.0.0.0", false);
    }

    #[test]
    fn parts_are_kept_apart_and_makers_differ() {
        let (keys, other) = (Keys::default(), Keys::default());
        assert_ne!(keys.of(&[b"ab", b"c"]), keys.of(&[b"a", b"bc"]));
        assert_ne!(keys.of(&[b"", b"a"]), keys.of(&[b"a", b""]));
        assert_eq!(keys.of(&[b"a"]), keys.of(&[b"a"]));
        assert_ne!(keys.of(&[b"a"]), other.of(&[b"a"]));
    }
}
