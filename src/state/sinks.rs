//! Where a proxy tells of its requests: the access log and traces.

use super::access::AccessSink;
use super::spans::SpanSink;

/// Where a proxy tells of its requests; nowhere by default.
#[derive(Debug, Default)]
pub struct Sinks {
    /// A line for each.
    pub access: Option<AccessSink>,
    /// A span for each that is recorded.
    pub spans: Option<SpanSink>,
}
