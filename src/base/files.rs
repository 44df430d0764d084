//! Why a file cannot be read, in words for an operator.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// A sentence that names the file and says what to do. A relative path is told with the folder that it begins at.
pub fn unreadable(path: &Path, error: &Error) -> String {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => match std::env::current_dir() {
            Ok(folder) if path.is_relative() => {
                format!("there is no file {shown} in {}; look at the path", folder.display())
            }
            _ => format!("there is no file {shown}; look at the path"),
        },
        ErrorKind::IsADirectory => format!("{shown} is a folder; name a file in it"),
        ErrorKind::PermissionDenied => {
            format!(
                "{shown} cannot be read by this user; give it the right to, or start with a user that has it"
            )
        }
        ErrorKind::InvalidData => format!("{shown} is not UTF-8 text; save it as UTF-8"),
        _ => format!("{shown} cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_told_with_the_folder_where_it_was_looked_for() {
        let missing = Error::from(ErrorKind::NotFound);
        let folder = std::env::current_dir().unwrap();
        let expected = format!("there is no file a/b.pem in {}; look at the path", folder.display());
        assert_eq!(unreadable(Path::new("a/b.pem"), &missing), expected);
        assert_eq!(
            unreadable(Path::new("/a/b.pem"), &missing),
            "there is no file /a/b.pem; look at the path"
        );
        let denied = unreadable(Path::new("k"), &Error::from(ErrorKind::PermissionDenied));
        assert!(denied.starts_with("k cannot be read by this user; "), "{denied}");
    }
}
