//! Requests of a pool that wait because none of its servers can be connected to: how many there are, so that there are never too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The requests of a pool that wait for a server to come up.
#[derive(Debug, Default)]
pub struct Awaiting(AtomicUsize);

/// One of them, until this is dropped.
#[derive(Debug)]
pub struct Awaits(Arc<Awaiting>);

impl Awaiting {
    /// One more; `None`: there are `most` already.
    pub fn begin(self: &Arc<Self>, most: usize) -> Option<Awaits> {
        let add = |count: usize| (count < most).then_some(count + 1);
        self.0.fetch_update(Relaxed, Relaxed, add).ok()?;
        Some(Awaits(Arc::clone(self)))
    }
}

impl Drop for Awaits {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_wait_than_may() {
        let awaiting = Arc::new(Awaiting::default());
        let (one, two) = (awaiting.begin(2), awaiting.begin(2));
        assert!(one.is_some() && two.is_some() && awaiting.begin(2).is_none());
        drop(one);
        assert!(awaiting.begin(2).is_some());
    }
}
