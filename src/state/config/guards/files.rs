//! Files that guards are read from.

use super::super::units;
use crate::base::files::{self, unreadable};
use crate::base::network::Network;
use std::io::Read;
use std::path::Path;

/// The largest file of networks or users that is read, in bytes.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Faults of one file that are told.
const FILE_FAULTS: usize = 5;

/// The networks of a file: one in each line, `#` begins a comment.
pub(in super::super) fn networks_of(file: &Path) -> Result<Vec<Network>, String> {
    let text = read_file(file)?;
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

/// The text of a file, or a sentence that says why it cannot be read.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| unreadable(path, &error);
    let mut text = String::new();
    let file = files::open(path).map_err(cannot)?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("{} is larger than {}", path.display(), units::show_size(FILE_MAX)));
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
