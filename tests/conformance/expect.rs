//! Expect, and interim responses (RFC 9110 sections 10.1.1 and 15.2).

use super::case::{Area, Case, Level, OK, Script, Step, get, post};
use super::rule::{Rule::*, ensure};
use crate::support::origin::Visit;

const A: Area = Area::Expect;
const HUNDRED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const EXPECT: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n";

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = of_requests();
    cases.extend(of_responses());
    cases
}

/// Says 100 where it is expected to.
fn continues(visit: &mut Visit) {
    while let Some(head) = visit.head() {
        if head.fields.has("Expect") {
            visit.send(HUNDRED);
        }
        if visit.body(head).is_none() {
            return;
        }
        visit.send(OK);
    }
}

fn of_requests() -> Vec<Case> {
    let case = |id: &str, level| Case::new(A, id, level, "9110 10.1.1");
    let around = || Script::Does(continues);
    let unasked = || Script::AroundBody(HUNDRED.to_vec(), OK.to_vec());
    let done = || [Status(&[200]), SeenBody(b"hello".to_vec())];
    vec![
        case("client-that-waits-gets-100", Level::Must)
            .server(around())
            .sends(post(EXPECT, ""))
            .step(Step::Interim)
            .sends("hello")
            .response("GET")
            .holds(
                [
                    &done()[..],
                    &[
                        Stays,
                        Client(|seen| {
                            let first = seen.interims.first().map(|interim| interim.status);
                            ensure(first == Some(100), || format!("{first:?}"))
                        }),
                    ],
                ]
                .concat(),
            ),
        case("client-that-waits-gets-a-rejection-instead", Level::Must)
            .server(Script::AtHead(
                b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno".to_vec(),
            ))
            .sends(post(EXPECT, ""))
            .step(Step::AtServer(1))
            .response("GET")
            .holds([Status(&[403]), Body(b"no".to_vec())]),
        case("client-that-does-not-wait", Level::Must)
            .server(around())
            .sends(post(EXPECT, "hello"))
            .response("GET")
            .holds([&done()[..], &[Stays]].concat()),
        case("server-that-sends-no-100", Level::Must)
            .sends(post(EXPECT, "hello"))
            .response("GET")
            .holds(done()),
        case("expect-of-a-chunked-body", Level::Must)
            .server(around())
            .sends(post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""))
            .step(Step::Interim)
            .sends("5\r\nhello\r\n0\r\n\r\n")
            .response("GET")
            .holds(done()),
        case("expect-in-other-case", Level::Must)
            .server(around())
            .sends(post("eXPECT: 100-Continue\r\nContent-Length: 5\r\n", ""))
            .step(Step::Interim)
            .sends("hello")
            .response("GET")
            .holds(done()),
        case("expect-without-a-body", Level::Must)
            .sends(get("Expect: 100-continue\r\n"))
            .response("GET")
            .holds([Status(&[200]), Interims(&[]), Stays])
            .holds([Status(&[200]), Interims(&[100]), Stays]),
        case("expect-of-1.0-is-ignored", Level::Must)
            .server(Script::Says(OK.to_vec()))
            .sends("POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .response("GET")
            .holds([Status(&[200]), Interims(&[]), SeenBody(b"hello".to_vec())]),
        case("100-of-a-server-does-not-reach-1.0", Level::Must)
            .server(unasked())
            .sends("POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .response("GET")
            .holds([Status(&[200]), Interims(&[])]),
        case("expect-unknown", Level::May)
            .sends(get("Expect: 200-ok\r\n"))
            .response("GET")
            .holds([Status(&[417])])
            .holds([Status(&[200])]),
        case("expect-of-two", Level::May)
            .sends(post("Expect: 100-continue, x=y\r\nContent-Length: 5\r\n", "hello"))
            .response("GET")
            .holds([Status(&[417])])
            .holds([Status(&[200])]),
        case("request-behind-a-rejected-expectation", Level::Safe)
            .server(Script::AtHead(
                b"HTTP/1.1 417 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
            ))
            .sends(post("Expect: 100-continue\r\nContent-Length: 38\r\n", ""))
            .step(Step::AtServer(1))
            .response("GET")
            // The client did not send the body. What it sends is body all the same.
            .sends("GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds([Status(&[417]), Unserved("/smuggled")]),
    ]
}

fn of_responses() -> Vec<Case> {
    let case = |id: &str, level, before: &str| {
        let says = format!("{before}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Case::new(A, id, level, "9110 15.2").says(says).sends(get("")).response("GET")
    };
    let fine = || [Status(&[200]), Body(b"ok".to_vec()), Stays];
    let with = |statuses| [Status(&[200]), Interims(statuses), Body(b"ok".to_vec()), Stays];
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    vec![
        case("103-goes-on", Level::Must, hints).holds(with(&[103])),
        case("103-keeps-its-fields", Level::Must, hints).holds([
            Status(&[200]),
            Client(|seen| {
                let links =
                    seen.interims.first().map(|interim| interim.fields.all("Link")).unwrap_or_default();
                ensure(links == ["</a>; rel=preload"], || format!("{links:?}"))
            }),
        ]),
        case("102-goes-on", Level::Must, "HTTP/1.1 102 Processing\r\n\r\n").holds(with(&[102])),
        case("unknown-1xx-goes-on", Level::Must, "HTTP/1.1 142 Whatever\r\nX-A: b\r\n\r\n")
            .holds(with(&[142])),
        case("199-goes-on", Level::Must, "HTTP/1.1 199 Last\r\n\r\n").holds(with(&[199])),
        case(
            "three-interim-responses-go-on",
            Level::Must,
            "HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: <a>\r\n\r\nHTTP/1.1 103 E\r\n\r\n",
        )
        .holds(with(&[102, 103, 103])),
        case("100-unasked-does-no-harm", Level::Must, "HTTP/1.1 100 Continue\r\n\r\n").holds(fine()),
        case(
            "two-100-unasked-do-no-harm",
            Level::Must,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        )
        .holds(fine()),
        Case::new(A, "interim-response-comes-before-the-final-one", Level::Must, "9110 15.2")
            .server(Script::AroundBody(hints.into(), OK.to_vec()))
            .sends(post("Content-Length: 5\r\n", ""))
            .step(Step::Interim)
            .sends("hello")
            .response("GET")
            .holds([Status(&[200]), Interims(&[103])]),
        Case::new(A, "no-interim-response-to-1.0", Level::Must, "9110 15.2")
            .says([hints.as_bytes(), OK].concat())
            .sends("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Status(&[200]), Interims(&[]), Body(b"ok".to_vec())]),
        Case::new(A, "interim-response-to-head", Level::Must, "9110 15.2")
            .says([hints.as_bytes(), b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"].concat())
            .sends("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
            .response("HEAD")
            .holds([Status(&[200]), Interims(&[103]), Status(&[200])]),
        case("interim-response-with-a-length", Level::Must, "HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n")
            .holds([Status(&[200]), Body(b"ok".to_vec())])
            .holds([Status(&[502])]),
        case("interim-response-byte-by-byte", Level::Must, hints)
            .server(Script::SaysBytewise([hints.as_bytes(), OK].concat()))
            .holds(with(&[103])),
        case("interim-response-and-nothing", Level::Must, "")
            .server(Script::SaysAndCloses(hints.into()))
            .holds([Status(&[502, 504])])
            .holds([Responses(0), Ends]),
    ]
}
