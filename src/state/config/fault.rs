//! One fault of a configuration, for a person to read.

use std::fmt;

/// One fault of a file: where, what, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The position in the tree, as in `servers.list[2].weight`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub advice: String,
    /// The file as the operator named it; `None` when a text was read.
    pub file: Option<String>,
    /// From 1; `None` when something is missing.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// The line of the source with a caret under the position.
    pub excerpt: Option<String>,
}

impl Fault {
    /// A fault of a file as a whole.
    pub(super) fn of_file(file: &str, advice: String) -> Self {
        let file = Some(file.to_owned());
        Fault { path: String::new(), advice, file, line: None, column: None, excerpt: None }
    }
}

impl fmt::Display for Fault {
    /// `config.json:12:15: servers.list[2].weight: 0 is too small; write 1 to 1000`, then the excerpt.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{line}:{column}"),
            _ => String::new(),
        };
        let parts = [self.file.as_deref().unwrap_or(""), &place].into_iter().filter(|part| !part.is_empty());
        let place = parts.collect::<Vec<_>>().join(":");
        let parts = [&place, &self.path, &self.advice].into_iter().filter(|part| !part.is_empty());
        let parts: Vec<&str> = parts.map(String::as_str).collect();
        out.write_str(&parts.join(": "))?;
        self.excerpt.as_ref().map_or(Ok(()), |excerpt| write!(out, "\n{excerpt}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_as_much_as_is_known() {
        let whole = Fault::of_file("config.json", "is missing".to_owned());
        assert_eq!(whole.to_string(), "config.json: is missing");
        let placed = Fault {
            path: "servers.list[2].weight".to_owned(),
            advice: "0 is too small; write 1 to 1000".to_owned(),
            line: Some(12),
            column: Some(15),
            excerpt: Some("   12 | x\n      | ^".to_owned()),
            ..whole.clone()
        };
        let said = "config.json:12:15: servers.list[2].weight: 0 is too small; write 1 to 1000\n   12 | x\n      | ^";
        assert_eq!(placed.to_string(), said);
        assert_eq!(Fault { path: "a".to_owned(), file: None, ..whole.clone() }.to_string(), "a: is missing");
        assert_eq!(Fault { file: None, ..placed }.to_string(), said.strip_prefix("config.json:").unwrap());
    }
}
