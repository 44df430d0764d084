//! Files that guards are read from.

use super::super::units;
use crate::base::files::{self, unreadable};
use crate::base::network::Network;
use std::io::Read;
use std::path::Path;

/// The largest file of networks or users that is read, in bytes.
pub(super) const LIST_MAX: u64 = 16 * 1024 * 1024;
/// Faults of one file that are told.
const FILE_FAULTS: usize = 5;

/// The networks of a file: one in each line, `#` begins a comment.
pub(in super::super) fn networks_of(file: &Path) -> Result<Vec<Network>, String> {
    let text = read_file(file, LIST_MAX)?;
    let (mut networks, mut faults) = (Vec::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line.parse() {
            _ if line.is_empty() => {}
            Ok(network) => networks.push(network),
            Err(fault) => faults.push(format!("line {}: {fault}", at + 1)),
        }
    }
    if faults.is_empty() { Ok(networks) } else { Err(in_file(file, faults)) }
}

/// The text of a file of at most `max` bytes, or a sentence that says why it cannot be read.
pub(super) fn read_file(path: &Path, max: u64) -> Result<String, String> {
    let cannot = |error: std::io::Error| unreadable(path, &error);
    let mut text = String::new();
    let file = files::open(path).map_err(cannot)?;
    file.take(max + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > max {
        let advice = "write a smaller one";
        return Err(format!("{} is larger than {}; {advice}", path.display(), units::show_size(max)));
    }
    Ok(text)
}

/// The first faults of a file as one.
pub(super) fn in_file(file: &Path, mut faults: Vec<String>) -> String {
    let rest = faults.len().saturating_sub(FILE_FAULTS);
    faults.truncate(FILE_FAULTS);
    if rest > 0 {
        faults.push(format!("and {rest} more"));
    }
    format!("{}: {}", file.display(), faults.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_large_is_told_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        std::fs::write(&path, "x".repeat(1025)).unwrap();
        assert_eq!(read_file(&path, 1025).unwrap().len(), 1025);
        assert!(read_file(&path, 1024).unwrap_err().ends_with("is larger than 1KiB; write a smaller one"));
    }
}
