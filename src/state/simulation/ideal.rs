//! One queue in front of all slots: each request goes to the fastest slot that is free, or to the first that becomes free.

use super::arrivals::{Source, nanos};
use super::service::{Times, ends_ns};
use super::{Description, Report};
use crate::base::ids::PoolId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The same requests of an open loop on one queue in front of all slots of their pool. It knows when a server works, pauses
/// and is cold: this is what the slots could do at best. A closed loop has no requests without responses, so its report is
/// empty.
pub fn ideal(description: &Description) -> Report {
    let mut report = Report::of(description);
    let mut source = Source::new(description);
    let times: Vec<_> = (0..description.servers.len()).map(|at| Times::of(description, at)).collect();
    let mut pools: BTreeMap<PoolId, Slots> = BTreeMap::new();
    for (at, server) in description.servers.iter().enumerate() {
        let slots = pools.entry(server.pool).or_default();
        (0..server.slots).for_each(|_| slots.free.push(((server.speed * 1e6) as u64, at)));
    }
    while let Some(arrival) = source.next() {
        let is_counted = arrival.at_ns >= nanos(description.warm_up);
        report.requests += u64::from(is_counted);
        let slots = pools.entry(arrival.pool).or_default();
        let Some((begins_ns, rank, at)) = slots.take(arrival.at_ns, &times) else {
            report.rejects("no_server", arrival.at_ns, is_counted);
            continue;
        };
        report.sent(begins_ns, at);
        let cold_ns = times[at].cold_since_ns(begins_ns);
        let ends_ns = ends_ns(&description.servers[at], cold_ns, begins_ns, arrival.work_ns);
        slots.busy.push(Reverse((ends_ns, rank, at)));
        if is_counted {
            report.responded(arrival.at_ns, ends_ns - arrival.at_ns);
        }
    }
    report.finish();
    report
}

/// Free slots, the fastest first, and busy ones by the time when they are free.
#[derive(Default)]
struct Slots {
    free: BinaryHeap<(u64, usize)>,
    busy: BinaryHeap<Reverse<(u64, u64, usize)>>,
}

impl Slots {
    /// When a request that has come can begin, and on which slot; `None`: on none, ever.
    fn take(&mut self, at_ns: u64, times: &[Times]) -> Option<(u64, u64, usize)> {
        while let Some(Reverse((until_ns, rank, at))) = self.busy.peek().copied() {
            if until_ns > at_ns {
                break;
            }
            self.busy.pop();
            self.free.push((rank, at));
        }
        while let Some((rank, at)) = self.free.pop() {
            match times[at].next(at_ns) {
                Some(works_ns) if works_ns == at_ns => return Some((at_ns, rank, at)),
                Some(works_ns) => self.busy.push(Reverse((works_ns, rank, at))),
                None => {}
            }
        }
        while let Some(Reverse((until_ns, rank, at))) = self.busy.pop() {
            match times[at].next(until_ns) {
                Some(works_ns) if works_ns == until_ns => return Some((until_ns, rank, at)),
                Some(works_ns) => self.busy.push(Reverse((works_ns, rank, at))),
                None => {}
            }
        }
        None
    }
}
