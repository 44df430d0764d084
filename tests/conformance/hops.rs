//! What is for one hop alone, and what every hop adds (RFC 9110 section 7.6, RFC 7239).

use super::case::{Area, Case, Level, OK, Step, get};
use super::observe::AtServers;
use super::rule::{Rule, Rule::*, ensure};

const A: Area = Area::Hops;

/// Fields of a request, and the name that must not go on with any of these words.
const LEFT_OUT: &[(&str, Level, &str, &str, &str)] = &[
    ("connection-names-a-field", Level::Must, "9110 7.6.1", "Connection: X-A\r\nX-A: b\r\n", "X-A"),
    ("connection-names-in-other-case", Level::Must, "9110 7.6.1", "Connection: x-a\r\nX-A: b\r\n", "X-A"),
    ("connection-names-behind-the-field", Level::Must, "9110 7.6.1", "X-A: b\r\nConnection: X-A\r\n", "X-A"),
    ("connection-names-two", Level::Must, "9110 7.6.1", "Connection: X-B, X-A\r\nX-A: b\r\n", "X-A"),
    (
        "connection-names-in-two-lines",
        Level::Must,
        "9110 7.6.1",
        "Connection: X-B\r\nConnection: X-A\r\nX-A: b\r\n",
        "X-A",
    ),
    (
        "connection-names-among-empty-elements",
        Level::Must,
        "9110 7.6.1",
        "Connection: ,, X-A ,\r\nX-A: b\r\n",
        "X-A",
    ),
    ("connection-names-with-close", Level::Must, "9110 7.6.1", "Connection: close, X-A\r\nX-A: b\r\n", "X-A"),
    (
        "connection-names-with-keep-alive",
        Level::Must,
        "9110 7.6.1",
        "Connection: keep-alive, X-A\r\nX-A: b\r\n",
        "X-A",
    ),
    (
        "connection-names-a-field-of-two-lines",
        Level::Must,
        "9110 7.6.1",
        "Connection: X-A\r\nX-A: b\r\nX-A: c\r\n",
        "X-A",
    ),
    (
        "connection-names-keep-alive-field",
        Level::Must,
        "9110 7.6.1",
        "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
        "Keep-Alive",
    ),
    ("connection-close-names-close", Level::Must, "9112 9.6", "Connection: close\r\nClose: 1\r\n", "Close"),
    ("keep-alive-unnamed", Level::Should, "9110 7.6.1", "Keep-Alive: timeout=5\r\n", "Keep-Alive"),
    ("proxy-connection", Level::Should, "9110 7.6.1", "Proxy-Connection: keep-alive\r\n", "Proxy-Connection"),
    ("te-gzip", Level::Should, "9110 7.6.1", "TE: gzip\r\n", "TE"),
    ("te-named", Level::Must, "9110 10.1.4", "TE: deflate;q=0.5\r\nConnection: TE\r\n", "deflate"),
    ("upgrade-unnamed", Level::Should, "9110 7.6.1", "Upgrade: foo\r\n", "Upgrade"),
    (
        "http2-settings",
        Level::Safe,
        "9113 3.1",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "HTTP2-Settings",
    ),
];

/// Fields of a request that go on, whatever Connection says: they are not for this hop.
const KEPT: &[(&str, Level, &str, &str, &str, &str)] = &[
    ("connection-cannot-name-host", Level::Safe, "9110 7.6.1", "Connection: Host\r\n", "Host", "h"),
    (
        "connection-close-alone-names-nothing",
        Level::Must,
        "9110 7.6.1",
        "Connection: close\r\nX-A: b\r\n",
        "X-A",
        "b",
    ),
    ("max-forwards-of-get-is-not-read", Level::May, "9110 7.6.2", "Max-Forwards: 3\r\n", "Max-Forwards", "3"),
    (
        "via-of-others-goes-on",
        Level::Must,
        "9110 7.6.3",
        "Via: 1.0 fred, 1.1 p.example\r\n",
        "Via",
        "1.0 fred, 1.1 p.example",
    ),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(LEFT_OUT.iter().map(|&(id, level, rfc, fields, name)| {
        let case = Case::new(A, id, level, rfc).sends(get(fields)).response("GET");
        if name == "deflate" {
            return case.holds([Status(&[200]), Unseen("deflate")]);
        }
        case.holds([Status(&[200]), SeenLacks(name)]).holds([Rejects(&[400])])
    }));
    cases.extend(KEPT.iter().map(|&(id, level, rfc, fields, name, value)| {
        let case = Case::new(A, id, level, rfc).sends(get(fields)).response("GET");
        case.holds([Status(&[200]), SeenHas(name, value)]).holds([Rejects(&[400])])
    }));
    cases.extend(of_requests());
    cases.extend(of_responses());
    cases.extend(max_forwards());
    cases
}

fn of_requests() -> Vec<Case> {
    let case =
        |id: &str, level, rfc, fields: &str| Case::new(A, id, level, rfc).sends(get(fields)).response("GET");
    vec![
        case("via-is-added", Level::Must, "9110 7.6.3", "").holds([Status(&[200]), SeenHasAny("Via")]),
        case("via-is-added-behind", Level::Must, "9110 7.6.3", "Via: 1.0 fred\r\n").holds([
            Status(&[200]),
            Servers(|seen| {
                let via = seen.requests[0].fields.all("Via").join(", ");
                ensure(via.starts_with("1.0 fred,") && via.split(',').count() == 2, || via.clone())
            }),
        ]),
        Case::new(A, "via-tells-the-version-that-came", Level::Must, "9110 7.6.3")
            .sends("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([
                Status(&[200]),
                Servers(|seen| {
                    let via = seen.requests[0].fields.all("Via");
                    ensure(via.len() == 1 && via[0].starts_with("1.0 "), || format!("{via:?}"))
                }),
            ]),
        case("forwarded-for-is-sent", Level::May, "7239 5.2", "")
            .holds([Status(&[200]), Servers(|seen| told(seen, "127.0.0.1"))]),
        case("forwarded-for-ends-with-the-peer", Level::Safe, "7239 8.1", "X-Forwarded-For: 6.6.6.6\r\n")
            .holds([Status(&[200]), Servers(|seen| told(seen, "127.0.0.1"))]),
        case("te-trailers-is-named", Level::Must, "9110 10.1.4", "TE: trailers\r\nConnection: TE\r\n").holds(
            [
                Status(&[200]),
                Servers(|seen| {
                    let fields = &seen.requests[0].fields;
                    let named = fields.all("Connection").join(",").to_lowercase();
                    let named = named.split(',').any(|option| option.trim() == "te");
                    ensure(!fields.has("TE") || named, || "TE goes on and Connection does not name it".into())
                }),
            ],
        ),
        case(
            "connection-of-many-names",
            Level::May,
            "9110 7.6.1",
            &format!(
                "Connection: {}\r\nX-9: b\r\n",
                (0..50).map(|at| format!("X-{at}")).collect::<Vec<_>>().join(", ")
            ),
        )
        .holds([Status(&[200]), SeenLacks("X-9")])
        .holds([Rejects(&[400, 431])]),
        case("connection-goes-not-on", Level::Must, "9110 7.6.1", "Connection: X-A, close\r\n").holds([
            Status(&[200]),
            Servers(|seen| {
                let named = seen.requests[0].fields.all("Connection").join(",").to_lowercase();
                ensure(!named.contains("x-a"), || named.clone())
            }),
        ]),
    ]
}

/// Whoever says where the request came from: the last address is the peer's own.
fn told(seen: &AtServers, peer: &str) -> Result<(), String> {
    let fields = &seen.requests[0].fields;
    let all = [fields.all("X-Forwarded-For"), fields.all("Forwarded")].concat().join(", ");
    ensure(all.ends_with(peer), || format!("the addresses are {all:?}"))
}

fn of_responses() -> Vec<Case> {
    let case = |id: &str, level, rfc, fields: &str| {
        let says = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        Case::new(A, id, level, rfc).says(says).sends(get("")).response("GET")
    };
    let fine = |rule: Rule| [Status(&[200]), Body(b"ok".to_vec()), rule];
    vec![
        case("response-connection-names-a-field", Level::Must, "9110 7.6.1", "Connection: X-A\r\nX-A: b\r\n")
            .holds(fine(Lacks("X-A"))),
        case(
            "response-connection-names-in-other-case",
            Level::Must,
            "9110 7.6.1",
            "X-a: b\r\nConnection: x-A, foo\r\n",
        )
        .holds(fine(Lacks("X-A"))),
        case(
            "response-keep-alive",
            Level::Must,
            "9110 7.6.1",
            "Connection: keep-alive\r\nKeep-Alive: timeout=9\r\n",
        )
        .holds(fine(Client(|seen| {
            let kept = seen.responses[0].fields.all("Keep-Alive");
            ensure(!kept.iter().any(|value| value == "timeout=9"), || format!("{kept:?}"))
        }))),
        case("response-proxy-connection", Level::Should, "9110 7.6.1", "Proxy-Connection: close\r\n")
            .holds(fine(Lacks("Proxy-Connection"))),
        case(
            "response-connection-close-names-close",
            Level::Must,
            "9112 9.6",
            "Connection: close\r\nClose: 1\r\n",
        )
        .holds(fine(Lacks("Close"))),
        case("response-close-is-for-this-hop", Level::Must, "9112 9.3", "Connection: close\r\n")
            .holds(fine(Stays)),
        case("response-upgrade-unnamed", Level::Should, "9110 7.6.1", "Upgrade: foo\r\n")
            .holds(fine(Lacks("Upgrade"))),
        case("response-via-is-added", Level::May, "9110 7.6.3", "").holds(fine(HasAny("Via"))),
        case("response-via-of-others-goes-on", Level::Must, "9110 7.6.3", "Via: 1.1 fred\r\n").holds(fine(
            Client(|seen| {
                let via = seen.responses[0].fields.all("Via").join(", ");
                ensure(via.starts_with("1.1 fred"), || via.clone())
            }),
        )),
        case(
            "response-connection-cannot-name-the-length",
            Level::Safe,
            "9110 7.6.1",
            "Connection: Content-Length\r\n",
        )
        .holds(fine(Stays)),
    ]
}

/// Max-Forwards counts for OPTIONS and TRACE (RFC 9110 section 7.6.2).
fn max_forwards() -> Vec<Case> {
    let case = |id: &str, level, value: &str| {
        let sent = format!("OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: {value}\r\n\r\n");
        Case::new(A, id, level, "9110 7.6.2").sends(sent).response("GET")
    };
    let trace =
        |value: &str| format!("TRACE / HTTP/1.1\r\nHost: h\r\nMax-Forwards: {value}\r\nCookie: a=b\r\n\r\n");
    vec![
        case("max-forwards-counts-down", Level::Must, "5")
            .holds([Status(&[200]), SeenHas("Max-Forwards", "4")]),
        case("max-forwards-one", Level::Must, "1").holds([Status(&[200]), SeenHas("Max-Forwards", "0")]),
        case("max-forwards-zero", Level::Must, "0").holds([
            Status(&[200, 204]),
            Stays,
            Seen(1),
            Line("GET /next HTTP/1.1"),
        ]),
        case("max-forwards-no-number", Level::May, "x").holds([Rejects(&[400])]).holds([Status(&[200])]),
        Case::new(A, "max-forwards-zero-of-trace", Level::Must, "9110 7.6.2")
            .sends(trace("0"))
            .response("GET")
            .holds([Status(&[200, 400, 403, 405, 501]), Seen(0)]),
        Case::new(A, "trace-tells-no-secrets", Level::Should, "9110 9.3.8")
            .sends(trace("0"))
            .response("GET")
            .holds([Client(|seen| {
                let body = seen.responses.first().map(|response| response.text()).unwrap_or_default();
                ensure(!body.contains("a=b"), || body.clone())
            })]),
    ]
}
