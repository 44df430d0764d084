//! The ways in: files and texts become a configuration, or every fault of them.

use super::document::{self, Document};
use super::reader::{Reader, Section};
use super::source::Source;
use super::tree::{self, Node};
use super::written::Written;
use super::{Change, Config, Fault, Resolve, ServerSpec, check, refine, secrets};
#[cfg(test)]
use super::{Guards, RouteSpec, routes};
#[cfg(test)]
use crate::policy::retry;
use crate::state::stamp::Stamped;
use std::io;
use std::path::Path;

/// Reads and refines a file, and those that it includes. Every fault of them is in the error, in the order of the texts.
pub fn load(path: &Path) -> Result<Config, Vec<Fault>> {
    Written::read(path)?.refine().config
}

/// What a file says that is not valid, without what is at fault; `None` if it cannot be read as a configuration at all.
pub fn load_despite_faults(path: &Path) -> Option<Config> {
    let document = Document::of_file(path).ok()?;
    let config = refined(&document, path.parent().unwrap_or(Path::new(""))).config;
    Some(Config { file: Some(path.to_owned()), ..config })
}

/// The same as [`load`] for what is no file, such as the standard input; relative paths start in the current folder.
pub fn load_from(input: impl io::Read, name: &str) -> Result<Config, Vec<Fault>> {
    let text = document::read_from(input).map_err(|advice| vec![Fault::of_file(name, advice)])?;
    refined(&Document::of_text(Some(name.to_owned()), &text, Path::new(""))?, Path::new("")).config()
}

/// A configuration that is read.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A file.
    File(&'a Path),
    /// A text, with the name that faults have for it; relative paths start in `folder`.
    Text {
        /// The name.
        name: Option<&'a str>,
        /// The text.
        text: &'a str,
        /// The folder.
        folder: &'a Path,
    },
}

/// The effective configuration as JSON text: every key with its value, and where that comes from. Secrets are masked.
pub fn print(input: &Input<'_>) -> Result<String, Vec<Fault>> {
    let (read, folder) = match input {
        Input::File(path) => (Document::of_file(path)?, path.parent().unwrap_or(Path::new(""))),
        Input::Text { name, text, folder } => {
            (Document::of_text(name.map(str::to_owned), text, folder)?, *folder)
        }
    };
    let config = refined(&read, folder).config()?;
    Ok(super::print::effective(&read, &config))
}

/// Refines a text; `folder` is where relative paths start.
pub fn parse(text: &str, folder: &Path) -> Result<Config, Vec<Fault>> {
    refined(&Document::of_text(None, text, folder)?, folder).config()
}

/// A fault that only the machine can report, such as a missing folder, at the position of its key in the file; without
/// a position when the file does not have the key.
pub fn fault_at(file: Option<&Path>, key: &str, advice: String) -> Fault {
    match file.map(Document::of_file) {
        Some(Ok(document)) => document.source.fault(key.to_owned(), advice, document.node.place(key)),
        _ => Source::new(file.map(|file| file.display().to_string()), "").fault(key.to_owned(), advice, None),
    }
}

/// Refines one server as JSON, in the form of an entry of `servers.list`; for the admin API. `of_pool` is how the names of
/// its pool are resolved.
pub fn parse_server(text: &str, of_pool: Resolve) -> Result<ServerSpec, Vec<Fault>> {
    parse_one(text, |section| refine::server(section, of_pool))
}

/// Refines the text of `routes` alone, with these pools beside the default one; also the warnings.
#[cfg(test)]
pub(in crate::state) fn parse_routes(
    text: &str,
    pools: &[&str],
) -> Result<(Vec<RouteSpec>, Vec<Fault>), Vec<Fault>> {
    let text = format!("{{\"routes\": {text}}}");
    let source = Source::new(None, &text);
    let (node, mut reader) = (tree_of(&source)?, Reader::default());
    let pools = [&["default"], pools].concat();
    let guards = &Guards::default();
    let around = routes::Around {
        pools: &pools,
        listeners: &["default"],
        folder: Path::new(""),
        retries: retry::Rules::default(),
        guards,
    };
    let routes = reader.top(&node, |top| routes::routes(top, &around));
    routes::check(&routes, &pools, guards, &mut reader);
    let (faults, warnings) = reader.finish(&source);
    if faults.is_empty() { Ok((routes, warnings)) } else { Err(faults) }
}

/// Refines a change of a server as JSON; for the admin API.
pub fn parse_change(text: &str) -> Result<Change, Vec<Fault>> {
    parse_one(text, |section| Some(refine::change(section)))
}

fn parse_one<T>(text: &str, inside: impl FnOnce(&mut Section<'_, '_>) -> Option<T>) -> Result<T, Vec<Fault>> {
    let source = Source::new(None, text);
    // Of an empty body it says more what is missing than that it is empty.
    let node = if text.trim().is_empty() { Node::empty() } else { tree_of(&source)? };
    let mut reader = Reader::default();
    let read = reader.top(&node, inside);
    let (faults, _) = reader.finish(&source);
    read.filter(|_| faults.is_empty()).ok_or(faults)
}

/// The tree of a text without variables and includes.
fn tree_of(source: &Source) -> Result<Node, Vec<Fault>> {
    tree::parse(source, 0).map_err(|fault| vec![source.fault(String::new(), fault.advice, Some(fault.at))])
}

/// What comes of a document.
pub(super) struct Read {
    /// Without what is at fault.
    config: Config,
    faults: Vec<Fault>,
    /// The files whose contents belong to it.
    pub(super) contents: Vec<Stamped>,
}

impl Read {
    /// The configuration, or every fault of it.
    pub(super) fn config(self) -> Result<Config, Vec<Fault>> {
        if self.faults.is_empty() { Ok(self.config) } else { Err(self.faults) }
    }
}

pub(super) fn refined(document: &Document, folder: &Path) -> Read {
    let mut reader = Reader::with(document.faults.clone());
    let config = refine::config(&mut reader, &document.node, folder);
    check::contradictions(&config, &mut reader);
    let contents = reader.take_contents();
    let (faults, warnings) = reader.finish(&document.source);
    let secrets = secrets::secrets(document, folder);
    Read { config: Config { warnings, secrets, ..config }, faults, contents }
}
