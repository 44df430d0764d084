//! `servers.hedge`, and `hedge` of each pool and route: second attempts beside a first one.

use super::reader::Section;
use super::rules;
use super::tree::Node;
use crate::policy::hedge::{After, Rules};
use std::time::Duration;

/// When a second attempt is made: `true`, or an object.
pub(super) fn hedge(s: &mut Section<'_, '_>) -> Option<Rules> {
    s.optional_or_true("hedge", |s| Rules {
        after: s.get("after", After::Percentile(95), after),
        budget_percent: s.get("budget", 5, percent),
    })
}

/// After which time a second attempt is made: a percentile, or a duration.
fn after(node: &Node) -> Result<After, String> {
    let advice = "write \"p50\" to \"p99\", or a time such as \"50ms\"";
    let text = rules::text(node, advice)?;
    match text.strip_prefix('p').map(str::parse::<u8>) {
        Some(Ok(percentile)) if (50..=99).contains(&percentile) => Ok(After::Percentile(percentile)),
        Some(_) => Err(format!("{node} is not a percentile that can be estimated; {advice}")),
        None => {
            let longest = Duration::from_secs(3600);
            let time = rules::duration(Duration::from_millis(1)..=longest)(node);
            time.map(After::Time).map_err(|fault| format!("{fault}, or \"p50\" to \"p99\""))
        }
    }
}

/// A share such as `"5%"`.
fn percent(node: &Node) -> Result<u32, String> {
    let advice = "write \"1%\" to \"100%\"";
    let text = rules::text(node, advice)?;
    let number = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u32>().ok());
    let number = number.ok_or_else(|| format!("{node} is not a share; {advice}"))?;
    rules::within(number, &(1..=100), node, |bound| format!("\"{bound}%\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::parse;
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(hedge: Value) -> Result<Option<Rules>, String> {
        let config = parse(&json!({ "servers": { "hedge": hedge } }).to_string(), Path::new("/e"));
        config.map(|config| config.servers.hedge).map_err(|faults| faults[0].advice.clone())
    }

    #[test]
    fn a_time_or_a_percentile_and_a_share() {
        let usual = Rules { after: After::Percentile(95), budget_percent: 5 };
        for (hedge, expected) in [
            (json!(null), None),
            (json!(false), None),
            (json!(true), Some(usual)),
            (json!({}), Some(usual)),
            (
                json!({ "after": "p99", "budget": "100%" }),
                Some(Rules { after: After::Percentile(99), budget_percent: 100 }),
            ),
            (
                json!({ "after": "50ms" }),
                Some(Rules { after: After::Time(Duration::from_millis(50)), ..usual }),
            ),
        ] {
            assert_eq!(read(hedge.clone()), Ok(expected), "{hedge}");
        }
    }

    #[test]
    fn what_is_none_says_what_to_write() {
        for (hedge, advice) in [
            (json!({ "after": "p100" }), "\"p50\" to \"p99\""),
            (json!({ "after": "p5" }), "\"p50\" to \"p99\""),
            (json!({ "after": "0ms" }), "too small"),
            (json!({ "after": 50 }), "\"50ms\""),
            (json!({ "budget": 5 }), "\"1%\" to \"100%\""),
            (json!({ "budget": "5" }), "not a share"),
            (json!({ "budget": "101%" }), "too large"),
            (json!({ "budjet": "5%" }), "did you mean \"budget\""),
        ] {
            let fault = read(hedge.clone()).unwrap_err();
            assert!(fault.contains(advice), "{hedge}: {fault}");
        }
    }
}
