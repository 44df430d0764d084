//! A configuration file as it was read: it can be refined again when only files that it names have changed, compared with
//! another one, and written down with its variables as they stand in it.

use super::diff::{self, Difference};
use super::document::Document;
use super::load::refined;
use super::tree::{Node, Variable};
use super::{Config, Fault};
use crate::state::stamp::Stamped;
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration file, and those that it includes, as they were read.
pub struct Written {
    path: PathBuf,
    document: Document,
}

/// What came of a configuration file.
#[derive(Debug)]
pub struct Refined {
    /// The configuration, or every fault of it.
    pub config: Result<Config, Vec<Fault>>,
    /// The files that it names and whose contents belong to it, those that could not be read among them.
    pub contents: Vec<Stamped>,
}

impl Written {
    /// Reads a file, and those that it includes. Fails if there is no JSON to go on with.
    pub fn read(path: &Path) -> Result<Self, Vec<Fault>> {
        Ok(Written { path: path.to_owned(), document: Document::of_file(path)? })
    }

    /// Refines it; files that it names (certificates, networks, users, pages) are read as they are now.
    pub fn refine(&self) -> Refined {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut read = refined(&self.document, folder);
        let contents = std::mem::take(&mut read.contents);
        let config = read.config().map(|config| Config {
            file: Some(self.path.clone()),
            files: self.document.files.clone(),
            contents: contents.clone(),
            ..config
        });
        Refined { config, contents }
    }

    /// The files and folders that it consists of, and those whose contents variables stand for.
    pub fn files(&self) -> &[Stamped] {
        &self.document.files
    }

    /// What is different in `after`: one sentence for each key, in the order of the paths. Secrets are not shown.
    pub fn changes(&self, after: &Written) -> Vec<Difference> {
        diff::differences(&self.comparable(), &after.comparable())
    }

    /// As plain JSON, with the files that are included: comments are gone, and variables have their values.
    pub fn values(&self) -> Value {
        self.document.node.to_json(&|_, text| text.to_owned())
    }

    /// The same with variables as they are written: what is in files and in the environment is not shown.
    pub fn placeholders(&self) -> Value {
        let written = |node: &Node, text: &str| node.written.as_deref().unwrap_or(text).to_owned();
        let mut document = self.document.node.to_json(&written);
        // What it names is in the document.
        document.as_object_mut().into_iter().for_each(|top| _ = top.remove("include"));
        document
    }

    /// With a mark at values that must not be shown.
    fn comparable(&self) -> Value {
        let marked = |node: &Node, text: &str| match node.variables.iter().flatten().any(Variable::is_secret)
        {
            true => diff::secret(text),
            false => text.to_owned(),
        };
        self.document.node.to_json(&marked)
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Written").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_variables_are_compared_but_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let (file, token) = (folder.path().join("c.json"), folder.path().join("token"));
        let text = r#"{ "include": "more.json", "admin": { "token": "x${file:token}" },
            "tracing": { "endpoint": "http://h", "headers": { "X-Name": "${file:token}" } },
            "log": { "level": "${NO_LEVEL:-info}" }, "load_balancer": { "via": "$${a" } }"#;
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("more.json"), r#"{ "limits": { "headers": 9 } }"#).unwrap();
        std::fs::write(&token, "first-secret").unwrap();
        let before = Written::read(&file).unwrap();
        std::fs::write(&token, "other-secret").unwrap();
        let changes = before.changes(&Written::read(&file).unwrap());
        let told: Vec<_> = changes.iter().map(|found| format!("{}: {}", found.path, found.change)).collect();
        let secret = "(secret) -> (secret)";
        assert_eq!(told, [format!("admin.token: {secret}"), format!("tracing.headers.X-Name: {secret}")]);
        assert_eq!(before.values()["admin"]["token"], "xfirst-secret");
        let shown = before.placeholders();
        assert_eq!(
            (&shown["admin"]["token"], &shown["log"]["level"]),
            (&"x${file:token}".into(), &"${NO_LEVEL:-info}".into())
        );
        assert_eq!(
            (&shown["load_balancer"]["via"], &shown["limits"]["headers"]),
            (&"$${a".into(), &9.into())
        );
        assert!(shown.get("include").is_none(), "what it names is there already");
    }
}
