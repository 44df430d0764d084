//! The one room of `unsafe`: calls of the operating system that no safe crate offers.

#![allow(unsafe_code)]

/// Puts the calling thread under `SCHED_BATCH`, so that a wake-up does not pre-empt the thread that caused
/// it. Measured: without it the cost of a request doubles at 256 connections. Says whether it worked;
/// where it does not exist (macOS) nothing is lost but that.
pub fn schedule_as_batch() -> bool {
    #[cfg(target_os = "linux")]
    {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: pid 0 is the calling thread, and `param` outlives the call, which only reads it.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_can_be_put_under_batch_scheduling() {
        assert!(std::thread::spawn(super::schedule_as_batch).join().unwrap());
    }
}
