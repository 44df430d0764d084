//! Layer 0: whether a worker sleeps, in such a way that work which is pushed at that moment is not left lying: either the
//! worker sees it before it sleeps, or the one that pushed it sees that the worker sleeps, and wakes it.

#[cfg(loom)]
use loom::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    fence,
};
#[cfg(not(loom))]
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
    fence,
};

/// Set while a worker sleeps, or is about to.
#[derive(Debug)]
pub struct SleepFlag(AtomicBool);

impl Default for SleepFlag {
    fn default() -> Self {
        SleepFlag(AtomicBool::new(false))
    }
}

impl SleepFlag {
    /// The worker is about to sleep. `has_work` looks for work; true: there is some, and it must not sleep.
    pub fn set(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.0.store(true, Relaxed);
        // Between the flag and the look, as between a push and the look at the flag.
        fence(SeqCst);
        has_work()
    }

    /// The worker is awake. One that does not see that yet wakes it for nothing.
    pub fn clear(&self) {
        self.0.store(false, Relaxed);
    }

    /// After work was pushed: whether the worker sleeps.
    pub fn is_set(&self) -> bool {
        fence(SeqCst);
        self.0.load(SeqCst)
    }

    /// Takes it upon the caller to wake the worker. False: it is awake, or another one wakes it.
    pub fn take(&self) -> bool {
        self.0.swap(false, SeqCst)
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test --release --lib sleep`
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    #[test]
    fn work_that_is_pushed_is_seen_or_its_worker_is_woken() {
        loom::model(|| {
            let shared = Arc::new((SleepFlag::default(), Mutex::new(0)));
            let pushes: Vec<_> = (0..2)
                .map(|_| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        *shared.1.lock().unwrap() += 1;
                        shared.0.is_set() && shared.0.take()
                    })
                })
                .collect();
            let seen = shared.0.set(|| *shared.1.lock().unwrap() > 0);
            let woken = pushes.into_iter().map(|push| push.join().unwrap()).fold(false, |any, one| any | one);
            assert!(seen || woken, "it sleeps beside work");
        });
    }
}
