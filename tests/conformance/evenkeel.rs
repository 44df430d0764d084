//! Evenkeel, as the suite sets it up.

use super::case::Setup;
use super::run::Proxy;
use crate::support::Evenkeel;
use serde_json::{Value, json};
use std::net::SocketAddr;

impl Proxy for Evenkeel {
    fn address(&self) -> SocketAddr {
        self.address()
    }
}

/// Starts one before these servers.
pub fn start(servers: &[SocketAddr], setup: Setup) -> Result<Evenkeel, String> {
    let list: Vec<Value> = servers.iter().map(|address| json!({ "address": address.to_string() })).collect();
    let timeouts = match setup {
        Setup::Plain => json!({}),
        Setup::Hasty => {
            json!({ "client_head": "1s", "client_body": "1s", "response": "1s", "keep_alive": "1s" })
        }
    };
    let config = json!({
        "load_balancer": { "served_by_header": false },
        "servers": { "list": list },
        "timeouts": timeouts,
        "log": { "level": "info" },
    });
    Evenkeel::try_start(config).map_err(|(status, lines)| format!("no start: {status}\n{lines}"))
}
