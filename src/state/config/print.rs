//! The configuration as it takes effect, with where each value comes from.

use super::document::Document;
use super::schema::Schema;
use super::tree::{Entry, Node, Value, Variable};
use super::variables::is_secret_name;
use super::{Config, units};
use crate::base::ids::PoolId;
use crate::state::route::Action;
use serde_json::Value as Json;
use std::fmt::Write;

/// What stands in the place of a secret.
const MASK: &str = "********";
/// Where a value comes from that no file has.
const DEFAULT: &str = "default";

/// The effective configuration as JSON text: an object with `config`, every key with its value, and `from`, where each value
/// comes from, by key. Secrets are masked.
pub(super) fn effective(document: &Document, config: &Config) -> String {
    let schema = Schema::new();
    let mut printer = Printer { document, config, from: Vec::new() };
    let root = printer.object(&schema, schema.root(), Some(&document.node), "");
    let from = printer.from.into_iter().map(|(key, place)| entry(&key, Value::Text(place))).collect();
    let whole = Value::Object(vec![entry("config", root), entry("from", Value::Object(from))]);
    let mut text = String::new();
    write(&mut text, &whole, 0);
    text
}

struct Printer<'a> {
    document: &'a Document,
    config: &'a Config,
    from: Vec<(String, String)>,
}

impl Printer<'_> {
    /// An object with its keys in the order of the schema, those that the file does not have with their defaults.
    fn object(&mut self, schema: &Schema, about: &Node, node: Option<&Node>, path: &str) -> Value {
        let given = |key: &str| match node.map(|node| &node.value) {
            Some(Value::Object(entries)) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
            }
            _ => None,
        };
        let mut entries = Vec::new();
        for property in schema.properties(about) {
            let key = &property.key;
            let path = super::reader::join(path, key);
            // They say how the file is read, and that has been done.
            if matches!(path.as_str(), "$schema" | "include") {
                continue;
            }
            let value = match given(key) {
                Some(node) => Some(self.given(schema, &property.node, node, &path)),
                None => self.missing(schema, &property.node, &path),
            };
            entries.extend(value.map(|value| entry(key, value)));
        }
        Value::Object(entries)
    }

    /// A value that the file has.
    fn given(&mut self, schema: &Schema, about: &Node, node: &Node, path: &str) -> Value {
        match &node.value {
            Value::Object(_) if !schema.properties(about).is_empty() => {
                self.object(schema, about, Some(node), path)
            }
            Value::Object(entries) => match schema.find(about, "additionalProperties") {
                Some(one) if !schema.properties(one).is_empty() => {
                    let named = entries.iter().map(|each| {
                        let path = super::reader::join(path, &super::reader::shown(&each.key));
                        entry(&each.key, self.object(schema, one, Some(&each.node), &path))
                    });
                    Value::Object(named.collect())
                }
                _ => self.leaf(schema, about, node, path),
            },
            Value::List(nodes) => match schema.find(about, "items") {
                Some(one) if !schema.properties(one).is_empty() => {
                    let each = nodes.iter().enumerate();
                    let each = each.map(|(at, node)| {
                        Node::new(node.at, self.object(schema, one, Some(node), &format!("{path}[{at}]")))
                    });
                    Value::List(each.collect())
                }
                _ => self.leaf(schema, about, node, path),
            },
            _ => self.leaf(schema, about, node, path),
        }
    }

    fn leaf(&mut self, schema: &Schema, about: &Node, node: &Node, path: &str) -> Value {
        self.from.push((path.to_owned(), self.place(node)));
        let is_secret = schema.find(about, "writeOnly").is_some();
        shown(node, is_secret)
    }

    /// A value that the file does not have: what the configuration made of it, or the default of the schema.
    fn missing(&mut self, schema: &Schema, about: &Node, path: &str) -> Option<Value> {
        let computed = self.computed(path);
        let default = schema.find(about, "default").map(|node| shown(node, false));
        let Some(value) = computed.unwrap_or(default) else {
            // A section that is always there is not null without being written.
            let is_section = !schema.properties(about).is_empty()
                && matches!(schema.find(about, "type").map(|kind| &kind.value), Some(Value::Text(_)));
            return is_section.then(|| self.object(schema, about, None, path));
        };
        self.from.push((path.to_owned(), DEFAULT.to_owned()));
        Some(value)
    }

    /// The value of a key whose default depends on other keys; `Some(None)` is none.
    fn computed(&self, path: &str) -> Option<Option<Value>> {
        let config = self.config;
        let text = |text: &str| Some(Some(Value::Text(text.to_owned())));
        match path {
            "load_balancer.load_balancer_port" => {
                return config
                    .listen
                    .listeners
                    .iter()
                    .all(|listener| listener.listed.is_some())
                    .then_some(None);
            }
            "limits.uri" => return Some(Some(Value::Whole(config.limits.head.uri as u64))),
            "admin.socket" => return text(&config.admin.socket.as_ref()?.display().to_string()),
            _ => {}
        }
        if let Some((index, "name")) = item(path, "routes") {
            return text(&config.routes.get(index)?.route.name);
        }
        if let Some((index, "pool")) = item(path, "routes") {
            let is_pool = matches!(config.routes.get(index)?.route.action, Action::Pool(_));
            return (!is_pool).then_some(None);
        }
        if let Some((index, "name")) = item(path, "load_balancer.listeners") {
            return text(
                &config.listen.listeners.iter().find(|listener| listener.listed == Some(index))?.name,
            );
        }
        let (pool, key) = self.pool_of(path)?;
        let servers = config.pool(pool);
        if let Some(of_probe) = key.strip_prefix("health_check.") {
            if !servers.health_check.has_key(of_probe) {
                return Some(None);
            }
        }
        match key {
            "health_check.timeout" => text(&units::show_duration(servers.health_check.timeout)),
            "ejection.max_time" => text(&units::show_duration(servers.ejection.max_time)),
            "pool.idle" => Some(Some(Value::Whole(servers.pool.idle as u64))),
            _ => match item(key, "list") {
                Some((index, "name")) => text(&servers.list.get(index)?.name),
                _ => None,
            },
        }
    }

    /// The pool that a key belongs to, and the key within it.
    fn pool_of<'p>(&self, path: &'p str) -> Option<(PoolId, &'p str)> {
        self.config.pool_ids().find_map(|pool| {
            let key = path.strip_prefix(&self.config.pool_key(pool))?.strip_prefix('.')?;
            Some((pool, key))
        })
    }

    /// Where a value of the file comes from.
    fn place(&self, node: &Node) -> String {
        let mut place = self.document.source.shown(node.at);
        for variable in node.variables.iter().flatten() {
            let _ = match variable {
                Variable::Environment(name) => write!(place, ", environment variable {name}"),
                Variable::Default(name) => write!(place, ", default of environment variable {name}"),
                Variable::File(path) => write!(place, ", file {path}"),
            };
        }
        place
    }
}

/// The index and the rest of a key such as `routes[3].name`.
fn item<'p>(path: &'p str, list: &str) -> Option<(usize, &'p str)> {
    let (index, rest) = path.strip_prefix(list)?.strip_prefix('[')?.split_once("].")?;
    Some((index.parse().ok()?, rest))
}

fn entry(key: &str, value: Value) -> Entry {
    Entry { at: 0, key: key.to_owned(), node: Node::new(0, value) }
}

/// A value without its position; secrets are masked.
fn shown(node: &Node, is_secret: bool) -> Value {
    let is_secret = is_secret || node.variables.iter().flatten().any(Variable::is_secret);
    let whole = node.unquoted();
    match whole.as_ref().unwrap_or(&node.value) {
        Value::Null | Value::Unknown => Value::Null,
        _ if is_secret => Value::Text(MASK.to_owned()),
        Value::Flag(flag) => Value::Flag(*flag),
        Value::Whole(number) => Value::Whole(*number),
        Value::Number(number) => Value::Number(*number),
        Value::Text(text) => Value::Text(text.clone()),
        Value::List(nodes) => {
            Value::List(nodes.iter().map(|node| Node::new(0, shown(node, false))).collect())
        }
        Value::Object(entries) => {
            // Headers, by their names.
            let each = entries.iter().map(|one| entry(&one.key, shown(&one.node, is_secret_name(&one.key))));
            Value::Object(each.collect())
        }
    }
}

/// Writes a value as JSON, indented by two spaces in each level.
fn write(out: &mut String, value: &Value, depth: usize) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let text = |text: &str| Json::from(text).to_string();
    match value {
        Value::Null | Value::Unknown => out.push_str("null"),
        Value::Flag(flag) => out.push_str(&flag.to_string()),
        Value::Whole(number) => out.push_str(&number.to_string()),
        Value::Number(number) => out.push_str(&Json::from(*number).to_string()),
        Value::Text(one) => out.push_str(&text(one)),
        Value::List(nodes) if nodes.is_empty() => out.push_str("[]"),
        Value::Object(entries) if entries.is_empty() => out.push_str("{}"),
        Value::List(nodes) => {
            out.push('[');
            for (at, node) in nodes.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                line(out, depth + 1);
                write(out, &node.value, depth + 1);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (at, entry) in entries.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                line(out, depth + 1);
                out.push_str(&text(&entry.key));
                out.push_str(": ");
                write(out, &entry.node.value, depth + 1);
            }
            line(out, depth);
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Input, parse, print};
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn printed(text: &str, folder: &Path) -> Json {
        let printed = print(&Input::Text { name: Some("c.json"), text, folder })
            .unwrap_or_else(|faults| panic!("{}", faults[0]));
        serde_json::from_str(&printed).unwrap()
    }

    /// What is printed says the same as the text.
    fn check_same(text: &str) {
        let printed = printed(text, Path::new("/e"))["config"].to_string();
        let read = |text: &str| {
            let mut config =
                parse(text, Path::new("/e")).unwrap_or_else(|faults| panic!("{text}: {}", faults[0]));
            config.warnings.clear();
            // A path that is named makes probes strict and asks for load reports; here all paths are named.
            for servers in config.pools.iter_mut().map(|pool| &mut pool.servers).chain([&mut config.servers])
            {
                servers.health_check.http_mut().is_strict = true;
                servers.load_report.enabled = None;
            }
            config
        };
        assert_eq!(read(&printed), read(text), "{text}");
    }

    #[test]
    fn what_is_printed_says_the_same() {
        for text in [
            "{}",
            r#"{"load_balancer": {"load_balancer_port": "8000"}, "servers": {"queue_capacity": 1000}}"#,
            r#"{"threadpool": {"max_workers": 2000}, "limits": {"head": "4KiB"}, "admin": {"bind": null, "socket": null}}"#,
            r#"{"servers": {"health_check": {"interval": "200ms"}, "ejection": {"base_time": "9m"}, "tls": true, "list": [{"address": "a:1"}, {"name": "b", "address": "b:2", "weight": 3}]}}"#,
            r#"{"load_balancer": {"bind": "::1", "listeners": [{"port": 81}, {"port": "unix:w", "proxy_protocol": []}, {"port": 82, "redirect_to_https": true, "bind": "127.0.0.1"}]}}"#,
            r#"{"load_balancer": {"load_balancer_port": 80, "proxy_protocol": ["::1"], "listeners": [{"port": 443, "tls": {"certificates": [{"certificate": "a.pem"}]}}]}}"#,
            r#"{"pools": {"a.b": {"health_check": {"interval": "200ms"}, "list": [{"address": "a:1"}]}, "c": {}}, "routes": [{"pool": "a.b", "path": "/x/*"}, {"path": "/x/*", "split": {"pools": {"c": 1}}}]}"#,
            r#"{"rate_limit": {"requests": 5}, "routes": [{"rate_limit": null, "request_headers": {"set": {"X-A": "b"}}, "retries": {"attempts": 2}}], "compression": {}}"#,
            r#"{"load_balancer": {"listeners": [{"name": "w", "port": 80, "redirect_to_https": true, "redirect_except": ["/a/*"]}]}, "compression": true,
                "routes": [{"listener": "w", "compression": false, "response_headers": {"replace": [{"header": "Location", "match": "^/(a)", "with": "/{1}"}]}}]}"#,
            r#"{"limits": {"body": "${NO_BODY:-5}"}}"#,
        ] {
            check_same(text);
        }
    }

    #[test]
    fn each_value_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "0123456789abcdef").unwrap();
        std::fs::write(folder.path().join("more.json"), "{\"limits\": { \"headers\": 9 } }").unwrap();
        let text = "{ \"include\": \"more.json\",\n \"threadpool\": { \"max_workers\": \"${NO_WORKERS:-7}\" },\n \"servers\": { \"list\": [ { \"address\": \"${CARGO_PKG_NAME}:1\" } ] },\n \"admin\": { \"token\": \"${file:token}\" } }";
        let printed = printed(text, folder.path());
        let (config, from) = (&printed["config"], &printed["from"]);
        assert_eq!(
            config["threadpool"],
            json!({ "min_workers": 1, "max_workers": 7, "queue_capacity": 100, "queue_timeout": "5s",
            "queue_target": "5ms", "queue_interval": "100ms", "queue_max_wait": "500ms" })
        );
        assert_eq!(config["servers"]["list"][0]["address"], "evenkeel:1");
        assert_eq!(config["admin"]["token"], MASK);
        assert_eq!(from["threadpool.min_workers"], "default");
        assert_eq!(from["threadpool.max_workers"], "c.json:2:33, default of environment variable NO_WORKERS");
        assert_eq!(from["servers.list[0].address"], "c.json:3:38, environment variable CARGO_PKG_NAME");
        assert_eq!(from["servers.list[0].weight"], "default");
        assert_eq!(from["admin.token"], "c.json:4:22, file token");
        let included = from["limits.headers"].as_str().unwrap();
        assert!(included.ends_with("more.json:1:25"), "{included}");
    }

    #[test]
    fn secrets_are_masked() {
        let text = r#"{"admin": {"token": "0123456789abcdef"}, "routes": [{"request_headers": {"set": {"Authorization": "Bearer 0123456789abcdef", "X-Env": "a"}}}]}"#;
        let printed = printed(text, Path::new(""));
        assert!(!printed.to_string().contains("0123456789abcdef"), "{printed}");
        assert_eq!(printed["config"]["routes"][0]["request_headers"]["set"]["X-Env"], "a");
    }
}
