//! Text in the columns of a terminal.

/// Columns of what is printed: those of a terminal as it opens.
pub(super) const WIDTH: usize = 80;

/// The words in lines of [`WIDTH`]; the first line begins with `first`, the others with `next`. A word that is longer has a line of
/// its own.
pub(super) fn wrapped(text: &str, first: &str, next: &str) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let mut is_begin = true;
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if !is_begin && line + 1 + word.chars().count() > WIDTH {
            lines.push(next.to_owned());
            is_begin = true;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if is_begin { "" } else { " " });
            line.push_str(word);
        }
        is_begin = false;
    }
    lines
}
