//! Which files have secrets in them: those that variables stand for, and those in which a secret is written as it is.

use super::document::Document;
use super::reader::{join, shown};
use super::tree::{Node, Value, Variable};
use super::variables::is_secret_name;
use std::path::{Path, PathBuf};

/// A file, and the key whose secret it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The key, as in `admin.token`.
    pub key: String,
    /// The file.
    pub file: PathBuf,
}

/// The secrets of a document, in the order of the text; `folder` is where relative paths start.
pub(super) fn secrets(document: &Document, folder: &Path) -> Vec<Secret> {
    let mut found = Vec::new();
    collect(document, folder, &document.node, "", &mut found);
    found
}

fn collect(document: &Document, folder: &Path, node: &Node, path: &str, found: &mut Vec<Secret>) {
    match (&node.value, &node.variables) {
        (Value::Object(entries), _) => {
            entries.iter().for_each(|entry| {
                collect(document, folder, &entry.node, &join(path, &shown(&entry.key)), found)
            });
        }
        (Value::List(nodes), _) => {
            let each = nodes.iter().enumerate();
            each.for_each(|(at, node)| collect(document, folder, node, &format!("{path}[{at}]"), found));
        }
        (Value::Text(_), Some(variables)) if is_named_so(path) => {
            let files = variables.iter().filter_map(|variable| match variable {
                Variable::File(file) => Some(folder.join(file)),
                _ => None,
            });
            found.extend(files.map(|file| Secret { key: path.to_owned(), file }));
        }
        (Value::Text(_), None) if is_secret(path) => {
            let file = document.source.file(node.at).map(PathBuf::from);
            found.extend(file.map(|file| Secret { key: path.to_owned(), file }));
        }
        _ => {}
    }
}

/// Whether a key has a name that those of secrets have.
fn is_named_so(path: &str) -> bool {
    is_secret_name(path.rsplit('.').next().unwrap_or(path))
}

/// Whether the text of a key is a secret as it stands there.
fn is_secret(path: &str) -> bool {
    let is_header = path.starts_with("tracing.headers.");
    path == "admin.token" || path.ends_with("sticky.secret") || (is_header && is_named_so(path))
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use std::fs;

    #[test]
    fn files_of_variables_and_files_with_a_secret_in_them_are_found() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("c.json");
        let text = r#"{ "include": "more.json", "admin": { "token": "${file:token}" }, "log": { "level": "${file:level}" },
            "tracing": { "endpoint": "http://h", "headers": { "Authorization": "Bearer abc", "X-Name": "n" } } }"#;
        fs::write(&file, text).unwrap();
        fs::write(
            root.path().join("more.json"),
            r#"{ "servers": { "sticky": { "cookie": "c", "secret": "0123456789abcdef" } } }"#,
        )
        .unwrap();
        fs::write(root.path().join("token"), "0123456789abcdef").unwrap();
        fs::write(root.path().join("level"), "info").unwrap();
        let config = load(&file).unwrap();
        let found: Vec<_> = config.secrets.iter().map(|secret| (&*secret.key, secret.file.clone())).collect();
        let of = |name: &str| root.path().join(name);
        assert_eq!(
            found,
            [
                ("admin.token", of("token")),
                ("tracing.headers.Authorization", of("c.json")),
                ("servers.sticky.secret", of("more.json")),
            ]
        );
    }
}
