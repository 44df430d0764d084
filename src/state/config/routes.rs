//! The section `routes`: which requests go where, and what is done with them.

mod conditions;
mod elsewhere;
mod media;
mod outcome;
mod replacement;

pub(super) use conditions::{is_token, path as path_of_condition};
pub(super) use outcome::key;

use super::reader::{Reader, Section};
use super::refine::TUNNEL;
use super::{Guards, guards, hedge, retries, rules};
use crate::base::ids::PoolId;
use crate::base::template::Template;
use crate::policy::backlog::Priority;
use crate::policy::retry;
use crate::policy::route::{Host, Path as PathRule, Rule};
use crate::state::route::{Action, Mirror, OwnTimeouts, Route};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The most routes.
const ROUTES_MAX: usize = 100_000;
/// The longest name made of host and path; a number behind it still fits into 64 characters.
const NAME_MAX: usize = 56;
/// How an entry looks.
const EXAMPLE: &str = "[ { \"path\": \"/v1/*\", \"pool\": \"api\" } ]";
/// Any wait on a socket.
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);

/// One route as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteSpec {
    /// Requests that meet any of these; one for each pair of a host and a path.
    pub rules: Vec<Rule>,
    /// What is done with them.
    pub route: Route,
    /// What its requests have to pass.
    pub guards: Guards,
    /// The file of a response, which is read when the routes are compiled.
    pub body_file: Option<PathBuf>,
}

/// What the routes refer to in the rest of the file.
pub(super) struct Around<'a> {
    /// The names of the pools; the index is the [`PoolId`], the first is `default`.
    pub(super) pools: &'a [&'a str],
    /// The names of the listeners.
    pub(super) listeners: &'a [&'a str],
    /// Where relative paths start.
    pub(super) folder: &'a Path,
    /// What a route's guards are where it has none of its own.
    pub(super) guards: &'a Guards,
    /// What a route's `retries` leaves out.
    pub(super) retries: retry::Rules,
}

/// Reads the section. Faults are collected in the reader.
pub(super) fn routes(top: &mut Section<'_, '_>, around: &Around<'_>) -> Vec<RouteSpec> {
    let mut routes = top.objects_like("routes", EXAMPLE, |section, _| Some(route(section, around)));
    if routes.len() > ROUTES_MAX {
        top.fault("routes", format!("are {}; write at most {ROUTES_MAX}", routes.len()));
    }
    name_the_nameless(&mut routes);
    routes
}

/// Adds a fault for names that are used twice, and warnings for routes that can never match and pools without a route.
pub(super) fn check(routes: &[RouteSpec], pools: &[&str], guards: &Guards, reader: &mut Reader) {
    let (mut names, mut rules) = (HashMap::new(), HashMap::new());
    for (index, spec) in routes.iter().enumerate() {
        let first = *names.entry(&spec.route.name).or_insert(index);
        if first != index {
            let advice =
                format!("{:?} is the name of routes[{first}] too; write another name", spec.route.name);
            reader.contradiction(&[&format!("routes[{index}].name")], advice);
        }
        let same: Vec<usize> =
            spec.rules.iter().map(|rule| *rules.entry(format!("{rule:?}")).or_insert(index)).collect();
        if let Some(first) = same.iter().max().filter(|_| same.iter().all(|first| *first != index)) {
            let advice =
                format!("can never match: routes[{first}] has the same conditions; take one of them away");
            reader.warning(&[&format!("routes[{index}]")], advice);
        }
    }
    let asked = |guards: &Guards| guards.forward_auth.as_ref().map(|auth| auth.pool);
    let used: HashSet<PoolId> = (routes.iter())
        .flat_map(|spec| spec.route.pools().into_iter().chain(asked(&spec.guards)))
        .chain(asked(guards))
        .collect();
    for (number, name) in (0..).zip(pools).skip(1) {
        if !used.contains(&PoolId(number)) {
            let advice = "no route leads here; name it in the \"pool\" of a route, or take it away";
            reader.warning(&[&format!("pools.{name}")], advice.to_owned());
        }
    }
}

fn route(s: &mut Section<'_, '_>, around: &Around<'_>) -> RouteSpec {
    elsewhere::report(s);
    let name = s.maybe("name", None, rules::server_name).unwrap_or_default();
    let rules = conditions::rules(s, around.listeners);
    let (action, body_file) = outcome::action(s, around);
    let rewrite = outcome::rewrite(s);
    let route = Route {
        name,
        action,
        rewrite,
        request_headers: outcome::edits(
            s,
            "request_headers",
            outcome::request_header,
            outcome::set_in_request,
        ),
        response_headers: outcome::edits(
            s,
            "response_headers",
            outcome::response_header,
            outcome::response_header,
        ),
        security_headers: outcome::security(s),
        timeouts: s.section("timeouts", timeouts),
        retries: s.optional("retries", |section| retries::read(section, around.retries)),
        body_limit: s.section("limits", body_limit),
        access_log: s.get("access_log", true, rules::flag),
        priority: s.get("priority", Priority::default(), rules::priority),
        traffic: Arc::default(),
        hedge: {
            let is_given = s.has("hedge");
            let own = hedge::hedge(s);
            is_given.then_some(own)
        },
        attempt_time: Arc::default(),
        mirror: s.optional("mirror", |section| mirror(section, around)).flatten(),
    };
    check_captures(s, &rules, &route);
    warn_of_a_bare_folder(s, &rules);
    warn_of_a_prefix_of_no_path(s, &rules, &route);
    warn_of_a_loop(s, &rules, &route);
    let guards = guards::read(s, around.folder, around.pools, around.guards);
    RouteSpec { rules, route, guards, body_file }
}

/// Routes without a name are named after their host and path, with a number where that is taken.
fn name_the_nameless(routes: &mut [RouteSpec]) {
    let mut taken: HashSet<String> = routes.iter().map(|spec| spec.route.name.clone()).collect();
    for (index, spec) in routes.iter_mut().enumerate().filter(|(_, spec)| spec.route.name.is_empty()) {
        let base = default_name(&spec.rules, index);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let free = std::iter::once(base.clone()).chain(numbered).find(|name| !taken.contains(name));
        spec.route.name = free.unwrap_or(base);
        taken.insert(spec.route.name.clone());
    }
}

/// `timeouts` of a route, and of a pool.
pub(super) fn timeouts(s: &mut Section<'_, '_>) -> OwnTimeouts {
    let mut wait = |key| s.get(key, None, |node| rules::duration(WAIT)(node).map(Some));
    let (connect, response, client_body) = (wait("connect"), wait("response"), wait("client_body"));
    let tunnel = s.get("tunnel", None, |node| rules::duration(TUNNEL)(node).map(Some));
    let has_own = s.has("request");
    let request = s.maybe("request", None, rules::duration(WAIT));
    OwnTimeouts { connect, response, client_body, request: has_own.then_some(request), tunnel }
}

fn body_limit(s: &mut Section<'_, '_>) -> Option<Option<u64>> {
    let is_given = s.has("body");
    let limit = s.maybe("body", None, rules::size(0..=u64::MAX));
    is_given.then_some(limit)
}

fn mirror(s: &mut Section<'_, '_>, around: &Around<'_>) -> Option<Mirror> {
    let pool = s.required("pool", |node| around.pool(node));
    let percent = s.get("percent", 100, rules::whole(1..=100));
    let body_max = s.get("body", 64 * 1024, rules::size(0..=64 * 1024));
    Some(Mirror { pool: pool?, percent, body_max })
}

/// A template that names a group which no expression of the route's path has would always insert nothing.
fn check_captures(s: &mut Section<'_, '_>, rules: &[Rule], route: &Route) {
    let groups = rules.iter().map(|rule| match &rule.path {
        PathRule::Pattern(pattern) => pattern.groups(),
        PathRule::Exact(_) | PathRule::Prefix(_) => 0,
    });
    let (named, groups) = (usize::from(route.captures()), groups.min().unwrap_or(0));
    if named > groups {
        let advice = format!(
            "has {{{named}}}, and the path has {groups} groups; write the path as a regular expression with groups, such as \
             \"~^/old/(.*)$\""
        );
        s.fault("", advice);
    }
}

/// Others read `/api/` as a prefix.
fn warn_of_a_bare_folder(s: &mut Section<'_, '_>, rules: &[Rule]) {
    let folder = rules.iter().find_map(|rule| match &rule.path {
        PathRule::Exact(path) if path.len() > 1 && path.ends_with(b"/") => {
            Some(String::from_utf8_lossy(path))
        }
        _ => None,
    });
    if let Some(folder) = folder {
        let advice = format!("{folder:?} is this path alone; write \"{folder}*\" for everything below it");
        s.warn("path", advice);
    }
}

/// A redirect to what it is for, of every request that has it.
fn warn_of_a_loop(s: &mut Section<'_, '_>, rules: &[Rule], route: &Route) {
    let Action::Redirect(redirect) = &route.action else { return };
    let target = redirect.target.constant().unwrap_or_default();
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let leads_to_itself = |rule: &Rule| matches!(&rule.path, PathRule::Exact(own) if **own == *path);
    if rules.iter().any(|rule| is_for_all(rule) && leads_to_itself(rule)) {
        let advice =
            "is the path of this route: clients would be redirected without an end; write another one";
        s.warn("redirect.target", advice.to_owned());
    }
    if rules.iter().any(|rule| is_for_all(rule) && leads_to_https_of_itself(rule, &redirect.target)) {
        let advice = "leads back here: requests by https have the same host and path, and are redirected as well; write \
                      \"redirect_to_https\": true into the listener in clear text, or \"listener\" into this route";
        s.warn("redirect.target", advice.to_owned());
    }
}

/// Whether host and path alone decide which requests it is for.
fn is_for_all(rule: &Rule) -> bool {
    let has_no_fields = rule.headers.is_empty() && rule.query.is_empty() && rule.cookies.is_empty();
    has_no_fields && rule.methods.is_empty() && rule.clients.is_empty() && rule.listeners.is_empty()
}

/// Whether the target is the same host and path, by https.
fn leads_to_https_of_itself(rule: &Rule, target: &Template) -> bool {
    let own = match &rule.host {
        Host::Exact(host) => Some(String::from_utf8_lossy(host).into_owned()),
        Host::Any | Host::Under(_) => None,
    };
    let hosts = ["{host}".to_owned()].into_iter().chain(own);
    let mut same = hosts.flat_map(|host| ["{uri}", "{path}"].map(|rest| format!("https://{host}{rest}")));
    same.any(|same| Template::parse(&same).is_ok_and(|same| same == *target))
}

/// `strip_prefix` removes nothing where none of the paths begins so.
fn warn_of_a_prefix_of_no_path(s: &mut Section<'_, '_>, rules: &[Rule], route: &Route) {
    let Some(prefix) = route.rewrite.as_ref().and_then(|rewrite| rewrite.strip_prefix.as_deref()) else {
        return;
    };
    let begins = |path: &[u8], start: &[u8]| {
        path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    let may_begin = |rule: &Rule| match &rule.path {
        PathRule::Exact(path) => begins(path, prefix),
        PathRule::Prefix(path) => begins(path, prefix) || begins(prefix, path),
        PathRule::Pattern(_) => true,
    };
    if !rules.iter().any(may_begin) {
        let advice = "removes nothing: no path of this route begins with it; write the start of \"path\", without \"/*\"";
        s.warn("rewrite.strip_prefix", advice.to_owned());
    }
}

/// The host and the path as a name, without what a name cannot have.
fn default_name(rules: &[Rule], index: usize) -> String {
    let text = rules.first().map(|rule| format!("{}{}", shown_host(&rule.host), shown_path(&rule.path)));
    let text = text.unwrap_or_default();
    let is_plain = |char: char| char == '.' || rules::check_name(char.encode_utf8(&mut [0; 4])).is_ok();
    let plain = |char: char| if is_plain(char) { char } else { '-' };
    let name: String = text.chars().map(plain).take(NAME_MAX).collect();
    match rules::check_name(&name) {
        Ok(()) if name.chars().any(|char| char.is_ascii_alphanumeric()) => name,
        _ => format!("route-{index}"),
    }
}

fn shown_host(host: &Host) -> String {
    match host {
        Host::Any => String::new(),
        Host::Exact(host) => String::from_utf8_lossy(host).into_owned(),
        Host::Under(host) => format!("*.{}", String::from_utf8_lossy(host)),
    }
}

fn shown_path(path: &PathRule) -> String {
    match path {
        PathRule::Exact(path) => String::from_utf8_lossy(path).into_owned(),
        PathRule::Prefix(prefix) => format!("{}/*", String::from_utf8_lossy(prefix)),
        PathRule::Pattern(pattern) => format!("~{}", pattern.text()),
    }
}

#[cfg(test)]
mod tests;
