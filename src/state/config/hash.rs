//! `servers.hash`, and `hash` of each pool: what `consistent_hash` goes by.

use super::reader::{Reader, Section};
use super::tree::{Node, Value};
use super::{Config, routes, rules};
use crate::base::ids::PoolId;
use crate::policy::pick::Algorithm;
use crate::state::route::Key;

/// What a hash goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct HashSettings {
    /// Requests with the same key go to the same server.
    pub by: Key,
    /// Other balancers with the same seed choose the same servers; at most 256 bytes.
    pub seed: String,
    /// A server gets at most so many times its part of the requests in flight, 1 to 100; `None` is without a bound.
    pub bounded_load: Option<f32>,
}

/// Reads the key `hash` of a pool.
pub(super) fn hash(s: &mut Section<'_, '_>) -> HashSettings {
    s.section("hash", |s| HashSettings {
        by: s.get("by", Key::Client, routes::key),
        seed: s.get("seed", String::new(), seed),
        bounded_load: s.maybe("bounded_load", None, bounded_load),
    })
}

/// Keys that mean nothing, or something else, with the algorithm of the pool.
pub(super) fn contradictions(config: &Config, pool: PoolId, reader: &mut Reader) {
    let servers = config.pool(pool);
    let (key, by) = (format!("{}.hash", config.pool_key(pool)), format!("{}.hash.by", config.pool_key(pool)));
    let algorithm = format!("{}.algorithm", config.pool_key(pool));
    let hashes = servers.algorithm.hashes() || servers.shadow.is_some_and(Algorithm::hashes);
    if servers.algorithm == Algorithm::IpHash && servers.hash.by != Key::Client {
        let advice =
            "contradicts ip_hash, which goes by the client; write \"algorithm\": \"consistent_hash\"";
        reader.contradiction(&[&by, &algorithm], advice.to_owned());
    } else if servers.hash != HashSettings::default() && !hashes {
        let advice = format!(
            "has no effect with {}; write \"algorithm\": \"consistent_hash\"",
            servers.algorithm.name()
        );
        reader.warning(&[&by, &key, &algorithm], advice);
    }
}

impl Default for HashSettings {
    fn default() -> Self {
        HashSettings { by: Key::Client, seed: String::new(), bounded_load: None }
    }
}

fn seed(node: &Node) -> Result<String, String> {
    let text =
        rules::text(node, "write a string, the same for all balancers that are to choose the same servers")?;
    if text.len() > 256 { Err("is longer than 256 bytes".to_owned()) } else { Ok(text.to_owned()) }
}

fn bounded_load(node: &Node) -> Result<f32, String> {
    let advice = "write 1 to 100, such as 1.25";
    let number = match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Whole(number) => *number as f64,
        Value::Number(number) => *number,
        _ => return Err(format!("expected a number, found {node}; {advice}")),
    };
    match number {
        number if number < 1.0 => Err(format!("{node} is too small; {advice}")),
        number if number > 100.0 => Err(format!("{node} is too large; {advice}")),
        number => Ok(number as f32),
    }
}
