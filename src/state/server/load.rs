//! What a server says of its own load: in reports, and in the headers of its responses.

use super::{Server, millis};
use crate::base::time::Moment;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Of the responses of a server one in so long is read for its utilization: the mean that it is compared with takes seconds,
/// and the next choices have it long before a server changes.
const UTILIZATION_EVERY: Duration = Duration::from_millis(50);

impl Server {
    /// Records a load report: how many requests the server has queued and in progress.
    pub fn reports(&self, load: f32, now: Moment) {
        let mut reports = self.reports.lock();
        *reports = reports.with(load, now);
        drop(reports);
        self.note_if_high(now);
    }

    /// The last load report; `None` when there is none or it is too old.
    pub fn reported(&self, now: Moment) -> Option<f32> {
        self.reports.lock().last(now)
    }

    /// Whether the header of a response should be read now.
    pub fn is_utilization_due(&self, now: Moment) -> bool {
        let at = self.utilization_at_ms.load(Relaxed);
        at == 0 || u128::from(millis(now).saturating_sub(at)) >= UTILIZATION_EVERY.as_millis()
    }

    /// Records how much of the server is in use, as it says; `None`: it did not say.
    pub fn reports_utilization(&self, value: Option<f32>, now: Moment) {
        self.utilization_at_ms.store(millis(now).max(1), Relaxed);
        if let Some(value) = value {
            let mut utilization = self.utilization.lock();
            *utilization = utilization.with(value, now);
            drop(utilization);
            self.note_if_high(now);
        }
    }

    /// A header was not understood; true for the first one of this server.
    pub fn misreports(&self, now: Moment) -> bool {
        self.reports_utilization(None, now);
        !self.has_misreported.swap(true, Relaxed)
    }

    /// How much of it is in use, 0 to 1; `None` when it does not say, or has not for a while.
    pub fn utilization(&self, now: Moment) -> Option<f32> {
        self.utilization.lock().last(now)
    }

    pub(super) fn report_factor(&self, now: Moment) -> f32 {
        if self.is_report_high.load(Relaxed) { self.factor(now) } else { 1.0 }
    }

    /// The higher of the two: both are about the same work.
    fn factor(&self, now: Moment) -> f32 {
        let report = self.reports.lock().factor(now);
        self.utilization.lock().factor(now).max(report)
    }

    fn note_if_high(&self, now: Moment) {
        self.is_report_high.store(self.factor(now) > 1.0, Relaxed);
    }
}
