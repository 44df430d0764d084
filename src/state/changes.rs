//! What the admin API has made of the servers of the file: those that were registered or taken out, other weights, other
//! modes. It is the difference between the configuration and the table, so it is never out of step with either.

use super::config::{self, Config, DEFAULT_POOL, Resolve, ServerSpec};
use super::server::{Mode, Role, Server};
use super::table::{Table, Taken};
use crate::base::ids::PoolId;
use crate::policy::limit::MaxInFlight;
use crate::policy::pick::Weight;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest weight of a server.
const WEIGHT_MAX: u16 = 1000;

/// The changes of all pools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    /// By the names of pool and server. A pool without a change is not there.
    pub pools: BTreeMap<String, BTreeMap<String, Change>>,
}

/// What became of one server. The address tells it from another server of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// It is not in the file.
    Added {
        /// Where it listens.
        address: String,
        /// Its weight.
        weight: u16,
        /// Whether it is a backup.
        backup: bool,
        /// Its priority.
        #[serde(default, skip_serializing_if = "is_first")]
        priority: u8,
        /// Its zone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<String>,
        /// Its own limit of requests at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_in_flight: Option<Value>,
        /// Each address of its name is a server.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        resolve_all: bool,
        /// `ready`, `drain` or `maint`.
        state: String,
    },
    /// It is in the file, and was taken out.
    Removed {
        /// As in the file.
        address: String,
    },
    /// It is in the file, with another weight or mode.
    Changed {
        /// As in the file.
        address: String,
        /// The weight in the file at that time: where the file says another one now, the file counts.
        listed_weight: u16,
        /// The weight that was set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        /// The mode that was set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
    },
}

impl Changes {
    /// The difference between the configuration and these servers, in which a name stands for its members.
    pub fn between(config: &Config, servers: &[Arc<Server>]) -> Self {
        let mut changes = Changes::default();
        for pool in config.pool_ids() {
            let listed = &config.pool(pool).list;
            let own = || servers.iter().filter(|server| server.pool == pool);
            let find = |spec: &ServerSpec| own().find(|server| server.is_of(spec));
            let removed = listed
                .iter()
                .filter(|spec| find(spec).is_none())
                .map(|spec| (spec.name.clone(), Change::Removed { address: spec.address.to_string() }));
            let mut of_pool: BTreeMap<String, Change> = removed.collect();
            of_pool.extend(own().filter_map(|server| {
                let spec = listed.iter().find(|spec| server.is_of(spec));
                let change = spec.map_or_else(|| Some(added(server)), |spec| changed(spec, server));
                Some((server.name.clone(), change?))
            }));
            if !of_pool.is_empty() {
                changes.pools.insert(config.pool_name(pool).to_owned(), of_pool);
            }
        }
        changes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Makes them again, on a table that is as its configuration says. What does not fit it any more is left out, and a
    /// sentence says so.
    pub fn apply(&self, config: &Config, table: &Table) -> Vec<String> {
        let mut left_out = Vec::new();
        for (name, servers) in &self.pools {
            let Some(pool) = config.pool_named(name) else {
                left_out.push(format!(
                    "{} changes of the pool {name}, which the file does not have",
                    servers.len()
                ));
                continue;
            };
            for (server, change) in servers {
                if let Err(why) = change.apply(config, pool, server, table) {
                    left_out.push(format!("the change of {name}/{server}: {why}"));
                }
            }
        }
        left_out
    }

    /// Takes them back: the servers are as the configuration says.
    pub fn revert(&self, config: &Config, table: &Table) {
        for (name, servers) in &self.pools {
            let Some(pool) = config.pool_named(name) else { continue };
            servers.iter().for_each(|(server, change)| change.revert(config, pool, server, table));
        }
    }

    /// Writes them into a configuration file's document, as far as a file can say them: modes are left out, and the
    /// servers that have one come back. `values` is the same document with the values of variables, by which servers are
    /// found.
    pub fn merge_into(&self, document: &mut Value, values: &Value) -> Vec<String> {
        let mut modes = Vec::new();
        for (pool, servers) in &self.pools {
            let (settings, values) = match pool.as_str() {
                DEFAULT_POOL => (&mut document["servers"], &values["servers"]),
                name => (&mut document["pools"][name], &values["pools"][name]),
            };
            let written = settings["list"].as_array().cloned().unwrap_or_default();
            let known = values["list"].as_array().cloned().unwrap_or_default();
            let mut list: Vec<(Value, Value)> = written.into_iter().zip(known).collect();
            for (name, change) in servers {
                change.merge_into(&mut list, name);
                modes.extend(change.mode().map(|mode| format!("{pool}/{name} ({mode})")));
            }
            settings["list"] = list.into_iter().map(|(written, _)| written).collect();
        }
        modes
    }
}

impl Change {
    fn apply(&self, config: &Config, pool: PoolId, name: &str, table: &Table) -> Result<(), String> {
        let listed = |address: &str| {
            let mut list = config.pool(pool).list.iter();
            let found = list.find(|spec| spec.name == name && spec.address.to_string() == address);
            found.ok_or(format!("the file has no server {name} at {address} any more"))
        };
        match self {
            Change::Added { address, weight, backup, priority, zone, max_in_flight, resolve_all, state } => {
                let spec = json!({
                    "name": name, "address": address, "weight": weight, "backup": backup, "priority": priority, "zone": zone,
                    "max_in_flight": max_in_flight,
                });
                let resolve = if *resolve_all { Resolve::All } else { Resolve::First };
                let spec = config::parse_server(&spec.to_string(), resolve)
                    .map_err(|faults| faults.first().map_or(String::new(), |fault| fault.advice.clone()))?;
                let server = table.add(pool, &spec).map_err(|taken| match taken {
                    Taken::NoPool => "the file does not have the pool".to_owned(),
                    Taken::Name => "the file has a server of this name now".to_owned(),
                    Taken::Address(other) => {
                        format!("{address} belongs to the server {other} of the file now")
                    }
                })?;
                table.adjust(&server, Some(mode_of(state)?), None);
            }
            Change::Removed { address } => {
                listed(address)?;
                table.remove(pool, name);
            }
            Change::Changed { address, listed_weight, weight, state } => {
                let spec = listed(address)?;
                let weight = weight.filter(|_| spec.weight.0 == *listed_weight);
                if weight.is_some_and(|weight| weight > WEIGHT_MAX) {
                    return Err(format!("a weight is at most {WEIGHT_MAX}"));
                }
                let mode = state.as_deref().map(mode_of).transpose()?;
                let server = table.find_in(pool, name).ok_or("it is not there")?;
                table.adjust(&server, mode, weight.map(Weight));
            }
        }
        Ok(())
    }

    fn revert(&self, config: &Config, pool: PoolId, name: &str, table: &Table) {
        let listed = config.pool(pool).list.iter().find(|spec| spec.name == name);
        match self {
            Change::Added { .. } => _ = table.remove(pool, name),
            Change::Removed { .. } => listed.into_iter().for_each(|spec| _ = table.add(pool, spec)),
            Change::Changed { .. } => {
                let server = listed.zip(table.find_in(pool, name));
                server.into_iter().for_each(|(spec, server)| {
                    table.adjust(&server, Some(Mode::Ready), Some(spec.weight));
                });
            }
        }
    }

    /// Changes a list of servers, each as it is written and with its values.
    fn merge_into(&self, list: &mut Vec<(Value, Value)>, name: &str) {
        let is_it = |(_, entry): &(Value, Value)| {
            entry["name"] == *name || entry["name"].is_null() && entry["address"] == *name
        };
        match self {
            Change::Added { address, weight, backup, priority, zone, max_in_flight, resolve_all, .. } => {
                let mut entry = json!({ "name": name, "address": address, "weight": weight });
                if *backup {
                    entry["backup"] = json!(true);
                }
                if *priority > 0 {
                    entry["priority"] = json!(priority);
                }
                zone.iter().for_each(|zone| entry["zone"] = json!(zone));
                max_in_flight.iter().for_each(|most| entry["max_in_flight"] = json!(most));
                if *resolve_all {
                    entry["resolve"] = json!("all");
                }
                list.push((entry.clone(), entry));
            }
            Change::Removed { .. } => list.retain(|entry| !is_it(entry)),
            Change::Changed { weight, .. } => {
                let entry = list.iter_mut().find(|entry| is_it(entry));
                entry
                    .zip(*weight)
                    .into_iter()
                    .for_each(|((entry, _), weight)| entry["weight"] = json!(weight));
            }
        }
    }

    /// The mode, where it is not `ready`.
    fn mode(&self) -> Option<&str> {
        let state = match self {
            Change::Added { state, .. } => Some(state),
            Change::Changed { state, .. } => state.as_ref(),
            Change::Removed { .. } => None,
        };
        state.map(String::as_str).filter(|state| *state != Mode::Ready.name())
    }
}

fn added(server: &Server) -> Change {
    Change::Added {
        address: server.address.to_string(),
        weight: server.weight().0,
        backup: server.is_backup(),
        priority: server.priority(),
        zone: server.zone().map(|zone| zone.to_string()),
        max_in_flight: server.own_max_in_flight().map(|limit| match limit {
            MaxInFlight::Fixed(most) => json!(most),
            MaxInFlight::Auto => json!("auto"),
        }),
        resolve_all: *server.role() == Role::Name,
        state: server.mode().name().to_owned(),
    }
}

fn changed(spec: &ServerSpec, server: &Server) -> Option<Change> {
    let weight = Some(server.weight()).filter(|weight| *weight != spec.weight).map(|weight| weight.0);
    let mode = Some(server.mode()).filter(|mode| *mode != Mode::Ready);
    if weight.is_none() && mode.is_none() {
        return None;
    }
    Some(Change::Changed {
        address: spec.address.to_string(),
        listed_weight: spec.weight.0,
        weight,
        state: mode.map(|mode| mode.name().to_owned()),
    })
}

fn is_first(priority: &u8) -> bool {
    *priority == 0
}

fn mode_of(word: &str) -> Result<Mode, String> {
    Mode::of_name(word).ok_or_else(|| format!("{word:?} is no state"))
}

#[cfg(test)]
mod tests {
    use super::super::live::Live;
    use super::*;
    use std::path::Path;

    const FILE: &str = r#"{
        "servers": {"list": [{"name": "a", "address": "10.0.0.1:80", "weight": 2}, {"address": "10.0.0.2:80"}]},
        "pools": {"p": {"list": [{"name": "a", "address": "10.0.1.1:80"}]}}
    }"#;

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("")).unwrap()
    }

    fn changed_table() -> (Config, Table) {
        let config = config(FILE);
        let table = Table::of(Live::plain(config.clone()));
        let p = config.pool_named("p").unwrap();
        let spec = config::parse_server(
            r#"{"name": "n", "address": "10.0.0.9:80", "backup": true}"#,
            Resolve::First,
        )
        .unwrap();
        let added = table.add(PoolId::default(), &spec).unwrap();
        table.adjust(&added, Some(Mode::Maint), Some(Weight(7)));
        table.remove(PoolId::default(), "10.0.0.2:80");
        table.adjust(&table.find("a").unwrap(), None, Some(Weight(9)));
        table.adjust(&table.find_in(p, "a").unwrap(), Some(Mode::Drain), None);
        (config, table)
    }

    fn changes() -> Changes {
        let (config, table) = changed_table();
        Changes::between(&config, &table.snapshot().servers)
    }

    #[test]
    fn without_a_change_there_is_none() {
        let config = config(FILE);
        assert!(
            Changes::between(&config, &Table::of(Live::plain(config.clone())).snapshot().servers).is_empty()
        );
    }

    #[test]
    fn applied_again_they_make_the_same_table() {
        let changes = changes();
        let text = serde_json::to_string(&changes).unwrap();
        let read: Changes = serde_json::from_str(&text).unwrap();
        assert_eq!(read, changes);
        let config = config(FILE);
        let table = Table::of(Live::plain(config.clone()));
        assert_eq!(read.apply(&config, &table), Vec::<String>::new());
        assert_eq!(Changes::between(&config, &table.snapshot().servers), changes);
        let n = table.find("n").unwrap();
        assert_eq!((n.weight(), n.mode(), n.is_backup()), (Weight(7), Mode::Maint, true));
    }

    #[test]
    fn taken_back_the_table_is_as_the_file_says() {
        let (config, table) = changed_table();
        Changes::between(&config, &table.snapshot().servers).revert(&config, &table);
        assert!(Changes::between(&config, &table.snapshot().servers).is_empty());
    }

    #[test]
    fn what_does_not_fit_the_file_any_more_is_left_out_and_told() {
        let config = config(
            r#"{"servers": {"list": [{"name": "a", "address": "10.0.0.1:80", "weight": 3}, {"name": "n", "address": "10.0.0.9:80"}]}}"#,
        );
        let table = Table::of(Live::plain(config.clone()));
        let told = changes().apply(&config, &table);
        assert_eq!(told.len(), 3, "{told:?}");
        for part in ["the pool p", "no server 10.0.0.2:80 at 10.0.0.2:80", "of this name now"] {
            assert!(told.iter().any(|line| line.contains(part)), "{part}: {told:?}");
        }
        assert_eq!(table.find("a").unwrap().weight(), Weight(3), "the file has another weight than before");
    }

    #[test]
    fn the_merged_file_is_valid_and_says_the_same() {
        let values: Value = serde_json::from_str(FILE).unwrap();
        let mut document = values.clone();
        document["servers"]["list"][1]["address"] = json!("${NO_HOST:-10.0.0.2}:80");
        document["servers"]["list"][0]["address"] = json!("${NO_HOST:-10.0.0.1}:80");
        let modes = changes().merge_into(&mut document, &values);
        assert_eq!(modes, ["default/n (maint)", "p/a (drain)"]);
        let merged = config(&document.to_string());
        let shown = |list: &[ServerSpec]| {
            let each = list.iter().map(|spec| format!("{} {} {}", spec.name, spec.address, spec.weight.0));
            each.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(shown(&merged.servers.list), "a 10.0.0.1:80 9, n 10.0.0.9:80 7");
        let mut empty = json!({});
        changes().merge_into(&mut empty, &json!({}));
        assert_eq!(shown(&config(&empty.to_string()).servers.list), "n 10.0.0.9:80 7");
    }
}
