//! Lists of networks, and of files that have one in each line.

use super::guards::files::networks_of;
use super::reader::Section;
use super::rules;
use super::tree::Node;
use crate::base::network::Network;
use crate::state::stamp::Stamped;
use std::cell::RefCell;
use std::path::Path;

/// What a file of networks begins with in a list.
const FILE: &str = "file:";

/// The networks of a list; `None` without the key. Its files are read again when they have changed.
pub(super) fn list(s: &mut Section<'_, '_>, key: &'static str, folder: &Path) -> Option<Vec<Network>> {
    let named = RefCell::new(Vec::new());
    let lists = s.values(key, |node| one(node, folder, &named));
    s.has_contents(named.take());
    lists.map(|lists| lists.concat())
}

/// The same, where null stands for no list.
pub(super) fn list_or_null(
    s: &mut Section<'_, '_>,
    key: &'static str,
    folder: &Path,
) -> Option<Vec<Network>> {
    let named = RefCell::new(Vec::new());
    let lists = s.values_or_null(key, |node| one(node, folder, &named));
    s.has_contents(named.take());
    lists.map(|lists| lists.concat())
}

/// A network, where no file can stand for several.
pub(super) fn single(node: &Node) -> Result<Network, String> {
    match rules::text(node, "write \"10.0.0.0/8\", \"fd00::/8\" or a single address")? {
        file if file.starts_with(FILE) => Err(format!(
            "{node} is a file, which \"allow\", \"deny\", \"trusted_proxies\" and \"proxy_protocol\" may have; write the networks here"
        )),
        text => text.parse(),
    }
}

fn one(node: &Node, folder: &Path, named: &RefCell<Vec<Stamped>>) -> Result<Vec<Network>, String> {
    let advice = "write a network such as \"10.0.0.0/8\", or \"file:\" and the path of a file of networks";
    let text = rules::text(node, advice)?;
    if matches!(text, "all" | "any" | "*") {
        return Err(format!("{text:?} is two networks; write \"0.0.0.0/0\" and \"::/0\""));
    }
    if text == "private_ranges" {
        let networks =
            "\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"127.0.0.0/8\", \"fd00::/8\", \"::1\"";
        return Err(format!("{text:?} is six networks; write {networks}"));
    }
    let Some(path) = text.strip_prefix(FILE) else {
        return match text.parse() {
            Ok(network) => Ok(vec![network]),
            Err(_) if is_path(text) => Err(format!(
                "{text:?} is not a valid network; a file of networks is written \"{FILE}{text}\""
            )),
            Err(advice) => Err(advice),
        };
    };
    let path = folder.join(path);
    named.borrow_mut().push(Stamped::now(&path));
    networks_of(&path)
}

/// Whether a text that is no network looks like the path of a file.
fn is_path(text: &str) -> bool {
    let extension = text.rsplit_once('.').map(|(_, extension)| extension);
    text.starts_with(['/', '.'])
        || extension.is_some_and(|extension| {
            ["txt", "list", "lst", "conf", "acl", "map", "json"].contains(&extension)
        })
}
