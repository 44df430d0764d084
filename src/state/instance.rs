//! The identity of a balancer: a client compares it to make sure that it talks to the right one.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, absolute};

/// A running balancer as described by its admin API; or the one that a command is looking for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The process; 0 for one that is being looked for.
    pub pid: u32,
    /// The absolute path of its configuration file, as given at the start. `None`: it has no file, like the demo.
    pub config: Option<String>,
    /// The same with symbolic links resolved.
    pub config_resolved: Option<String>,
    /// It was started without a file, from the command line or with the defaults: `config` is the one that such a start takes
    /// if it is there, and names the folder.
    #[serde(default)]
    pub without_file: bool,
    /// The first TCP address on which it listens for clients.
    pub listen: Option<SocketAddr>,
    /// All places where it listens for clients: `0.0.0.0:8000`, `unix:/run/web.sock`.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// Where it was asked to publish its admin API.
    pub admin: Option<SocketAddr>,
}

impl Instance {
    /// The instance with this file, which need not exist: without one, the defaults are those of the folder.
    pub fn of(file: &Path) -> Self {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let whole = absolute(file).unwrap_or_else(|_| file.to_owned());
        let resolved = whole.canonicalize().or_else(|error| {
            let (folder, name) = whole.parent().zip(whole.file_name()).ok_or(error)?;
            folder.canonicalize().map(|folder| folder.join(name))
        });
        let resolved = resolved.unwrap_or_else(|_| whole.clone());
        Instance {
            config: Some(shown(&whole)),
            config_resolved: Some(shown(&resolved)),
            ..Instance::default()
        }
    }

    /// Whether both run with the same file. One of the two paths suffices: a link may point elsewhere since the start,
    /// and a file may be named by different links.
    pub fn has_same_file(&self, other: &Instance) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
        same(&self.config, &other.config) || same(&self.config_resolved, &other.config_resolved)
    }

    /// Whether it listens on a TCP port with this number.
    pub fn has_port(&self, port: u16) -> bool {
        let listeners = self.listeners.iter().filter_map(|place| place.parse::<SocketAddr>().ok());
        listeners.chain(self.listen).chain(self.admin).any(|address| address.port() == port)
    }

    /// The file, for use in a sentence.
    pub fn file(&self) -> &str {
        self.config.as_deref().unwrap_or("a configuration of its own")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_same_file_by_other_names_is_the_same_instance() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("a.json"), "{}").unwrap();
        fs::write(at("b.json"), "{}").unwrap();
        symlink(at("a.json"), at("link.json")).unwrap();
        let check = |one: &str, other: &str, same: bool| {
            let (one, other) = (Instance::of(&at(one)), Instance::of(&at(other)));
            assert_eq!(one.has_same_file(&other), same, "{one:?} {other:?}");
        };
        check("a.json", "a.json", true);
        check("a.json", "./a.json", true);
        check("a.json", "sub/../a.json", true);
        check("a.json", "link.json", true);
        check("a.json", "b.json", false);
        check("b.json", "link.json", false);
        check("none.json", "sub/../none.json", true);
        check("none.json", "sub/none.json", false);
        // The link was changed since the start: its name is still the same.
        let before = Instance::of(&at("link.json"));
        fs::remove_file(at("link.json")).unwrap();
        symlink(at("b.json"), at("link.json")).unwrap();
        assert!(before.has_same_file(&Instance::of(&at("link.json"))));
        assert!(!Instance::default().has_same_file(&Instance::default()), "two demos are two");
    }
}
