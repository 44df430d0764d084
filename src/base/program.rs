//! The command line of this program, for hints that can be typed again.

use std::path::PathBuf;
use std::sync::OnceLock;

/// The program as it was called, such as `target/release/evenkeel`; quoted if a shell needs that.
pub fn name() -> String {
    let called = std::env::args_os().next().map(|called| called.to_string_lossy().into_owned());
    quoted(&called.filter(|called| !called.is_empty()).unwrap_or("evenkeel".to_owned()))
}

/// The file that this program was started from, as a path that leads to what is there now: a link that leads elsewhere since, and
/// a file that was replaced, count as they are. Found at the first call, which belongs to the start: once the file was renamed, the
/// system only knows the program under its new name.
pub fn path() -> Option<PathBuf> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    PATH.get_or_init(find).clone()
}

fn find() -> Option<PathBuf> {
    let called = PathBuf::from(std::env::args_os().next()?);
    let found = match called.components().count() {
        1 => std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|folder| folder.join(&called))
            .find(|path| path.is_file()),
        _ => std::path::absolute(&called).ok().filter(|path| path.is_file()),
    };
    found.or_else(|| std::env::current_exe().ok())
}

/// A word of a command line, quoted for a shell.
pub fn quoted(word: &str) -> String {
    let is_plain = |each: char| each.is_ascii_alphanumeric() || "/._-+:=,@%".contains(each);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        for (word, shown) in [
            ("target/release/evenkeel", "target/release/evenkeel"),
            ("/a b/evenkeel", "'/a b/evenkeel'"),
            ("it's", r"'it'\''s'"),
            ("$x", "'$x'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), shown);
        }
    }
}
