//! Placeholder texts that were never replaced by a real value.

/// Tokens of documentation and of first drafts, without punctuation.
const STAND_INS: [&str; 16] = [
    "changeme",
    "changethis",
    "replaceme",
    "secret",
    "supersecret",
    "mysecret",
    "password",
    "token",
    "mytoken",
    "yourtoken",
    "admin",
    "admintoken",
    "placeholder",
    "todo",
    "example",
    "test",
];

/// Whether other programs would expand it: `${NAME}`, `{env.NAME}`, `{$NAME}`, `{{ name }}`, `$(command)`, `$NAME`.
pub(super) fn is_variable(text: &str) -> bool {
    let has = |open: &str, close: char| text.find(open).is_some_and(|at| text[at..].contains(close));
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
    };
    has("${", '}')
        || has("{{", '}')
        || has("{$", '}')
        || has("{env.", '}')
        || has("{file.", '}')
        || has("$(", ')')
        || text.strip_prefix('$').is_some_and(is_name)
        || text.strip_prefix('%').and_then(|rest| rest.strip_suffix('%')).is_some_and(is_name)
}

/// Whether a secret is one that an attacker would try first.
pub(super) fn is_stand_in(secret: &str) -> bool {
    let plain: String =
        secret.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let is_one_letter = plain.chars().all(|each| plain.starts_with(each));
    is_one_letter
        || STAND_INS.contains(&plain.as_str())
        || (secret.starts_with('<') && secret.ends_with('>'))
        || ["changeme", "replaceme", "placeholder", "yourtoken", "yoursecret"]
            .iter()
            .any(|word| plain.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_expanded_elsewhere_is_a_variable() {
        for text in [
            "${EVENKEEL_ADMIN_TOKEN}",
            "${X:-default}",
            "Bearer ${X}",
            "{env.X}",
            "{$X}",
            "{{ .Values.token }}",
            "{{token}}",
            "$TOKEN",
            "$_x1",
            "$(cat token)",
            "%TOKEN%",
            "http://${HOST}:80",
            "{file./run/token}",
        ] {
            assert!(is_variable(text), "{text}");
        }
        for text in ["", "$", "a$b", "$5", "$2b$10$abcdefghij", "{}", "{a}", "$ee", "100%", "/a?b=$c"] {
            assert_eq!(is_variable(text), text == "$ee", "{text}");
        }
    }

    #[test]
    fn secrets_that_are_tried_first_are_stand_ins() {
        for text in [
            "changeme",
            "CHANGE_ME",
            "change-me-please",
            "<token>",
            "xxxxxxxxxxxxxxxxxxxx",
            "secret",
            "your-token-here",
        ] {
            assert!(is_stand_in(text), "{text}");
        }
        for text in ["0123456789abcdef", "correct-horse-battery", "k7Hq2vW9"] {
            assert!(!is_stand_in(text), "{text}");
        }
    }
}
