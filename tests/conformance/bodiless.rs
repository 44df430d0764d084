//! Responses without a body: to HEAD, 204, 304 (RFC 9110 sections 6.4.1, 8.6 and 9.3.2, RFC 9112 section 6.3).

use super::case::{Area, Case, Level, OK, Script, Step, get};
use super::rule::{Rule, Rule::*};

const A: Area = Area::Bodiless;
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = to_head();
    cases.extend(by_status());
    cases.extend(followed());
    cases
}

fn to_head() -> Vec<Case> {
    let case = |id: &str, level, rfc, says: &str| {
        let script = Script::InTurn(vec![says.as_bytes().to_vec()]);
        Case::new(A, id, level, rfc).server(script).sends(HEAD).response("HEAD")
    };
    let empty = |rule: Rule| [Status(&[200]), Body(Vec::new()), rule, Stays];
    vec![
        case("head-with-length", Level::Must, "9112 6.3", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            .holds(empty(Has("Content-Length", "1000")))
            .holds(empty(Lacks("Content-Length"))),
        case(
            "head-keeps-the-length",
            Level::Should,
            "9110 8.6",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        )
        .holds(empty(Has("Content-Length", "1000"))),
        case(
            "head-with-chunks",
            Level::Must,
            "9112 6.3",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .holds(empty(Lacks("X"))),
        case("head-with-nothing", Level::Must, "9112 6.3", "HTTP/1.1 200 OK\r\n\r\n")
            .holds(empty(Lacks("X"))),
        case("head-of-404", Level::Must, "9112 6.3", "HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n").holds([
            Status(&[404]),
            Body(Vec::new()),
            Has("Content-Length", "9"),
        ]),
        case("head-of-204", Level::Must, "9112 6.3", "HTTP/1.1 204 No\r\n\r\n")
            .holds([Status(&[204]), Body(Vec::new())]),
        case("head-of-304", Level::Must, "9112 6.3", "HTTP/1.1 304 No\r\nETag: \"a\"\r\n\r\n").holds([
            Status(&[304]),
            Body(Vec::new()),
            Has("ETag", "\"a\""),
        ]),
        case("head-of-an-error-of-the-proxy", Level::Must, "9112 6.3", "")
            .server(Script::SaysAndCloses(Vec::new()))
            .holds([Status(&[502, 504]), Body(Vec::new()), Client(no_more)]),
        case("head-of-no-server", Level::Must, "9112 6.3", "").server(Script::Rejects).holds([
            Status(&[502, 503, 504]),
            Body(Vec::new()),
            Client(no_more),
        ]),
        Case::new(A, "head-that-is-rejected", Level::Must, "9112 6.3")
            .sends("HEAD / HTTP/1.1\r\nHost : h\r\n\r\n")
            .response("HEAD")
            .holds([Status(&[400]), Body(Vec::new()), Ends])
            .holds([Rejects(&[])]),
        case(
            "head-with-a-body-all-the-same",
            Level::Safe,
            "9112 6.3",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
        .server(Script::InTurn(vec![OK.to_vec()]))
        .step(Step::Pause)
        .sends(get(""))
        .response("GET")
        .holds([Responses(2), Body(b"ok".to_vec())])
        .holds([StatusOf(1, &[502])]),
        Case::new(A, "head-in-1.0", Level::Must, "9112 6.3")
            .says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .sends("HEAD / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("HEAD")
            .holds([Status(&[200]), Body(Vec::new()), Ends]),
        Case::new(A, "head-goes-on-as-head", Level::Must, "9110 9.3.2")
            .says("HTTP/1.1 200 OK\r\n\r\n")
            .sends(HEAD)
            .response("HEAD")
            .holds([Line("HEAD / HTTP/1.1")]),
    ]
}

/// Nothing comes behind the head, unless the proxy closes.
fn no_more(seen: &mut super::observe::AtClient) -> Result<(), String> {
    match seen.client().map(|client| client.is_quiet_or_over()) {
        Some(true) | None => Ok(()),
        Some(false) => Err("bytes came behind the head".into()),
    }
}

fn by_status() -> Vec<Case> {
    let case = |id: &str, level, rfc, says: &str| {
        Case::new(A, id, level, rfc).says(says).sends(get("")).response("GET")
    };
    let responses = |status: &'static [u16]| [Status(status), Body(Vec::new()), Stays];
    let once = |id: &str, level, rfc, says: &str| {
        let case = Case::new(A, id, level, rfc).server(Script::InTurn(vec![says.as_bytes().to_vec()]));
        case.sends(get("")).response("GET")
    };
    vec![
        once("204", Level::Must, "9112 6.3", "HTTP/1.1 204 No Content\r\n\r\n").holds(responses(&[204])),
        once("304", Level::Must, "9112 6.3", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")
            .holds(responses(&[304])),
        once(
            "304-with-a-length",
            Level::Must,
            "9112 6.3",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
        )
        .holds(responses(&[304])),
        once(
            "304-with-chunks",
            Level::Must,
            "9112 6.3",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .holds(responses(&[304])),
        once("204-with-length-zero", Level::Must, "9110 8.6", "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n")
            .holds([Status(&[204]), Lacks("Content-Length"), Stays]),
        once("204-with-a-length", Level::Must, "9110 8.6", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n")
            .holds([Status(&[204]), Lacks("Content-Length"), Body(Vec::new())])
            .holds([Status(&[502])]),
        once(
            "204-with-chunks",
            Level::Must,
            "9112 6.1",
            "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .holds([Status(&[204]), Lacks("Transfer-Encoding"), Body(Vec::new())])
        .holds([Status(&[502])]),
        case(
            "304-keeps-its-fields",
            Level::Must,
            "9110 15.4.5",
            "HTTP/1.1 304 N\r\nETag: \"a\"\r\nCache-Control: max-age=1\r\nVary: A\r\n\r\n",
        )
        .holds([
            Status(&[304]),
            Has("ETag", "\"a\""),
            Has("Cache-Control", "max-age=1"),
            Has("Vary", "A"),
        ]),
    ]
}

/// The request behind one without a body gets its own response.
fn followed() -> Vec<Case> {
    let case = |id: &str, first: &str| {
        let case = Case::new(A, id, Level::Must, "9112 6.3");
        let script = Script::InTurn(vec![first.as_bytes().to_vec(), OK.to_vec()]);
        case.server(script).holds([Responses(2), Body(b"ok".to_vec()), StatusOf(1, &[200])])
    };
    let get = get("");
    vec![
        case("get-behind-head", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .sends(HEAD)
            .response("HEAD")
            .sends(&get)
            .response("GET"),
        case("get-pipelined-behind-head", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            .sends([HEAD.as_bytes(), &get].concat())
            .response("HEAD")
            .response("GET"),
        case("get-behind-204", "HTTP/1.1 204 N\r\n\r\n")
            .sends(&get)
            .response("GET")
            .sends(&get)
            .response("GET"),
        case("get-behind-304-with-length", "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n")
            .sends(&get)
            .response("GET")
            .sends(&get)
            .response("GET"),
        case("get-pipelined-behind-304", "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n")
            .sends([&get[..], &get].concat())
            .response("GET")
            .response("GET"),
    ]
}
