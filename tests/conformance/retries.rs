//! What may be sent again, and what may not (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).

use super::case::{Area, Case, Level, OK, Script, Step, get, post};
use super::rule::Rule::*;

const A: Area = Area::Retries;
const FAILED: &[u16] = &[502, 503, 504];

/// Two requests to two servers, of which one fails: at least one request meets it, whatever the balance.
fn both(id: &str, level: Level, rfc: &'static str, bad: Script, request: &[u8]) -> Case {
    let case = Case::new(A, id, level, rfc).servers(vec![bad, Script::Says(OK.to_vec())]);
    case.sends(request).response("GET").sends(request).response("GET")
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let get = get("");
    let post = post("Content-Length: 5\r\n", "hello");
    let says_nothing = || Script::SaysAndCloses(Vec::new());
    let well = || [Responses(2), StatusOf(0, &[200]), StatusOf(1, &[200])];
    let one = |id: &str, level, script, request: &[u8]| {
        Case::new(A, id, level, "9110 9.2.2").server(script).sends(request).response("GET")
    };
    vec![
        both("server-that-rejects-costs-no-get", Level::May, "9110 9.2.2", Script::Rejects, &get)
            .holds(well()),
        both("server-that-rejects-costs-no-post", Level::May, "9110 9.2.2", Script::Rejects, &post)
            .holds(well()),
        both("server-that-closes-costs-no-get", Level::May, "9110 9.2.2", says_nothing(), &get).holds(well()),
        one("post-without-a-response-is-sent-once", Level::Must, says_nothing(), &post)
            .holds([Status(FAILED), Seen(1)])
            .holds([Responses(0), Ends, Seen(1)]),
        one("post-with-a-reset-is-sent-once", Level::Must, Script::SaysAndResets(Vec::new()), &post)
            .holds([Status(FAILED), Seen(1)])
            .holds([Responses(0), Ends, Seen(1)]),
        one(
            "post-with-half-a-response-is-sent-once",
            Level::Must,
            Script::SaysAndCloses(b"HTTP/1.1 200 OK\r\nX:".to_vec()),
            &post,
        )
        .holds([Incomplete, Seen(1)]),
        one(
            "get-with-half-a-response-is-not-answered-twice",
            Level::Must,
            Script::SaysAndCloses(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe".to_vec()),
            &get,
        )
        .holds([Incomplete]),
        both("post-is-never-at-two-servers", Level::Must, "9110 9.2.2", says_nothing(), &post)
            .holds([SeenAtMost(2)]),
        one(
            "500-is-not-asked-again-of-a-post",
            Level::Must,
            Script::Says(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec()),
            &post,
        )
        .holds([Status(&[500]), Seen(1)]),
        one("no-server-is-503-or-502", Level::Should, Script::Rejects, &get).holds([Status(FAILED)]),
        one("no-server-for-a-post", Level::Should, Script::Rejects, &post).holds([Status(FAILED)]),
        both("both-servers-reject", Level::Should, "9110 15.6", Script::Rejects, &get)
            .servers(vec![Script::Rejects, Script::Rejects])
            .holds([Status(FAILED)]),
        Case::new(A, "pooled-connection-dies-under-a-get", Level::Should, "9112 9.3.1")
            .server(Script::Does(|visit| {
                // The first connection responds once and closes when the second request comes.
                let mut responses = 0;
                while visit.request().is_some() {
                    if visit.number == 0 && responses == 1 {
                        return;
                    }
                    responses += 1;
                    visit.send(OK);
                }
            }))
            .sends(&get)
            .response("GET")
            .step(Step::Pause)
            .sends(&get)
            .response("GET")
            .holds(well()),
        Case::new(A, "pooled-connection-dies-under-a-post", Level::Must, "9110 9.2.2")
            .server(Script::Does(|visit| {
                let mut responses = 0;
                while visit.request().is_some() {
                    if visit.number == 0 && responses == 1 {
                        return;
                    }
                    responses += 1;
                    visit.send(OK);
                }
            }))
            .sends(&get)
            .response("GET")
            .step(Step::Pause)
            .sends(&post)
            .response("POST")
            // The server has had it whole: it must not get it again.
            .holds([StatusOf(1, FAILED), Seen(2)])
            .holds([Responses(1), Ends, Seen(2)]),
    ]
}
