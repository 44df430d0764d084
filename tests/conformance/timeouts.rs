//! Peers that stand still (RFC 9110 sections 15.5.9 and 15.6.5). The proxy waits for a second.

use super::case::{Area, Case, Level, Script, Setup, Step, get, post};
use super::rule::Rule::*;

const A: Area = Area::Timeouts;

/// The cases.
pub fn cases() -> Vec<Case> {
    let case = |id: &str, level, rfc| Case::new(A, id, level, rfc).setup(Setup::Hasty);
    vec![
        case("half-a-head", Level::Should, "9110 15.5.9")
            .sends("GET / HTTP/1.1\r\nHost: h\r\nX-A: b")
            .response("GET")
            .holds([Rejects(&[408, 400])]),
        case("half-a-request-line", Level::Should, "9110 15.5.9")
            .sends("GET / HT")
            .response("GET")
            .holds([Rejects(&[408, 400])]),
        case("half-a-request-line-of-no-version", Level::Should, "9110 15.5.9")
            .sends("GET /\r\n")
            .response("GET")
            .holds([Rejects(&[408, 400, 505])]),
        case("nothing-is-sent", Level::Should, "9112 9.5").response("GET").holds([Rejects(&[408, 400])]),
        case("half-a-body", Level::Should, "9110 15.5.9")
            .sends(post("Content-Length: 10\r\n", "hello"))
            .response("GET")
            .holds([Rejects(&[408, 400, 504])]),
        case("half-a-chunked-body", Level::Should, "9110 15.5.9")
            .sends(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"))
            .response("GET")
            .holds([Rejects(&[408, 400, 504])]),
        case("huge-length-and-no-body", Level::Should, "9110 15.5.9")
            .sends(post("Content-Length: 999999999\r\n", ""))
            .response("GET")
            .holds([Rejects(&[408, 400, 413, 504])]),
        case("server-says-nothing", Level::Should, "9110 15.6.5")
            .server(Script::Does(|visit| drop(visit.to_the_end())))
            .sends(get(""))
            .response("GET")
            .holds([Status(&[504])]),
        case("server-says-half-a-head", Level::Should, "9110 15.6.5")
            .server(Script::Does(|visit| {
                if visit.request().is_some() {
                    visit.send("HTTP/1.1 200 OK\r\nContent-");
                    visit.to_the_end();
                }
            }))
            .sends(get(""))
            .response("GET")
            .holds([Status(&[504, 502])]),
        case("server-says-half-a-body", Level::Must, "9112 8")
            .server(Script::Does(|visit| {
                if visit.request().is_some() {
                    visit.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
                    visit.to_the_end();
                }
            }))
            .sends(get(""))
            .response("GET")
            .holds([Incomplete, Ends]),
        case("idle-connection-is-closed", Level::May, "9112 9.5")
            .sends(get(""))
            .response("GET")
            .holds([Status(&[200]), Ends]),
    ]
}
