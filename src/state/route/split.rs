//! Shares of the requests of a route for several pools.

use crate::base::ids::PoolId;
use crate::policy::route::share::{self, Share};
use crate::state::server::stable_hash;

/// Weighted pools, for canaries.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// What keeps a client with one pool.
    pub key: Key,
    pools: Vec<(PoolId, Share)>,
}

/// What the choice between pools depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Key {
    /// Nothing: each request is drawn at random.
    #[default]
    None,
    /// The client's address.
    Client,
    /// The first value of a header, in lower case here. A request without it is drawn at random.
    Header(Box<str>),
    /// The value of a cookie. A request without it is drawn at random.
    Cookie(Box<str>),
    /// The first value of a parameter of the query, as it was sent. A request without it is drawn at random.
    Query(Box<str>),
    /// The path, as it was sent.
    Path,
    /// Path and query, as they were sent.
    Uri,
    /// The host, without its port.
    Host,
}

impl Key {
    /// As written in the configuration.
    pub fn name(&self) -> String {
        match self {
            Key::None => "none".to_owned(),
            Key::Client => "client".to_owned(),
            Key::Header(name) => format!("header:{name}"),
            Key::Cookie(name) => format!("cookie:{name}"),
            Key::Query(name) => format!("query:{name}"),
            Key::Path => "path".to_owned(),
            Key::Uri => "uri".to_owned(),
            Key::Host => "host".to_owned(),
        }
    }
}

impl Split {
    /// Pools with their names and weights. At least one weight must be above 0.
    pub fn new<'p>(key: Key, pools: impl IntoIterator<Item = (PoolId, &'p str, u32)>) -> Self {
        let share = |(pool, name, weight): (PoolId, &str, u32)| {
            (pool, Share { hash: stable_hash(name.as_bytes()), weight })
        };
        Split { key, pools: pools.into_iter().map(share).collect() }
    }

    /// The pool for a key: the [`stable_hash`] of what [`Split::key`] names, or a random number. The same key gets the same pool in
    /// every process; when weights change, few keys move. A pool that cannot serve is passed over where another can.
    pub fn choose(&self, key: u64, can_serve: impl Fn(PoolId) -> bool) -> PoolId {
        let able = |(pool, share): &(PoolId, Share)| {
            let weight = if can_serve(*pool) { share.weight } else { 0 };
            Share { weight, ..*share }
        };
        let chosen = share::choose(self.pools.iter().map(able), key)
            .or_else(|| share::choose(self.pools.iter().map(|(_, share)| *share), key));
        let chosen = chosen.and_then(|index| self.pools.get(index)).or(self.pools.first());
        chosen.map_or(PoolId::default(), |(pool, _)| *pool)
    }

    /// The pools, for other numbers.
    pub fn pools_mut(&mut self) -> impl Iterator<Item = &mut PoolId> {
        self.pools.iter_mut().map(|(pool, _)| pool)
    }

    /// The pools and their weights.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, u32)> {
        self.pools.iter().map(|(pool, share)| (*pool, share.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_gets_the_same_pool_whatever_the_order_of_the_file() {
        let (a, b) = ((PoolId(1), "stable", 90), (PoolId(2), "canary", 10));
        let (one, other) = (Split::new(Key::Client, [a, b]), Split::new(Key::Client, [b, a]));
        let mut canary = 0;
        for client in 0..1000_u32 {
            let key = stable_hash(&client.to_be_bytes());
            let pool = one.choose(key, |_| true);
            assert_eq!(pool, other.choose(key, |_| true));
            assert_eq!(pool, one.choose(key, |_| false), "where none can, it is as if all could");
            assert_eq!(one.choose(key, |pool| pool == PoolId(1)), PoolId(1));
            canary += u32::from(pool == PoolId(2));
        }
        assert!((70..130).contains(&canary), "{canary} of 1000");
        assert_eq!(Split::new(Key::None, []).choose(1, |_| true), PoolId(0));
        let (off, on) = ((PoolId(1), "off", 0), (PoolId(2), "on", 1));
        let split = Split::new(Key::None, [off, on]);
        assert_eq!(split.choose(1, |pool| pool == PoolId(1)), PoolId(2), "a weight of 0 stays 0");
    }
}
