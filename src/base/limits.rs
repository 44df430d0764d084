//! What the operating system allows this process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Takes all the descriptors that there are: every connection needs one, and the usual soft limit is from a
/// time of few. Where that fails, the limit stays as it is.
pub fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the descriptor limit stays as it is: {error}");
    }
}

/// The descriptors that this process may have; `usize::MAX` when there is no limit.
pub fn descriptors() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_descriptors();
        let hard = getrlimit(Resource::Nofile).maximum.map_or(usize::MAX, |limit| limit as usize);
        assert_eq!(descriptors(), hard);
    }
}
