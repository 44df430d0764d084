//! How a file looked when it was read, to tell later whether it has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Size, time of change and inode of a file or a folder; `None` while it cannot be looked at.
pub type Stamp = Option<(u64, i64, i64, u64)>;

/// How a file looks now. Links are followed.
pub fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.len(), found.mtime(), found.mtime_nsec(), found.ino()))
}

/// A file or a folder, and how it looked right before it was read: what changes during the reading is a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// Where it is.
    pub path: PathBuf,
    /// How it looked.
    pub stamp: Stamp,
}

impl Stamped {
    /// A file as it is now.
    pub fn now(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Stamped { stamp: stamp(&path), path }
    }
}
