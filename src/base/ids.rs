//! Distinct types for ids, so that they are never mixed up.

use super::random;
use std::fmt;
use std::ops::{Index, IndexMut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A server of the table. Assigned in order, and never reused for another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// A pool of servers. 0, the default, is `servers`; those of `pools` are numbered in the order of the file at the start. A
/// name keeps its number over reloads, and the number of a pool that was taken out is given to no other in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolId(pub u32);

/// A listening socket. Never given to another one in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// A client's connection in its worker's table. Keys are used again, and with the same generation only after 2^31 others: what
/// comes late for a connection that has left names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionKey {
    /// Its place in the table.
    pub key: usize,
    /// Which of the connections that had this place.
    pub generation: u32,
}

/// One value for each pool.
#[derive(Clone, Debug, Default)]
pub struct ByPool<T>(Vec<(PoolId, T)>);

impl<T> ByPool<T> {
    /// That of this pool.
    pub fn get(&self, pool: PoolId) -> Option<&T> {
        self.at(pool).map(|at| &self.0[at].1)
    }

    /// That of this pool.
    pub fn get_mut(&mut self, pool: PoolId) -> Option<&mut T> {
        self.at(pool).map(|at| &mut self.0[at].1)
    }

    /// All of them, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (PoolId, &T)> {
        self.0.iter().map(|(pool, value)| (*pool, value))
    }

    /// All of them, in the order of the ids.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (PoolId, &mut T)> {
        self.0.iter_mut().map(|(pool, value)| (*pool, value))
    }

    /// Puts in one of a pool that has none yet.
    pub fn insert(&mut self, pool: PoolId, value: T) {
        let at = self.0.partition_point(|(id, _)| *id < pool);
        self.0.insert(at, (pool, value));
    }

    /// Keeps those of these pools.
    pub fn retain(&mut self, is_kept: impl Fn(PoolId) -> bool) {
        self.0.retain(|(pool, _)| is_kept(*pool));
    }

    /// Takes that of this pool out.
    pub fn remove(&mut self, pool: PoolId) -> Option<T> {
        self.at(pool).map(|at| self.0.remove(at).1)
    }

    fn at(&self, pool: PoolId) -> Option<usize> {
        // There are no gaps in the numbers until a reload takes a pool out.
        match self.0.get(pool.0 as usize) {
            Some((id, _)) if *id == pool => Some(pool.0 as usize),
            _ => self.0.binary_search_by_key(&pool, |(id, _)| *id).ok(),
        }
    }
}

impl<T> Index<PoolId> for ByPool<T> {
    type Output = T;

    /// That of a pool which is known to be there.
    fn index(&self, pool: PoolId) -> &T {
        self.get(pool).unwrap_or_else(|| unreachable!("{pool:?} is not there"))
    }
}

impl<T> IndexMut<PoolId> for ByPool<T> {
    fn index_mut(&mut self, pool: PoolId) -> &mut T {
        self.get_mut(pool).unwrap_or_else(|| unreachable!("{pool:?} is not there"))
    }
}

impl<T> FromIterator<(PoolId, T)> for ByPool<T> {
    fn from_iter<I: IntoIterator<Item = (PoolId, T)>>(values: I) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by_key(|(pool, _)| *pool);
        ByPool(values)
    }
}

/// The two hex digits of each byte.
const HEX_PAIRS: [[u8; 2]; 256] = {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Identifies one request in responses, logs and to the server (`X-Request-Id`). 128 bits: a random half and a counter,
/// written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// An id from a per-process half and a per-request half.
    pub const fn new(process: u64, request: u64) -> Self {
        RequestId(((process as u128) << 64) | request as u128)
    }

    /// By chance, whether it is among this share (0 to 1) of all ids: always the same for an id.
    pub fn is_sampled(self, share: f64) -> bool {
        // Fibonacci hashing spreads a counter evenly.
        let spread = (self.0 as u64 ^ (self.0 >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        spread as f64 / 18_446_744_073_709_551_616.0 < share
    }

    /// The 32 lower-case hex digits.
    pub fn digits(self) -> [u8; 32] {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair.copy_from_slice(&HEX_PAIRS[byte as usize]);
        }
        digits
    }
}

/// The source of the ids of a process. None is used twice: the first half is 64 random bits from the operating system,
/// the second is a counter.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

/// Numbers that a thread takes at once, to avoid contention on the counter. Unused ones are lost; 2^64 last forever.
const SHARE: u64 = 1024;

/// The numbers that a thread has taken and not used.
#[derive(Debug, Default)]
pub struct Share {
    next: u64,
    end: u64,
}

impl Default for RequestIds {
    fn default() -> Self {
        RequestIds { process: random::entropy(), next: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// The next id.
    pub fn one(&self) -> RequestId {
        RequestId::new(self.process, self.next.fetch_add(1, Relaxed))
    }

    /// The next id from a thread's own share.
    pub fn next(&self, share: &mut Share) -> RequestId {
        if share.next == share.end {
            share.next = self.next.fetch_add(SHARE, Relaxed);
            share.end = share.next + SHARE;
        }
        share.next += 1;
        RequestId::new(self.process, share.next - 1)
    }
}

/// The id of a request in logs and responses: that of a trusted client, or ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceId {
    /// The client's own id, which is valid: visible ASCII without quotes.
    Client(Box<[u8]>),
    /// Ours.
    Ours(RequestId),
}

impl TraceId {
    /// The client's id if it sent a valid one that counts.
    pub fn new(client: Option<&[u8]>, ours: RequestId) -> Self {
        client.map_or(TraceId::Ours(ours), |id| TraceId::Client(id.into()))
    }
}

impl TraceId {
    /// The bytes of a header; `room` is for ours.
    pub fn bytes<'a>(&'a self, room: &'a mut [u8; 32]) -> &'a [u8] {
        match self {
            TraceId::Client(id) => id,
            TraceId::Ours(id) => {
                *room = id.digits();
                room
            }
        }
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceId::Client(id) => out.write_str(&String::from_utf8_lossy(id)),
            TraceId::Ours(id) => fmt::Display::fmt(id, out),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_given_twice() {
        let (ids, other) = (RequestIds::default(), RequestIds::default());
        let mut seen = std::collections::HashSet::new();
        let (mut one, mut two) = (Share::default(), Share::default());
        for _ in 0..3 * SHARE {
            for id in [ids.next(&mut one), ids.one(), ids.next(&mut two), other.one()] {
                assert!(seen.insert(id), "{id}");
            }
        }
        assert_ne!(ids.process, other.process);
    }

    #[test]
    fn a_valid_id_of_the_client_comes_first() {
        let ours = RequestId::new(1, 2);
        assert_eq!(TraceId::new(Some(b"me-1"), ours).to_string(), "me-1");
        assert_eq!(TraceId::new(None, ours).to_string(), ours.to_string());
    }

    #[test]
    fn digits_and_display_agree() {
        for id in
            [RequestId::new(0, 0), RequestId::new(u64::MAX, 1), RequestId::new(0x0123_4567_89ab_cdef, 42)]
        {
            assert_eq!(id.to_string().as_bytes(), id.digits());
        }
        assert_eq!(RequestId::new(1, 2).to_string(), "00000000000000010000000000000002");
    }
}
