//! One queue in front of all slots: each request goes to the fastest slot that is free, or to the first that becomes free.

use super::arrivals::{Source, nanos};
use super::{Description, Report};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The same requests of an open loop on one queue in front of all slots. Pauses, failures and other behaviours are left
/// out: this is what the slots could do at best. A closed loop has no requests without responses, so its report is empty.
pub fn ideal(description: &Description) -> Report {
    let mut report = Report::default();
    let mut source = Source::new(description);
    let speeds: Vec<f64> = description.servers.iter().map(|server| server.speed).collect();
    // Free slots, the fastest first, and busy ones by the time when they are free.
    let mut free = BinaryHeap::new();
    let mut busy: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    for (at, server) in description.servers.iter().enumerate() {
        (0..server.slots).for_each(|_| free.push(((server.speed * 1e6) as u64, at)));
    }
    while let Some(arrival) = source.next() {
        while let Some(Reverse((until_ns, rank, at))) = busy.peek().copied() {
            if until_ns > arrival.at_ns {
                break;
            }
            busy.pop();
            free.push((rank, at));
        }
        let (begins_ns, rank, at) = match free.pop() {
            Some((rank, at)) => (arrival.at_ns, rank, at),
            None => match busy.pop() {
                Some(Reverse((until_ns, rank, at))) => (until_ns, rank, at),
                None => break,
            },
        };
        let ends_ns = begins_ns + (arrival.work_ns as f64 / speeds[at]) as u64;
        busy.push(Reverse((ends_ns, rank, at)));
        if arrival.at_ns >= nanos(description.warm_up) {
            report.requests += 1;
            report.responded(ends_ns - arrival.at_ns);
        }
    }
    report.finish();
    report
}
