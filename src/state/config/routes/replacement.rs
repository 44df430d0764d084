//! `replace` in `request_headers` and `response_headers`: changes of parts of values.

use super::super::reader::Section;
use super::super::rules;
use super::super::tree::Value;
use super::outcome::template;
use crate::base::template::Template;
use crate::http1::names::{Name, name_of};
use crate::policy::route::Pattern;
use crate::state::route::{HeaderName, Replacement};

/// How an entry of `replace` looks.
const EXAMPLE: &str = "[ { \"header\": \"Location\", \"match\": \"^http://app:8080/\", \"with\": \"/\" } ]";

/// Reads the list; `rule` says which names may be changed.
pub(super) fn all(s: &mut Section<'_, '_>, rule: fn(&str) -> Result<HeaderName, String>) -> Vec<Replacement> {
    s.objects_like("replace", EXAMPLE, |s, _| one(s, rule))
}

/// A change of a part of a header's value.
fn one(s: &mut Section<'_, '_>, rule: fn(&str) -> Result<HeaderName, String>) -> Option<Replacement> {
    let name = s.required("header", |node| {
        let name = rules::text(node, "write the name of a header")?;
        match name_of(name.as_bytes()) {
            Name::Other | Name::Authorization => rule(name),
            _ => rule(name)
                .and(Err(format!("{node} is read by the balancer; write it in \"set\" or \"remove\""))),
        }
    });
    let pattern = s.required("match", |node| {
        let text = rules::text(node, "write a regular expression")?;
        Pattern::new(text).map_err(|fault| format!("{node} {fault}"))
    });
    let with = s.required("with", |node| match &node.value {
        Value::Text(text) if text.is_empty() => Ok(Template::default()),
        _ => template(node).map(|(_, template)| template),
    });
    let (name, pattern, with) = (name?, pattern?, with?);
    if usize::from(with.captures()) > pattern.groups() {
        let groups = pattern.groups();
        s.fault("with", format!("names the group {{{}}}, and \"match\" has {groups}", with.captures()));
    }
    Some(Replacement { name, pattern, with })
}
