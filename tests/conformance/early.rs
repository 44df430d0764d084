//! Final responses that come before the request is whole (RFC 9112 sections 7.5, 9.3 and 9.5).

use super::case::{Area, Case, Level, SMUGGLED, Script, Step, post};
use super::rule::Rule::*;
use crate::support::noise;

const A: Area = Area::Early;
const NO: &[u8] = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
const NO_AND_CLOSE: &[u8] = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";

/// The cases.
pub fn cases() -> Vec<Case> {
    let case = |id: &str, level| Case::new(A, id, level, "9112 9.5");
    let heard = || [Status(&[413]), Body(b"no".to_vec())];
    vec![
        case("early-response-while-uploading", Level::Should)
            .server(Script::AtHead(NO.to_vec()))
            .sends(post("Content-Length: 10\r\n", "hello"))
            .response("GET")
            .holds(heard()),
        case("early-response-while-uploading-chunks", Level::Should)
            .server(Script::AtHead(NO.to_vec()))
            .sends(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"))
            .response("GET")
            .holds(heard()),
        case("early-response-before-the-body", Level::Should)
            .server(Script::AtHead(NO.to_vec()))
            .sends(post("Content-Length: 10\r\n", ""))
            .step(Step::AtServer(1))
            .response("GET")
            .holds(heard()),
        case("early-response-though-the-server-closes", Level::Should)
            .server(Script::Does(|visit| {
                if visit.head().is_some() {
                    visit.send(NO_AND_CLOSE);
                    visit.finish_writing();
                    visit.to_the_end();
                }
            }))
            .sends(post("Content-Length: 300000\r\n", noise(100_000)))
            .response("GET")
            .holds(heard()),
        case("early-response-with-the-whole-body-sent", Level::Should)
            .server(Script::AtHead(NO_AND_CLOSE.to_vec()))
            .sends(post("Content-Length: 100000\r\n", noise(100_000)))
            .response("GET")
            .holds(heard()),
        case("rest-of-the-body-is-no-request", Level::Safe)
            .server(Script::AtHead(NO.to_vec()))
            .sends(post(format!("Content-Length: {}\r\n", SMUGGLED.len() + 5), "hello"))
            .response("GET")
            .sends(SMUGGLED)
            .step(Step::Pause)
            .holds([Status(&[413]), Unserved("/smuggled")]),
        case("connection-serves-on-when-the-body-is-whole", Level::May)
            .server(Script::AroundBody(NO.to_vec(), Vec::new()))
            .sends(post("Content-Length: 10\r\n", "hello"))
            .response("GET")
            .sends("world")
            .holds([Status(&[413]), Body(b"no".to_vec())]),
        case("response-of-unknown-length-while-uploading", Level::Should)
            .server(Script::AtHead(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec(),
            ))
            .sends(post("Content-Length: 10\r\n", "hello"))
            .response("GET")
            .holds([Status(&[200]), Body(b"ok".to_vec())]),
    ]
}
