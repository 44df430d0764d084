//! Files with secrets that every user of the machine can read.

use super::Obstacle;
use crate::state::config::{Config, Guards, Secret};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One warning for each file. The first process of a container is alone there, and what it is given as a secret can often
/// be read by all.
pub fn exposed(config: &Config) -> Vec<Obstacle> {
    if std::process::id() == 1 {
        return Vec::new();
    }
    let mut told = BTreeSet::new();
    let open = secrets(config).into_iter().filter(|secret| is_open(&secret.file));
    let first = open.filter(|secret| told.insert(secret.file.clone()));
    first.map(warning).collect()
}

fn warning(secret: Secret) -> Obstacle {
    let file = secret.file.display();
    let advice = format!(
        "{file} has a secret, and every user of this machine can read it; allow that only to the balancer's user or its \
         group, as with `chmod 640`"
    );
    Obstacle { key: secret.key, advice, stops: false }
}

/// All files with secrets.
fn secrets(config: &Config) -> Vec<Secret> {
    let mut found = config.secrets.clone();
    let mut add = |key: String, file: &Path| found.push(Secret { key, file: file.to_owned() });
    for listener in &config.listen.listeners {
        let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
        for (at, certificate) in certificates.enumerate() {
            add(format!("{}.tls.certificates[{at}].key", listener.key()), &certificate.files.key);
        }
    }
    for pool in config.pool_ids() {
        let certificate = config.pool(pool).tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        certificate.iter().for_each(|files| add(format!("{}.tls.key", config.pool_key(pool)), &files.key));
    }
    let mut users = |prefix: String, guards: &Guards| {
        let auth = guards.basic_auth.iter();
        auth.for_each(|auth| add(format!("{prefix}basic_auth.file"), &auth.file));
    };
    users(String::new(), &config.guards);
    let routes = config.routes.iter().enumerate();
    routes.for_each(|(at, route)| users(format!("routes[{at}]."), &route.guards));
    config.admin.state_file.iter().for_each(|file| add("admin.state_file".to_owned(), file));
    found
}

/// Whether every user can read a file, for which they must get through its folders. What is no plain file, such as a pipe
/// of a shell, is not there for others to open later.
fn is_open(file: &Path) -> bool {
    let mode = |path: &Path| fs::metadata(path).map_or(0, |found| found.permissions().mode());
    let Ok(real) = file.canonicalize() else { return false };
    real.is_file()
        && mode(&real) & 0o004 != 0
        && real.ancestors().skip(1).all(|folder| mode(folder) & 0o001 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config;
    use std::fs::Permissions;

    #[test]
    fn files_with_secrets_that_all_users_can_read_are_told_once_each() {
        // The folders of other places may be closed.
        let root = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let folder = root.path();
        let user = format!("ann:{}", bcrypt::hash("open", 4).unwrap());
        let key = "site.key";
        for (name, text) in
            [("token", "0123456789abcdef"), ("users", &*user), (key, "x"), ("state.json", "{}")]
        {
            fs::write(folder.join(name), text).unwrap();
        }
        let text = format!(
            r#"{{ "admin": {{ "token": "${{file:token}}", "state_file": "state.json" }},
                "basic_auth": {{ "file": "users" }},
                "routes": [ {{ "path": "/a" }}, {{ "path": "/b", "basic_auth": {{ "file": "users" }} }} ],
                "load_balancer": {{ "listeners": [ {{ "port": 0, "tls": {{ "certificates":
                    [ {{ "certificate": "site.pem", "key": "{key}" }} ] }} }} ] }},
                "servers": {{ "tls": {{ "certificate": "site.pem", "key": "{key}" }} }} }}"#
        );
        let file = folder.join("config.json");
        fs::write(&file, text).unwrap();
        let keys =
            || {
                let found = exposed(&config::load(&file).unwrap());
                assert!(
                    found.iter().all(|found| !found.stops
                        && found.advice.contains("every user of this machine can read it"))
                );
                found.into_iter().map(|found| found.key).collect::<Vec<_>>()
            };
        let tls = "load_balancer.listeners[0].tls.certificates[0].key";
        set_all(folder, 0o644);
        assert_eq!(keys(), ["admin.token", tls, "basic_auth.file", "admin.state_file"]);
        // One of the groups of the balancer may read them.
        set_all(folder, 0o640);
        assert!(keys().is_empty());
        set_all(folder, 0o644);
        fs::set_permissions(folder, Permissions::from_mode(0o750)).unwrap();
        assert!(keys().is_empty(), "no other user gets there");
    }

    fn set_all(folder: &Path, mode: u32) {
        for entry in fs::read_dir(folder).unwrap() {
            fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(mode)).unwrap();
        }
    }
}
