//! `servers.agent_check`, and `agent_check` of each pool: agents beside the servers, which say in a line of text how much of the
//! traffic their servers should get.

use super::health_check::{bytes, no_port_of_unix};
use super::reader::{Reader, Section};
use super::{Config, rules, units};
use crate::base::ids::PoolId;
use crate::state::address::Address;
use std::time::Duration;

/// Where agents listen, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCheck {
    /// The port of the servers' addresses at which their agents listen.
    pub port: u16,
    /// Time between two questions to one agent, 10 ms to 1 h.
    pub interval: Duration,
    /// From connecting to the whole line, 1 ms to 10 min.
    pub timeout: Duration,
    /// What is sent first, at most 64 KiB; empty sends nothing.
    pub send: Vec<u8>,
}

/// Reads the key `agent_check` of a pool.
pub(super) fn read(s: &mut Section<'_, '_>) -> Option<AgentCheck> {
    s.optional("agent_check", |s| {
        let interval = s.get("interval", 2 * rules::SECOND, rules::duration(rules::INTERVAL));
        let most = rules::MS..=600 * rules::SECOND;
        AgentCheck {
            // A port that is missing is told.
            port: s.required("port", rules::whole(1..=65535)).unwrap_or_default(),
            interval,
            timeout: s.get("timeout", rules::SECOND.min(interval), rules::duration(most)),
            send: s.maybe("send", None, bytes).unwrap_or_default(),
        }
    })
}

/// What does not fit a server whose agent has this port of its own.
pub(super) fn own_port(s: &mut Section<'_, '_>, address: &Address, port: u16) {
    match address {
        Address::Unix(_) => s.fault("agent_port", "a Unix socket has no ports; leave it out".to_owned()),
        Address::Tcp { port: of_requests, .. } if *of_requests == port => {
            let advice =
                "is also the port of its requests: an agent has a port of its own, and says one line of text";
            s.warn("agent_port", advice.to_owned());
        }
        Address::Tcp { .. } => {}
    }
}

/// What does not fit the pool, and what looks like a mistake.
pub(super) fn contradictions(config: &Config, pool: PoolId, reader: &mut Reader) {
    let (key, servers) = (config.pool_key(pool), config.pool(pool));
    let Some(agent) = &servers.agent_check else {
        let has_port = servers.list.iter().position(|server| server.agent_port.is_some());
        if let Some(at) = has_port {
            let advice = format!("has no effect: agents are asked where {key}.agent_check is set");
            reader.warning(&[&format!("{key}.list[{at}].agent_port")], advice);
        }
        return;
    };
    let key_of = |name: &str| format!("{key}.agent_check.{name}");
    if agent.timeout > agent.interval {
        let advice = format!(
            "{} is longer than the interval ({}): an agent that stalls is heard late",
            units::show_duration(agent.timeout),
            units::show_duration(agent.interval)
        );
        reader.warning(&[&key_of("timeout"), &key_of("interval")], advice);
    }
    let is_of_requests = servers
        .list
        .iter()
        .filter(|server| server.agent_port.is_none())
        .any(|server| matches!(server.address, Address::Tcp { port, .. } if port == agent.port));
    if is_of_requests {
        let advice = "is also the port of requests of one of the servers: an agent has a port of its own, and says one line of text";
        reader.warning(&[&key_of("port")], advice.to_owned());
    }
    no_port_of_unix(&key, &key_of("port"), servers, reader);
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, parse};
    use super::*;
    use std::path::Path;

    fn read(keys: &str, address: &str) -> Result<(Option<AgentCheck>, Vec<Fault>), Vec<Fault>> {
        let text =
            format!(r#"{{"servers": {{"agent_check": {keys}, "list": [{{"address": "{address}"}}]}}}}"#);
        parse(&text, Path::new("")).map(|config| (config.servers.agent_check, config.warnings))
    }

    /// The only fault, or the only warning.
    #[track_caller]
    fn check(keys: &str, address: &str, expected: &str) {
        let told = read(keys, address).map_or_else(|faults| faults, |(_, warnings)| warnings);
        let told: Vec<String> =
            told.iter().map(|fault| format!("{}: {}", fault.path, fault.advice)).collect();
        assert!(told.len() == 1 && told[0].contains(expected), "{keys}: {told:#?}");
    }

    #[test]
    fn a_port_is_enough() {
        let (second, two) = (Duration::from_secs(1), Duration::from_secs(2));
        let agent = AgentCheck { port: 81, interval: two, timeout: second, send: Vec::new() };
        assert_eq!(read(r#"{"port": 81}"#, "a:1").unwrap(), (Some(agent.clone()), Vec::new()));
        assert_eq!(read("null", "a:1").unwrap(), (None, Vec::new()));
        let (read, _) = read(r#"{"port": 81, "interval": "500ms", "send": "hex:00 0a"}"#, "a:1").unwrap();
        let half = Duration::from_millis(500);
        assert_eq!(read, Some(AgentCheck { interval: half, timeout: half, send: vec![0, 10], ..agent }));
    }

    #[test]
    fn mistakes_are_told() {
        check("{}", "a:1", "servers.agent_check.port: is missing");
        check(r#"{"port": 0}"#, "a:1", "too small");
        check("81", "a:1", "expected an object");
        check(r#"{"port": 81, "path": "/x"}"#, "a:1", "path");
        check(r#"{"port": 81, "send": "hex:0"}"#, "a:1", "hexadecimal");
        check(r#"{"port": 81, "timeout": "3s"}"#, "a:1", "is longer than the interval (2s)");
        check(r#"{"port": 81}"#, "a:81", "is also the port of requests");
        check(r#"{"port": 81}"#, "unix:/a", "servers.list[0] is a Unix socket, which has no ports");
    }

    #[test]
    fn a_server_has_a_port_of_its_own() {
        let told = |agent: &str, server: &str| {
            let text = format!(r#"{{"servers": {{"agent_check": {agent}, "list": [{{{server}}}]}}}}"#);
            match parse(&text, Path::new("")) {
                Ok(config) => (config.servers.list[0].agent_port, config.warnings),
                Err(faults) => (None, faults),
            }
        };
        let on = r#"{"port": 81}"#;
        assert_eq!(told(on, r#""address": "a:1", "agent_port": 82"#), (Some(82), Vec::new()));
        assert_eq!(told(on, r#""address": "a:81", "agent_port": 82"#), (Some(82), Vec::new()));
        for (agent, server, expected) in [
            (on, r#""address": "a:1", "agent_port": 1"#, "is also the port of its requests"),
            (
                "null",
                r#""address": "a:1", "agent_port": 2"#,
                "has no effect: agents are asked where servers.agent_check",
            ),
            ("null", r#""address": "unix:/a", "agent_port": 2"#, "a Unix socket has no ports"),
            (on, r#""address": "a:1", "agent_port": 0"#, "too small"),
        ] {
            let (_, faults) = told(agent, server);
            assert!(faults[0].advice.contains(expected), "{server}: {faults:?}");
        }
    }
}
