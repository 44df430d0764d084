//! Pauses of a server.

use super::Pause;
use super::arrivals::nanos;

/// When work that begins now ends, with the pauses on the way.
pub(super) fn paused(pause: Option<Pause>, now_ns: u64, work_ns: u64) -> u64 {
    let Some(pause) = pause else { return now_ns + work_ns };
    let (every_ns, lasts_ns, first_ns) = (nanos(pause.every).max(1), nanos(pause.lasts), nanos(pause.first));
    let (mut at_ns, mut left_ns) = (now_ns, work_ns);
    loop {
        if at_ns < first_ns {
            let until_ns = first_ns.min(at_ns + left_ns);
            left_ns -= until_ns - at_ns;
            at_ns = until_ns;
        } else {
            let phase_ns = (at_ns - first_ns) % every_ns;
            if phase_ns < lasts_ns {
                at_ns += lasts_ns - phase_ns;
            }
            let phase_ns = (at_ns - first_ns) % every_ns;
            let runs_ns = left_ns.min(every_ns - phase_ns.max(lasts_ns));
            left_ns -= runs_ns;
            at_ns += runs_ns;
        }
        if left_ns == 0 {
            return at_ns;
        }
    }
}
