//! How a file looked when it was read, to tell later whether it has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Size, inode and times of a file or a folder; `None` while it cannot be looked at. The first time is that of the contents, which
/// programs set as they like; the second one is the system's, and also tells of other permissions.
pub type Stamp = Option<(u64, u64, [i64; 2], [i64; 2])>;

/// How a file looks now. Links are followed.
pub fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    let times = ([found.mtime(), found.mtime_nsec()], [found.ctime(), found.ctime_nsec()]);
    Some((found.len(), found.ino(), times.0, times.1))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_contents_of_the_same_size_and_time_are_a_change() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "14s").unwrap();
        let (before, times) = (stamp(file.path()), fs::metadata(&file).unwrap().modified().unwrap());
        // The system's clock for files is coarser than two calls are apart.
        while stamp(file.path()) == before {
            fs::write(&file, "15s").unwrap();
            file.as_file().set_modified(times).unwrap();
        }
    }
}
