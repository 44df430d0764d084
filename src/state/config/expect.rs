//! `servers.expect`, and `expect` of each pool: which responses are good.

use super::reader::Section;
use super::rules;

/// What is good while nothing else is said.
const BELOW_500: [(u16, u16); 1] = [(100, 499)];

/// What a response to a request must be, not to count against its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Ranges of statuses, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// A response with a status below 400 has a body, unless there cannot be one.
    pub body: bool,
}

impl Expect {
    /// Whether it is one of these statuses.
    pub fn has_status(&self, status: u16) -> bool {
        self.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

/// What is expected; `None` is the default, a status below 500.
pub(super) fn expect(s: &mut Section<'_, '_>) -> Option<Expect> {
    let expect = s.optional("expect", |s| {
        let statuses = s.get("status", BELOW_500.to_vec(), rules::statuses);
        let expect = Expect { statuses, body: s.get("body", false, rules::flag) };
        if !(200..300).any(|status| expect.has_status(status)) {
            let advice = "has no status from 200 to 299, so that every good response would count against its server; write one such as \"200-399\"";
            s.fault("status", advice.to_owned());
        }
        expect
    });
    expect.filter(|expect| expect.body || expect.statuses != BELOW_500)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::parse;
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(expect: Value) -> Result<Option<Expect>, String> {
        let config = parse(&json!({ "servers": { "expect": expect } }).to_string(), Path::new("/e"));
        config.map(|config| config.servers.expect).map_err(|faults| faults[0].to_string())
    }

    #[test]
    fn statuses_and_a_body() {
        let expect = |statuses: &[(u16, u16)], body| Ok(Some(Expect { statuses: statuses.to_vec(), body }));
        assert_eq!(read(json!(null)), Ok(None));
        assert_eq!(read(json!({ "body": false })), Ok(None));
        assert_eq!(read(json!({ "body": true })), expect(&[(100, 499)], true));
        assert_eq!(read(json!({ "status": "200-299,404" })), expect(&[(200, 299), (404, 404)], false));
        for (faulty, part) in [
            (json!({ "status": "300-499" }), "servers.expect.status: has no status from 200 to 299"),
            (json!({ "status": "2xx" }), "is not a valid list of statuses"),
            (json!({ "body": "not_empty" }), "expected true or false"),
            (json!({ "statuses": 200 }), "did you mean \"status\"?"),
        ] {
            let fault = read(faulty.clone()).unwrap_err();
            assert!(fault.contains(part), "{faulty}: {fault}");
        }
    }
}
