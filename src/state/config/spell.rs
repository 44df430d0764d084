//! Suggestions for misspelt words.

/// Longer words are not compared: no key is, and the comparison is quadratic.
const WORD_MAX: usize = 64;

/// The known word that is closest to the one written, if any is close; case does not matter, and `-` counts as `_`.
pub(super) fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if written.len() > WORD_MAX {
        return None;
    }
    let written = written.to_ascii_lowercase().replace('-', "_");
    let far = 1 + written.len() / 4;
    let apart = known.into_iter().map(|word| (distance(&written, word), word));
    apart.filter(|(distance, _)| *distance <= far).min_by_key(|(distance, _)| *distance).map(|(_, word)| word)
}

/// Number of edits from one word to the other; one edit when the known word ends with the written one, as in `port` for
/// `load_balancer_port`, when it begins with it, as in `cert` for `certificate`, and when it is a word of it, as in
/// `request_timeout` for `request`.
fn distance(written: &str, known: &str) -> usize {
    let is_tail = known.strip_suffix(written).is_some_and(|head| head.ends_with('_'));
    let is_head = written.len() >= 4 && known.starts_with(written);
    let is_word = known.len() >= 4 && written.split('_').any(|word| word == known);
    if is_tail || is_head || is_word { 1 } else { strsim::osa_distance(written, known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        let known = ["load_balancer_port", "bind", "max_workers", "min_workers", "weight", "queue_capacity"];
        for (written, meant) in [
            ("wieght", Some("weight")),
            ("Weight", Some("weight")),
            ("max_worker", Some("max_workers")),
            ("maxWorkers", Some("max_workers")),
            ("max-workers", Some("max_workers")),
            ("port", Some("load_balancer_port")),
            ("capacity", Some("queue_capacity")),
            ("queue", Some("queue_capacity")),
            ("weight_factor", Some("weight")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
        assert_eq!(nearest(&"weight".repeat(1000), known), None);
    }
}
