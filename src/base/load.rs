//! The processors that this process may use.

/// Processors that this process may use, at least one; the quota of a container counts.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
