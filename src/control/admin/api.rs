//! The endpoints.

use super::View;
use super::guard;
use super::intake::{Call, decoded};
use super::{dashboard, decisions, metrics, names, recent, requests, routes, server_status, servers, status};
use crate::base::ids::PoolId;
use crate::base::time;
use crate::front::Response;
use crate::state::changes::Changes;
use crate::state::config::{DEFAULT_POOL, Fault};
use crate::state::server::{Role, Server};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tiny_http::Method;

const SERVERS: &str = "/api/v1/servers";
const POOLS: &str = "/api/v1/pools";
const ROUTES: &str = "/api/v1/routes";
/// The path of upgrades.
pub(super) const UPGRADE: &str = "/api/v1/upgrade";

const INDEX: &str = "\
Evenkeel, the admin API

GET     /dashboard               a page for browsers, which also get it at /
GET     /live                    200 while the process responds
GET     /ready                   200, or 503 while it stops
GET     /metrics                 in the Prometheus text format
GET     /api/v1/status           everything at a glance, as JSON
GET     /api/v1/requests         requests in flight: what each waits for, and since when
GET     /api/v1/history          the last five minutes, a sample a second   [?since=N]
GET     /api/v1/events           recent events                              [?since=N]
GET     /api/v1/decisions        where the last requests went, and why     [?pool= &server= &request_id= &since= &limit=]
POST    /api/v1/decisions/next   records the next requests                  [?count=N &pool= &request_id= &header=name:value]
GET     /api/v1/servers          all servers
POST    /api/v1/servers          {\"name\": \"a\", \"address\": \"127.0.0.1:9001\", \"weight\": 1, \"backup\": false}
GET     /api/v1/servers/{name}   one server
PATCH   /api/v1/servers/{name}   {\"weight\": 5, \"state\": \"ready\" | \"drain\" | \"maint\"}
DELETE  /api/v1/servers/{name}   removes it
GET     /api/v1/changes          what this API has changed
DELETE  /api/v1/changes          undoes it
POST    /api/v1/reload           reads the configuration again: what changed, or what is wrong with it; GET: what would change
POST    /api/v1/upgrade          replaces the program, with the same sockets; GET: how far it got
GET     /api/v1/pools            all pools
GET     /api/v1/routes           all routes, and what was counted of their requests
*       /api/v1/pools/{pool}/servers[/{name}]   the paths above are for servers of the default pool; these for any pool

Changes need Content-Type: application/json.
";

/// The endpoint of a path.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Index,
    Live,
    Ready,
    Metrics,
    Status,
    Requests,
    Changes,
    Reload,
    Upgrade,
    History,
    Events,
    Decisions,
    NextDecisions,
    Pools,
    Routes,
    /// Of this pool; `None` is all pools for a list, and the default pool for a change.
    Servers(Option<String>),
    /// Of this pool, by its name.
    Server(String, String),
}

/// Checks a request before its body is read. Returns a rejection, or the response of the probe endpoints, which must
/// not depend on anything else. `None` accepts the request.
pub(super) fn judge(view: &View, call: &Call) -> Option<Response> {
    if let Some(file) = dashboard::file(call, view.live().config.admin.token.is_some()) {
        return Some(file);
    }
    match judged(view, call) {
        Err(rejection) => Some(rejection),
        Ok(Place::Live) => Some(Response::text(
            200, "live
",
        )),
        Ok(Place::Ready) => Some(ready(view)),
        Ok(_) => None,
    }
}

/// The response to a request that was accepted.
pub(super) fn response(view: &View, call: &Call) -> Response {
    match place(&call.path) {
        Ok(place) => act(view, call, place),
        Err((status, sentence)) => call.reject(status, sentence),
    }
}

/// Checks the caller, the path and the method.
fn judged(view: &View, call: &Call) -> Result<Place, Response> {
    guard::enter(view, call)?;
    let place = place(&call.path).map_err(|(status, sentence)| call.reject(status, sentence))?;
    let allowed = place.methods();
    if !allowed.contains(&call.method) {
        let allow = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let sentence = format!("{} does not take this method. It takes {allow}.", call.path);
        return Err(call.reject(405, sentence).with("Allow", allow));
    }
    guard::change(view, call)?;
    Ok(place)
}

fn act(view: &View, call: &Call, place: Place) -> Response {
    match (place, &call.method) {
        (Place::Index, _) => Response::text(200, INDEX),
        (Place::Live, _) => Response::text(200, "live\n"),
        (Place::Ready, _) => ready(view),
        (Place::Metrics, _) => metrics::response(view),
        (Place::Status, _) => Response::json(200, &status::status(view)),
        (Place::Requests, _) => Response::json(200, &requests::requests(view)),
        (Place::Changes, Method::Delete) => revert(view),
        (Place::Changes, _) => Response::json(200, &changes(view)),
        (Place::Reload, _) => reload(view, call),
        (Place::Upgrade, Method::Post) => upgrade(view, call),
        (Place::Upgrade, _) => Response::json(200, &view.upgrading.state()),
        (Place::History, _) => since(call, |number| recent::history(view, number)),
        (Place::Events, _) => since(call, |number| recent::events(view, number)),
        (Place::Decisions, _) => decisions::last(view, call),
        (Place::NextDecisions, _) => decisions::next(view, call),
        (Place::Pools, _) => Response::json(200, &json!({ "pools": status::pools(view) })),
        (Place::Routes, _) => Response::json(200, &json!({ "routes": routes::routes(view) })),
        (Place::Servers(None), Method::Post) => servers::add(view, call, PoolId::default()),
        (Place::Servers(None), _) => listed(view, None),
        (Place::Servers(Some(pool)), method) => match (view.live().config.pool_named(&pool), method) {
            (None, _) => no_pool(call, &pool),
            (Some(pool), Method::Post) => servers::add(view, call, pool),
            (Some(pool), _) => listed(view, Some(pool)),
        },
        (Place::Server(pool, name), method) => match view.live().config.pool_named(&pool) {
            None => no_pool(call, &pool),
            Some(pool) => act_on_server(view, call, method, pool, &name),
        },
    }
}

/// A list from the number on that the query gives.
fn since<T: Serialize>(call: &Call, list: impl Fn(u64) -> T) -> Response {
    match call.number("since") {
        Ok(number) => Response::compact(&list(number)),
        Err(sentence) => call.reject(400, sentence),
    }
}

fn act_on_server(view: &View, call: &Call, method: &Method, pool: PoolId, name: &str) -> Response {
    match method {
        Method::Patch => servers::change(view, call, pool, name),
        Method::Delete => servers::remove(view, call, pool, name),
        _ => {
            let server = view.table.find_in(pool, name);
            server.map_or_else(|| unknown(call, name), |server| shown(200, view, &server))
        }
    }
}

/// The servers of a pool; of all pools without one.
fn listed(view: &View, pool: Option<PoolId>) -> Response {
    let now = time::now();
    let names = names::names(view, pool, now);
    Response::json(200, &json!({ "servers": server_status::servers(view, pool, now), "names": names }))
}

impl Place {
    fn methods(&self) -> &'static [Method] {
        match self {
            Place::NextDecisions => &[Method::Post],
            Place::Reload | Place::Upgrade => &[Method::Get, Method::Head, Method::Post],
            Place::Changes => &[Method::Get, Method::Head, Method::Delete],
            Place::Servers(_) => &[Method::Get, Method::Head, Method::Post],
            Place::Server(..) => &[Method::Get, Method::Head, Method::Patch, Method::Delete],
            _ => &[Method::Get, Method::Head],
        }
    }
}

fn place(path: &str) -> Result<Place, (u16, &'static str)> {
    match path {
        "/" => Ok(Place::Index),
        "/live" => Ok(Place::Live),
        "/ready" => Ok(Place::Ready),
        "/metrics" => Ok(Place::Metrics),
        "/api/v1/status" => Ok(Place::Status),
        "/api/v1/requests" => Ok(Place::Requests),
        "/api/v1/reload" => Ok(Place::Reload),
        UPGRADE => Ok(Place::Upgrade),
        "/api/v1/changes" => Ok(Place::Changes),
        "/api/v1/history" => Ok(Place::History),
        "/api/v1/events" => Ok(Place::Events),
        "/api/v1/decisions" => Ok(Place::Decisions),
        "/api/v1/decisions/next" => Ok(Place::NextDecisions),
        SERVERS => Ok(Place::Servers(None)),
        POOLS => Ok(Place::Pools),
        ROUTES => Ok(Place::Routes),
        _ => {
            let segments: Vec<&str> = path.split('/').collect();
            let part = |at: usize| decoded(segments[at]).ok_or((400, NOT_ENCODED));
            match segments[..] {
                ["", "api", "v1", "servers", name] if !name.is_empty() => {
                    Ok(Place::Server(DEFAULT_POOL.to_owned(), part(4)?))
                }
                ["", "api", "v1", "pools", pool, "servers"] if !pool.is_empty() => {
                    Ok(Place::Servers(Some(part(4)?)))
                }
                ["", "api", "v1", "pools", pool, "servers", name] if !pool.is_empty() && !name.is_empty() => {
                    Ok(Place::Server(part(4)?, part(6)?))
                }
                _ => Err((404, "There is nothing at this path. GET / lists the paths.")),
            }
        }
    }
}

const NOT_ENCODED: &str = "The name in the path is not percent-encoded UTF-8.";

/// The path of a server.
pub(super) fn path_of(view: &View, pool: PoolId, name: &str) -> String {
    match pool {
        PoolId(0) => format!("{SERVERS}/{}", encoded(name)),
        _ => format!("{POOLS}/{}/servers/{}", encoded(view.live().config.pool_name(pool)), encoded(name)),
    }
}

/// `/ready` describes the balancer itself. It is ready even when no server is up: otherwise an outage of the servers
/// would remove every balancer from whatever is in front, and turn a 503 with a reason into no response at all.
fn ready(view: &View) -> Response {
    match view.workers.is_leaving() || view.workers.is_stopped() {
        true => Response::text(503, "draining\n"),
        false => Response::text(200, "ready\n"),
    }
}

/// Reads the configuration again, or says what that would do.
fn reload(view: &View, call: &Call) -> Response {
    match if call.method == Method::Post { view.reload.run() } else { view.reload.preview() } {
        Ok(reloaded) => Response::json(200, &reloaded),
        Err(faults) => {
            let sentence = format!("The configuration has {}; nothing was changed.", counted(faults.len()));
            let shown = faults.iter().map(shown_fault).collect();
            Response::faults(&call.path, 422, sentence, shown)
        }
    }
}

/// Asks for an upgrade; how far it comes is asked for later.
fn upgrade(view: &View, call: &Call) -> Response {
    match view.upgrading.ask() {
        Ok(()) => Response::json(202, &view.upgrading.state()),
        Err(why) => call.reject(409, format!("No upgrade was started: {why}.")),
    }
}

/// What the API has made of the file's servers.
fn changes(view: &View) -> Changes {
    let snapshot = view.table.snapshot();
    Changes::between(&snapshot.live.config, &snapshot.listed())
}

/// The servers are as the file says again.
fn revert(view: &View) -> Response {
    let (changes, before) = (changes(view), view.table.snapshot());
    changes.revert(&before.live.config, &view.table);
    let after = view.table.snapshot();
    let is_in = |servers: &[Arc<Server>], id| servers.iter().any(|server| server.id == id);
    let gone = before.servers.iter().filter(|server| !is_in(&after.servers, server.id));
    gone.for_each(|server| (view.forgotten)(server.id));
    after.servers.iter().for_each(|server| (view.registered)(server));
    (view.changed)();
    log::info!("admin: the changes of the API were taken back; the servers are as the file says");
    Response::json(200, &changes)
}

pub(super) fn reject_faults(call: &Call, what: &str, faults: &[Fault]) -> Response {
    let sentence = format!("The {what} has {}.", counted(faults.len()));
    Response::faults(&call.path, 400, sentence, faults.iter().map(shown_fault).collect())
}

fn shown_fault(fault: &Fault) -> Value {
    let Fault { path, advice, file, line, column, excerpt: _ } = fault;
    json!({ "path": path, "advice": advice, "file": file, "line": line, "column": column })
}

fn counted(faults: usize) -> String {
    if faults == 1 { "a fault".to_owned() } else { format!("{faults} faults") }
}

pub(super) fn shown(status: u16, view: &View, server: &Server) -> Response {
    match server.role() {
        Role::Name => Response::json(status, &names::name(view, server, time::now())),
        Role::Single | Role::Member { .. } => {
            Response::json(status, &server_status::server(view, server, time::now()))
        }
    }
}

fn no_pool(call: &Call, name: &str) -> Response {
    let name: String = name.chars().take(100).collect();
    call.reject(404, format!("There is no pool named {name:?}. GET {POOLS} lists all."))
}

pub(super) fn unknown(call: &Call, name: &str) -> Response {
    let name: String = name.chars().take(100).collect();
    call.reject(404, format!("There is no server named {name:?}. GET {SERVERS} lists all."))
}

fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte);
    let each = name.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_read_as_they_are_written() {
        for name in ["a", "127.0.0.1:9001", "unix:run-b.sock", "[::1]:80", "a&b;c=d", "ü", "100%"] {
            assert_eq!(decoded(&encoded(name)).as_deref(), Some(name));
        }
        for text in ["%", "%4", "%zz", "%ff", "a%2"] {
            assert_eq!(decoded(text), None, "{text}");
        }
        assert_eq!(place("/api/v1/servers/a%2fb"), Ok(Place::Server("default".to_owned(), "a/b".to_owned())));
        for path in
            ["/api/v1/servers/", "/api/v1/servers/a/b", "/api/v1/serversa", "/api", "", "live", "/live/"]
        {
            assert_eq!(place(path).map_err(|rejection| rejection.0), Err(404), "{path}");
        }
    }
}
