//! The name of a pool, where another key refers to it.

use super::tree::Node;
use super::{DEFAULT_POOL, rules, spell};
use crate::base::ids::PoolId;

/// Names that are listed where one is unknown.
const NAMES_SHOWN: usize = 10;

/// The pool of this name; `pools` are the names in the order of their ids.
pub(super) fn pool(node: &Node, pools: &[&str]) -> Result<PoolId, String> {
    let text = rules::text(node, "write the name of a pool in quotes")?;
    let at = pools.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok());
    at.map(PoolId).ok_or_else(|| unknown(text, pools))
}

fn unknown(text: &str, pools: &[&str]) -> String {
    if text == "servers" {
        return format!("there is no pool {text:?}; write {DEFAULT_POOL:?} for the one of \"servers\"");
    }
    if text.contains("://") || text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return format!(
            "{text:?} is an address; put it into the \"list\" of a pool in \"pools\", and write the pool's name here"
        );
    }
    match spell::nearest(text, pools.iter().copied()) {
        Some(near) => format!("there is no pool {text:?}; did you mean {near:?}?"),
        None => {
            let known: Vec<&str> = pools.iter().copied().take(NAMES_SHOWN).collect();
            format!("there is no pool {text:?}; add it to \"pools\", or write one of: {}", known.join(", "))
        }
    }
}
