//! A configuration as it was written: the tree of the main file with those of the files that it includes.

use super::fault::Fault;
use super::reader::{Found, join, shown};
use super::source::Source;
use super::tree::{self, Node, Value};
use super::units;
use super::variables::Variables;
use crate::base::files::{self, unreadable};
use crate::state::stamp::Stamped;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes: enough for about forty thousand servers.
pub(super) const FILE_MAX: u64 = 4 * 1024 * 1024;
/// The most files of one configuration.
const FILES_MAX: usize = 1000;
/// Endings of the names of files that are read when a folder is included.
const ENDINGS: [&str; 2] = ["json", "jsonc"];
/// Keys of a file that are about the file itself.
const OF_FILE: [&str; 2] = ["$schema", "include"];

/// The tree with its texts. What could not be read into it is in the faults.
pub(super) struct Document {
    pub(super) source: Source,
    pub(super) node: Node,
    /// Every file and folder that was read, for somebody who waits for changes of them.
    pub(super) files: Vec<Stamped>,
    pub(super) faults: Vec<Found>,
}

impl Document {
    /// Reads a file, and those that it includes.
    pub(super) fn of_file(path: &Path) -> Result<Self, Vec<Fault>> {
        let name = path.display().to_string();
        let stamped = Stamped::now(path);
        let text = read(path).map_err(|advice| vec![Fault::of_file(&name, advice)])?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Loader::new(Some(name), &text, folder, Some(stamped)).load()
    }

    /// The same for a text that is in no file; relative paths start in `folder`.
    pub(super) fn of_text(name: Option<String>, text: &str, folder: &Path) -> Result<Self, Vec<Fault>> {
        Loader::new(name, text, folder, None).load()
    }
}

/// Reads files and merges their trees.
struct Loader<'a> {
    source: Source,
    variables: Variables<'a>,
    faults: Vec<Found>,
    /// The files that were read, or could not be, and where each is included.
    read: Vec<(Stamped, Option<usize>)>,
    /// Folders whose files were included.
    folders: Vec<Stamped>,
}

impl<'a> Loader<'a> {
    fn new(name: Option<String>, text: &str, folder: &'a Path, file: Option<Stamped>) -> Self {
        let environment: &dyn Fn(&str) -> Option<std::ffi::OsString> = &|name| std::env::var_os(name);
        Loader {
            source: Source::new(name, text),
            variables: Variables { environment, folder, files: Vec::new() },
            faults: Vec::new(),
            read: file.map(|file| (file, None)).into_iter().collect(),
            folders: Vec::new(),
        }
    }

    fn load(mut self) -> Result<Document, Vec<Fault>> {
        let mut node = match tree::parse(&self.source, 0) {
            Ok(node) => node,
            Err(fault) => return Err(vec![self.source.fault(String::new(), fault.advice, Some(fault.at))]),
        };
        self.complete(&mut node);
        let files = self.read.into_iter().map(|(file, _)| file);
        let files = files.chain(self.folders).chain(self.variables.files).collect();
        Ok(Document { source: self.source, node, files, faults: self.faults })
    }

    /// Replaces the variables of a file's tree and adds what the file includes.
    fn complete(&mut self, root: &mut Node) {
        let faults = &mut self.faults;
        self.variables
            .expand(root, "", &mut |path, at, advice| faults.push(Found { path, at: Some(at), advice }));
        for (pattern, at) in patterns(root) {
            match self.matching(&pattern) {
                Ok(files) => files.iter().for_each(|file| self.include(root, file, at)),
                Err(advice) => self.fault("include", at, advice),
            }
        }
    }

    /// Adds one file to the tree of the file that includes it.
    fn include(&mut self, root: &mut Node, file: &Path, at: usize) {
        let same = |one: &Path| one == file || one.canonicalize().ok() == file.canonicalize().ok();
        if let Some((_, first)) = self.read.iter().find(|(one, _)| same(&one.path)) {
            let place = first.map_or("it is the file itself".to_owned(), |first| {
                format!("it is included at {}", self.source.shown(first))
            });
            return self.fault("include", at, format!("{} is read already: {place}", file.display()));
        }
        if self.read.len() >= FILES_MAX {
            return self.fault(
                "include",
                at,
                format!("more than {FILES_MAX} files are included; write fewer"),
            );
        }
        self.read.push((Stamped::now(file), Some(at)));
        let text = match files::open(file).and_then(bounded) {
            Ok(Some(text)) => text,
            Ok(None) => return self.fault("include", at, format!("{}: {}", file.display(), too_large())),
            Err(error) => return self.fault("include", at, unreadable(file, &error)),
        };
        let start = self.source.add(Some(file.display().to_string()), &text);
        match tree::parse(&self.source, start) {
            Ok(mut node) => {
                self.complete(&mut node);
                self.merge(root, node, "");
            }
            Err(fault) => self.fault("", fault.at, fault.advice),
        }
    }

    /// Adds the entries of an object to another. Lists of equals are joined; everything else may be set once.
    fn merge(&mut self, root: &mut Node, extra: Node, path: &str) {
        let entries = match extra.value {
            Value::Object(entries) => entries,
            _ => {
                return self.fault(
                    path,
                    extra.at,
                    format!("expected an object, found {extra}; write {{ ... }}"),
                );
            }
        };
        // What is no object is reported when it is read.
        let Value::Object(into) = &mut root.value else { return };
        for entry in entries {
            if path.is_empty() && OF_FILE.contains(&entry.key.as_str()) {
                continue;
            }
            let path = join(path, &shown(&entry.key));
            let Some(present) = into.iter_mut().find(|present| present.key == entry.key) else {
                into.push(entry);
                continue;
            };
            match (&mut present.node.value, entry.node.value) {
                (Value::Object(_), value @ Value::Object(_)) => {
                    self.merge(&mut present.node, Node::new(entry.node.at, value), &path);
                }
                (Value::List(nodes), Value::List(more)) if is_joined(&path) => nodes.extend(more),
                _ => {
                    let place = self.source.shown(present.at);
                    self.fault(&path, entry.at, format!("is set at {place} too; keep one of them"));
                }
            }
        }
    }

    /// The files that a pattern stands for, in the order of their names.
    fn matching(&mut self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let path = self.variables.folder.join(pattern);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            let is_taken = |name: &str| {
                let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
                ending.is_some_and(|ending| ENDINGS.contains(&ending))
            };
            return self.listed(&path, is_taken);
        }
        let Some((start, end)) = name.split_once('*') else { return Ok(vec![path]) };
        let folder = path.parent().unwrap_or(Path::new(""));
        if end.contains('*') || folder.to_string_lossy().contains('*') {
            return Err(format!(
                "{pattern:?} has a * that is not the only one, or not in the name of the file; write \"conf.d\" or \"conf.d/*.json\""
            ));
        }
        self.listed(folder, |name| {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        })
    }

    /// The files of a folder whose names are taken; hidden ones never are.
    fn listed(&mut self, folder: &Path, is_taken: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, String> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        self.folders.push(Stamped::now(folder));
        let entries = std::fs::read_dir(folder);
        let entries = entries.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unreadable(folder, &error).replacen("file", "folder", 1),
            _ => unreadable(folder, &error),
        })?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let names = names.filter(|name| !name.starts_with('.') && is_taken(name));
        let files = names.map(|name| folder.join(name)).filter(|file| file.is_file());
        let mut files: Vec<PathBuf> = files.collect();
        files.sort();
        Ok(files)
    }

    fn fault(&mut self, path: &str, at: usize, advice: String) {
        self.faults.push(Found { path: path.to_owned(), at: Some(at), advice });
    }
}

/// The text of a file, or a sentence that says why it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let file = files::open(path).map_err(|error| cannot(&error))?;
    read_from(file)
}

/// The same for anything that can be read.
pub(super) fn read_from(input: impl Read) -> Result<String, String> {
    bounded(input).map_err(|error| cannot(&error))?.ok_or_else(too_large)
}

/// The text of a file; `None` where it is too large.
fn bounded(input: impl Read) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    input.take(FILE_MAX + 1).read_to_string(&mut text)?;
    Ok(Some(text).filter(|text| text.len() as u64 <= FILE_MAX))
}

fn too_large() -> String {
    format!("this is larger than {}", units::show_size(FILE_MAX))
}

fn cannot(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; look at the path, or leave it out".to_owned(),
        std::io::ErrorKind::IsADirectory => "this is a folder; name a file in it".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "this user may not read it; change its permissions or those of its folder, or run as another user"
                .to_owned()
        }
        std::io::ErrorKind::InvalidData => "this is not UTF-8 text; save it as UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// The patterns of `include` with their positions; what is no text is reported when the key is read.
fn patterns(root: &Node) -> Vec<(String, usize)> {
    let Value::Object(entries) = &root.value else { return Vec::new() };
    let Some(include) = entries.iter().find(|entry| entry.key == "include") else { return Vec::new() };
    let nodes = match &include.node.value {
        Value::List(nodes) => nodes.iter().collect(),
        _ => vec![&include.node],
    };
    let text = |node: &Node| match &node.value {
        Value::Text(text) if !text.is_empty() => Some((text.clone(), node.at)),
        _ => None,
    };
    nodes.into_iter().filter_map(text).collect()
}

/// Whether the entries of a list may stand in several files.
fn is_joined(path: &str) -> bool {
    matches!(path, "routes" | "load_balancer.listeners" | "servers.list")
        || path.strip_prefix("pools.").is_some_and(|rest| rest.ends_with(".list"))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, load};
    use super::*;
    use crate::policy::limit::MaxInFlight;
    use std::fs;

    /// A folder with these files, of which the first is read.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> (Config, tempfile::TempDir) {
        let folder = folder(files);
        let config = load(&folder.path().join(files[0].0)).unwrap_or_else(|faults| panic!("{}", faults[0]));
        (config, folder)
    }

    /// The faults as `file:line:column: path: advice`, without the folder.
    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let folder = folder(files);
        let faults = load(&folder.path().join(files[0].0)).unwrap_err();
        let root = format!("{}/", folder.path().display());
        let first_line =
            |fault: &Fault| fault.to_string().lines().next().unwrap_or_default().replace(&root, "");
        faults.iter().map(first_line).collect()
    }

    #[test]
    fn files_are_joined_in_the_order_of_their_names() {
        let (config, root) = read(&[
            (
                "main.json",
                r#"{ "include": "conf.d", "routes": [ { "name": "a" } ], "servers": { "list": [ { "address": "s:1" } ] } }"#,
            ),
            (
                "conf.d/20.json",
                r#"{ "routes": [ { "name": "c", "path": "/c", "pool": "p" } ], "limits": { "headers": 7 } }"#,
            ),
            (
                "conf.d/10.jsonc",
                r#"// a site
                   { "routes": [ { "name": "b", "path": "/b", "pool": "p" } ],
                     "pools": { "p": { "list": [ { "address": "p:1" } ] } } }"#,
            ),
            (
                "conf.d/30.json",
                r#"{ "pools": { "p": { "max_in_flight": 3, "list": [ { "address": "p:2" } ] } },
                     "servers": { "list": [ { "address": "s:2" } ], "algorithm": "round_robin" },
                     "load_balancer": { "listeners": [ { "port": 81 } ] }, "limits": { "uri": "1KiB" } }"#,
            ),
            ("conf.d/notes.txt", "no json"),
            ("conf.d/.40.json", "hidden"),
        ]);
        let routes: Vec<&str> = config.routes.iter().map(|spec| spec.route.name.as_str()).collect();
        assert_eq!(routes, ["a", "b", "c"]);
        let servers = |pool: &super::super::Servers| {
            pool.list.iter().map(|server| server.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(servers(&config.servers), ["s:1", "s:2"]);
        assert_eq!(servers(&config.pools[0].servers), ["p:1", "p:2"]);
        assert_eq!(
            (config.pools[0].servers.max_in_flight, config.limits.head.headers),
            (Some(MaxInFlight::Fixed(3)), 7)
        );
        assert_eq!(config.listen.listeners.len(), 1);
        let files: Vec<PathBuf> =
            ["main.json", "conf.d/10.jsonc", "conf.d/20.json", "conf.d/30.json", "conf.d"]
                .map(|name| root.path().join(name))
                .to_vec();
        let read: Vec<PathBuf> = config.files.into_iter().map(|file| file.path).collect();
        assert_eq!(read, files);
    }

    #[test]
    fn lists_patterns_and_files_in_files_are_included() {
        let (config, _) = read(&[
            ("main.json", r#"{ "include": [ "sites/*-site.json", "one.json", "empty" ] }"#),
            ("sites/a-site.json", r#"{ "include": "one-more.json", "routes": [ { "path": "/a" } ] }"#),
            ("sites/b-site.json", r#"{ "$schema": "x", "routes": [ { "path": "/b" } ] }"#),
            ("sites/other.json", "{"),
            ("one.json", r#"{ "limits": { "headers": 5 } }"#),
            ("one-more.json", r#"{ "routes": [ { "path": "/m" } ] }"#),
            ("empty/x", ""),
        ]);
        let names: Vec<&str> = config.routes.iter().map(|spec| spec.route.name.as_str()).collect();
        assert_eq!(names, ["-a", "-m", "-b"]);
        assert_eq!(config.limits.head.headers, 5);
    }

    #[test]
    fn a_key_that_is_set_twice_is_a_fault_with_both_places() {
        let said = faults(&[
            ("main.json", "{ \"include\": \"a.json\",\n \"limits\": { \"headers\": 5 }, \"allow\": [] }"),
            (
                "a.json",
                "{ \"limits\":\n  { \"headers\": 6 }, \"allow\": [], \"log\": { \"level\": \"inf\" } }",
            ),
        ]);
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(said[0].starts_with("a.json:2:5: limits.headers: is set at "), "{said:#?}");
        assert!(said[0].ends_with("main.json:2:14 too; keep one of them"), "{said:#?}");
        assert!(said[1].starts_with("a.json:2:21: allow: is set at "), "{said:#?}");
        assert!(said[2].starts_with("a.json:2:52: log.level: \"inf\" is not known"), "{said:#?}");
    }

    #[test]
    fn what_cannot_be_included_is_a_fault_at_its_place() {
        let check = |include: &str, a: &str, expected: &str| {
            let main = format!("{{ \"include\": {include} }}");
            let said = faults(&[("main.json", &main), ("a.json", a), ("b.json", "{}")]);
            assert_eq!(said.len(), 1, "{include}: {said:#?}");
            assert!(said[0].contains(expected), "{include}: {}", said[0]);
        };
        check("\"absent.json\"", "{}", "main.json:1:14: include: ");
        check("\"absent.json\"", "{}", "there is no file absent.json");
        check("\"none/*.json\"", "{}", "there is no folder none");
        check("\"*/*.json\"", "{}", "write \"conf.d\"");
        check("[\"b.json\", \"b.json\"]", "{}", "is read already: it is included at ");
        check("\"main.json\"", "{}", "it is the file itself");
        check("\"a.json\"", "{ \"include\": \"a.json\" }", "a.json:1:14: include: ");
        check("\"a.json\"", "[]", "a.json:1:1: expected an object, found a list");
        check("\"a.json\"", "{ \"a\": }", "a.json:1:8: not JSON");
        check("5", "{}", "main.json:1:14: include: expected a string, found 5");
        check("[\"\"]", "{}", "include[0]");
    }

    #[test]
    fn variables_are_taken_and_those_without_a_value_are_told_once() {
        // The tests' own variables are those of cargo.
        let (config, root) = read(&[
            (
                "main.json",
                r#"{ "load_balancer": { "load_balancer_port": "${NO_PORT:-8081}", "trace": "${NO:-true}" },
                     "threadpool": { "max_workers": "${NO_WORKERS:-7}" }, "limits": { "body": "${NO:-null}" },
                     "servers": { "list": [ { "address": "${CARGO_PKG_NAME}:1" } ] }, "admin": { "token": "${file:token}" } }"#,
            ),
            ("token", "0123456789abcdef\n"),
        ]);
        assert_eq!(config.listen.address().unwrap().port(), 8081);
        assert_eq!((config.threadpool.bounds.max, config.listen.trace, config.limits.body), (7, true, None));
        assert_eq!(config.servers.list[0].address.to_string(), "evenkeel:1");
        assert_eq!(config.admin.token.as_deref(), Some("0123456789abcdef"));
        assert!(config.files.iter().any(|file| file.path == root.path().join("token")));
        let said = faults(&[(
            "main.json",
            "{ \"servers\": { \"list\": [\n { \"address\": \"${NO_HOST}:1\" } ] }, \"threadpool\": { \"max_workers\": \"${NO:-x}\" } }",
        )]);
        assert_eq!(said.len(), 2, "{said:#?}");
        let missing = "main.json:2:15: servers.list[0].address: the environment variable NO_HOST is not set";
        assert!(said[0].starts_with(missing), "{said:#?}");
        assert!(said[1].contains("threadpool.max_workers: expected a number, found \"x\""), "{said:#?}");
    }
}
