//! A map of bounded size, in the order of last use: for a new key that finds no room, the key that was used least recently
//! goes.

use super::key::{ByKey, Key};
use std::collections::HashMap;

/// A map from keys to values, with room for so many.
#[derive(Debug)]
pub struct Recent<V> {
    map: HashMap<Key, u32, ByKey>,
    /// What the map points to: a list, linked in the order of last use.
    places: Vec<Place<V>>,
    most: usize,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Place<V> {
    key: Key,
    value: V,
    newer: u32,
    older: u32,
}

/// No place.
const NONE: u32 = u32::MAX;

impl<V> Recent<V> {
    /// A map with room for so many keys, 1 or more. It takes memory as they come.
    pub fn new(most: usize) -> Self {
        let most = most.clamp(1, NONE as usize - 1);
        Recent { map: HashMap::default(), places: Vec::new(), most, newest: NONE, oldest: NONE }
    }

    /// The value of a key, which is the one used last from now on.
    pub fn get(&mut self, key: Key) -> Option<&mut V> {
        let at = *self.map.get(&key)?;
        if self.newest != at {
            self.take_out(at);
            self.put_first(at);
        }
        self.places.get_mut(at as usize).map(|place| &mut place.value)
    }

    /// Sets the value of a key. Where the value that was used least recently is worth nothing any more, its place is
    /// taken even when there is room.
    pub fn set(&mut self, key: Key, value: V, is_spent: impl Fn(&V) -> bool) {
        if let Some(known) = self.get(key) {
            *known = value;
            return;
        }
        let is_full = self.places.len() >= self.most;
        let place = Place { key, value, newer: NONE, older: NONE };
        let at = match self.places.get(self.oldest as usize) {
            Some(oldest) if is_full || is_spent(&oldest.value) => {
                let (at, old) = (self.oldest, oldest.key);
                self.map.remove(&old);
                self.take_out(at);
                self.places[at as usize] = place;
                at
            }
            _ => {
                self.places.push(place);
                (self.places.len() - 1) as u32
            }
        };
        self.map.insert(key, at);
        self.put_first(at);
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn take_out(&mut self, at: u32) {
        let Place { newer, older, .. } = self.places[at as usize];
        match self.places.get_mut(newer as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
        match self.places.get_mut(older as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn put_first(&mut self, at: u32) {
        let before = self.newest;
        let place = &mut self.places[at as usize];
        (place.newer, place.older) = (NONE, before);
        match self.places.get_mut(before as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_recently_used_key_goes_first() {
        let (mut recent, keys) = (Recent::new(3), Keys::default());
        let key = |name: u8| keys.of(&[&[name]]);
        (1..=3).for_each(|name| recent.set(key(name), name, |_| false));
        assert_eq!(recent.get(key(1)), Some(&mut 1), "it is newer than 2 now");
        recent.set(key(4), 4, |_| false);
        assert_eq!(recent.get(key(2)), None);
        assert!([1, 3, 4].iter().all(|name| recent.get(key(*name)) == Some(&mut name.clone())));
        assert_eq!((recent.len(), recent.places.len()), (3, 3));
    }

    #[test]
    fn a_value_that_is_spent_makes_room_for_a_new_key() {
        let (mut recent, keys) = (Recent::new(3), Keys::default());
        (1..100u8).for_each(|name| recent.set(keys.of(&[&[name]]), name, |_| true));
        assert_eq!((recent.len(), recent.places.len()), (1, 1));
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_does(most in 1usize..6, asked in prop::collection::vec((0u8..10, any::<bool>()), 1..200)) {
            let (mut recent, keys) = (Recent::new(most), Keys::default());
            let mut list: Vec<u8> = Vec::new();
            for (name, sets) in asked {
                let key = keys.of(&[&[name]]);
                let known = list.iter().position(|other| *other == name);
                prop_assert_eq!(recent.get(key).copied(), known.map(|_| name));
                if let Some(at) = known {
                    list.remove(at);
                    list.push(name);
                }
                if sets {
                    recent.set(key, name, |_| false);
                    list.retain(|other| *other != name);
                    list.push(name);
                    if list.len() > most {
                        list.remove(0);
                    }
                }
                prop_assert_eq!(recent.len(), list.len());
            }
        }
    }
}
