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
        /// The time of its own slow start, as in the file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slow_start: Option<String>,
        /// Its aggression.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slow_start_aggression: Option<Value>,
        /// The port of its own agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent_port: Option<u16>,
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
    /// It is one of the addresses of a name of the file or the API, with another weight or mode than the others.
    Member {
        /// The name.
        of: String,
        /// The address that was found, with its port.
        address: String,
        /// The weight that was set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u16>,
        /// The mode that was set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
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
            of_pool.extend(own().flat_map(|name| members(name)));
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
            Change::Added { address, state, .. } => {
                let spec = self.entry(name).unwrap_or_default();
                let spec = config::parse_server(&spec.to_string(), Resolve::First)
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
            Change::Member { of, address, weight, state } => {
                let name = table.find_in(pool, of).filter(|server| *server.role() == Role::Name);
                let name =
                    name.ok_or_else(|| format!("{of} is not a name with several addresses any more"))?;
                let at = address.parse().map_err(|_| format!("{address:?} is not an address"))?;
                let mode = state.as_deref().map(mode_of).transpose()?;
                table.adjust_member(
                    &name,
                    at,
                    mode,
                    weight.filter(|weight| *weight <= WEIGHT_MAX).map(Weight),
                );
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

    /// The entry of a list that stands for an added server.
    fn entry(&self, name: &str) -> Option<Value> {
        let Change::Added { address, weight, backup, priority, zone, max_in_flight, .. } = self else {
            return None;
        };
        let Change::Added { slow_start, slow_start_aggression, agent_port, resolve_all, .. } = self else {
            return None;
        };
        let further = [
            ("backup", backup.then(|| json!(true))),
            ("priority", (*priority > 0).then(|| json!(priority))),
            ("zone", zone.as_ref().map(|zone| json!(zone))),
            ("max_in_flight", max_in_flight.clone()),
            ("slow_start", slow_start.as_ref().map(|time| json!(time))),
            ("slow_start_aggression", slow_start_aggression.clone()),
            ("agent_port", agent_port.map(|port| json!(port))),
            ("resolve", resolve_all.then(|| json!("all"))),
        ];
        let mut entry = json!({ "name": name, "address": address, "weight": weight });
        further.into_iter().for_each(|(key, value)| value.into_iter().for_each(|value| entry[key] = value));
        Some(entry)
    }

    fn revert(&self, config: &Config, pool: PoolId, name: &str, table: &Table) {
        let listed = config.pool(pool).list.iter().find(|spec| spec.name == name);
        match self {
            Change::Added { .. } => _ = table.remove(pool, name),
            Change::Member { of, address, .. } => {
                if let (Some(name), Ok(at)) = (table.find_in(pool, of), address.parse()) {
                    table.adjust_member(&name, at, Some(name.mode()), Some(name.weight()));
                }
            }
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
            Change::Added { .. } => list.extend(self.entry(name).map(|entry| (entry.clone(), entry))),
            // A file says nothing of one member.
            Change::Member { .. } => {}
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
            Change::Changed { state, .. } | Change::Member { state, .. } => state.as_ref(),
            Change::Removed { .. } => None,
        };
        state.map(String::as_str).filter(|state| *state != Mode::Ready.name())
    }
}

/// What was said of single members of a name, by what they are called.
fn members(name: &Server) -> impl Iterator<Item = (String, Change)> {
    let of = name.name.clone();
    name.said_of_members().into_iter().map(move |(at, said)| {
        let change = Change::Member {
            of: of.clone(),
            address: at.to_string(),
            weight: said.weight.map(|weight| weight.0),
            state: said.mode.map(|mode| mode.name().to_owned()),
        };
        (format!("{of}@{}", at.ip().to_canonical()), change)
    })
}

fn added(server: &Server) -> Change {
    let slow_start = server.own_slow_start();
    Change::Added {
        slow_start: slow_start.time.map(config::show_duration),
        slow_start_aggression: slow_start.aggression.map(|number| json!(number)),
        agent_port: server.own_agent_port(),
        address: server.address.to_string(),
        weight: server.weight().0,
        backup: server.is_backup(),
        priority: server.priority(),
        zone: server.zone().map(|zone| zone.to_string()),
        max_in_flight: server.own_max_in_flight().map(|limit| match limit {
            MaxInFlight::Fixed(most) => json!(most),
            limit => json!(limit.to_string()),
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
    Mode::of_name(word).ok_or_else(|| format!("{word:?} is not a state"))
}

#[cfg(test)]
mod tests {
    use super::super::live::Live;
    use super::*;
    use crate::policy::slow_start;
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
            r#"{"name": "n", "address": "10.0.0.9:80", "backup": true, "max_in_flight": 3, "slow_start": "90s",
                "slow_start_aggression": 0.5, "agent_port": 99}"#,
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
        assert_eq!((n.max_in_flight(), n.own_agent_port()), (Some(3), Some(99)));
        let ninety = std::time::Duration::from_secs(90);
        assert_eq!(n.own_slow_start(), slow_start::Settings { time: Some(ninety), aggression: Some(0.5) });
    }

    #[test]
    fn taken_back_the_table_is_as_the_file_says() {
        let (config, table) = changed_table();
        Changes::between(&config, &table.snapshot().servers).revert(&config, &table);
        assert!(Changes::between(&config, &table.snapshot().servers).is_empty());
    }

    #[test]
    fn what_was_said_of_one_member_of_a_name_is_kept() {
        let config =
            config(r#"{"servers": {"list": [{"name": "web", "address": "web.test:80", "resolve": "all"}]}}"#);
        let at = |last: u8| std::net::SocketAddr::from(([10, 0, 0, last], 80));
        let start = || {
            let table = Table::of(Live::plain(config.clone()));
            let web = table.find("web").unwrap();
            (table, web)
        };
        let (table, web) = start();
        table.set_members(&web, &[at(1), at(2)]);
        table.adjust(&table.find("web@10.0.0.2").unwrap(), Some(Mode::Drain), Some(Weight(9)));
        let of = |table: &Table| Changes::between(&config, &table.snapshot().listed());
        let changes = of(&table);
        let text = serde_json::to_string(&changes).unwrap();
        assert!(text.contains(r#""web@10.0.0.2":{"change":"member","of":"web","address":"10.0.0.2:80","weight":9,"state":"drain""#), "{text}");
        // After a restart the name is looked up later.
        let (again, web) = start();
        let read: Changes = serde_json::from_str(&text).unwrap();
        assert_eq!(read.apply(&config, &again), Vec::<String>::new());
        assert_eq!(of(&again), changes);
        again.set_members(&web, &[at(1), at(2)]);
        let two = again.find("web@10.0.0.2").unwrap();
        assert_eq!((two.mode(), two.weight()), (Mode::Drain, Weight(9)));
        assert_eq!(again.find("web@10.0.0.1").unwrap().mode(), Mode::Ready);
        // It goes with its address, with what is said of the name, and when it is taken back.
        again.set_members(&web, &[at(1)]);
        assert!(of(&again).is_empty());
        changes.apply(&config, &again);
        again.set_members(&web, &[at(1), at(2)]);
        changes.revert(&config, &again);
        assert!(of(&again).is_empty() && again.find("web@10.0.0.2").unwrap().mode() == Mode::Ready);
        table.adjust(&table.find("web").unwrap(), Some(Mode::Ready), Some(Weight(9)));
        assert!(!of(&table).pools["default"].contains_key("web@10.0.0.2"));
        let gone = config_of_nothing();
        assert!(read.apply(&gone, &Table::of(Live::plain(gone.clone())))[0].contains("web is not a name"));
    }

    fn config_of_nothing() -> Config {
        config("{}")
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
        assert_eq!(merged.servers.list[1].agent_port, Some(99));
        let mut empty = json!({});
        changes().merge_into(&mut empty, &json!({}));
        assert_eq!(shown(&config(&empty.to_string()).servers.list), "n 10.0.0.9:80 7");
    }
}
