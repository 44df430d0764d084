//! Layer 0: a list that other threads add to and one takes, which costs the one that takes no lock while nothing is there.

#[cfg(loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{
        AtomicBool,
        Ordering::{Acquire, Relaxed, Release},
    },
};
#[cfg(not(loom))]
use parking_lot::{Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

/// What was added and not taken yet.
#[derive(Debug)]
pub struct Called<T> {
    list: Mutex<Vec<T>>,
    /// There is something in it. Both are changed under the lock.
    is_there: AtomicBool,
}

impl<T> Default for Called<T> {
    fn default() -> Self {
        Called { list: Mutex::new(Vec::new()), is_there: AtomicBool::new(false) }
    }
}

impl<T> Called<T> {
    /// Adds one. The one that takes is woken after this.
    pub fn push(&self, one: T) {
        let mut list = self.lock();
        list.push(one);
        self.is_there.store(true, Release);
    }

    /// Takes all that is there. What was added before a wake-up is seen by a look after it.
    pub fn take(&self, into: &mut Vec<T>) {
        if self.is_there.load(Acquire) {
            let mut list = self.lock();
            self.is_there.store(false, Relaxed);
            into.append(&mut list);
        }
    }

    #[cfg(not(loom))]
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.list.lock()
    }

    #[cfg(loom)]
    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.list.lock().unwrap()
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test --release --lib called`
#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use loom::sync::{Arc, Condvar};
    use loom::thread;

    /// The wake-ups that were not waited for yet: as an eventfd counts them.
    #[derive(Default)]
    struct Waker(Mutex<u32>, Condvar);

    impl Waker {
        fn wake(&self) {
            *self.0.lock().unwrap() += 1;
            self.1.notify_one();
        }

        fn wait(&self) {
            let mut count = self.0.lock().unwrap();
            while *count == 0 {
                count = self.1.wait(count).unwrap();
            }
            *count = 0;
        }
    }

    #[test]
    fn all_that_is_called_is_taken_once_and_no_wake_up_is_lost() {
        loom::model(|| {
            let shared = Arc::new((Called::default(), Waker::default()));
            for one in 0..2 {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.0.push(one);
                    shared.1.wake();
                });
            }
            let mut taken = Vec::new();
            // A worker that slept beside what is there would be a deadlock, which the model reports.
            while taken.len() < 2 {
                shared.1.wait();
                shared.0.take(&mut taken);
            }
            taken.sort_unstable();
            assert_eq!(taken, [0, 1]);
        });
    }
}
