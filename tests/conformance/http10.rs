//! HTTP/1.0 on either side (RFC 9112 sections 2.3, 6.1, 9.3 and appendix C.2).

use super::case::{Area, Case, Level, Script, Step, and_smuggled};
use super::rule::{Rule, Rule::*};

const A: Area = Area::Http10;

fn request(fields: &str) -> String {
    format!("GET /a HTTP/1.0\r\nHost: h\r\n{fields}\r\n")
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = of_clients();
    cases.extend(to_clients());
    cases.extend(of_servers());
    cases
}

fn of_clients() -> Vec<Case> {
    let case = |id: &str, level, rfc, sent: &str| Case::new(A, id, level, rfc).sends(sent).response("GET");
    vec![
        case("1.0-is-served", Level::Must, "9110 2.5", &request("")).holds([Status(&[200]), Body(b"ok".to_vec())]),
        case("1.0-goes-on-in-the-proxys-version", Level::Must, "9112 2.3", &request("")).holds([Line("GET /a HTTP/1.1")]),
        case("1.0-without-host", Level::Should, "9112 3.2", "GET /a HTTP/1.0\r\n\r\n")
            .holds([Status(&[200]), SeenHasAny("Host")])
            .holds([Status(&[200]), Line("GET /a HTTP/1.0")])
            .holds([Status(&[400])]),
        case("1.0-with-two-hosts", Level::Safe, "9112 3.2", "GET /a HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n").holds([Rejects(&[400])]),
        case("1.0-with-a-bad-host", Level::Safe, "9112 3.2", "GET /a HTTP/1.0\r\nHost: h/i\r\n\r\n").holds([Rejects(&[400])]),
        case("1.0-post", Level::Must, "9112 6.3", "POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            .holds([Status(&[200]), SeenBody(b"hello".to_vec()), Ends]),
        case("1.0-post-without-length", Level::Should, "9112 6.3", "POST /a HTTP/1.0\r\nHost: h\r\n\r\n")
            .holds([Status(&[200, 400, 411])]),
        Case::new(A, "1.0-with-a-coding", Level::Must, "9112 6.1")
            .sends(and_smuggled("POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
            .response("GET")
            .holds([Rejects(&[400, 411, 501]), Unserved("/smuggled")])
            .holds([Status(&[200]), Ends, SeenAtMost(1), Unserved("/smuggled")]),
        Case::new(A, "1.0-with-a-coding-and-keep-alive", Level::Must, "9112 6.1")
            .sends(and_smuggled(
                "POST /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ))
            .response("GET")
            .holds([Rejects(&[400, 411, 501]), Unserved("/smuggled")])
            .holds([Status(&[200]), Ends, SeenAtMost(1), Unserved("/smuggled")]),
        Case::new(A, "1.0-with-both-lengths", Level::Must, "9112 6.1")
            .sends(and_smuggled(
                "POST /a HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ))
            .response("GET")
            .holds([Rejects(&[400, 411, 501]), Unserved("/smuggled")])
            .holds([Status(&[200]), Ends, SeenAtMost(1), Unserved("/smuggled")]),
        case("1.0-pipelined-is-not-served", Level::May, "9112 9.3", &[request(""), request("X-Second: 1\r\n")].concat())
            .holds([Status(&[200]), Ends, Unseen("X-Second")]),
    ]
}

/// What an HTTP/1.0 client must not get.
fn to_clients() -> Vec<Case> {
    let case = |id: &str, says: &str| {
        let case = Case::new(A, id, Level::Must, "9112 6.1").server(Script::SaysAndCloses(says.into()));
        case.sends(request("")).response("GET")
    };
    let fine = || [Status(&[200]), Body(b"hello".to_vec()), NotInChunks, Ends];
    vec![
        case("chunks-to-1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .holds(fine()),
        case("until-close-to-1.0", "HTTP/1.1 200 OK\r\n\r\nhello").holds(fine()),
        case("length-to-1.0", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").holds(fine()),
        Case::new(A, "chunks-to-1.0-with-keep-alive", Level::Must, "9112 6.1")
            .says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .sends(request("Connection: keep-alive\r\n"))
            .response("GET")
            .holds([Status(&[200]), Body(b"hello".to_vec()), NotInChunks]),
        Case::new(A, "error-of-the-proxy-to-1.0", Level::Must, "9112 9.3")
            .server(Script::Rejects)
            .sends(request(""))
            .response("GET")
            .holds([Status(&[502, 503, 504]), NotInChunks, Ends]),
    ]
}

fn of_servers() -> Vec<Case> {
    let case = |id: &str, level, says: &str| {
        let case = Case::new(A, id, level, "9112 9.3").server(Script::SaysAndCloses(says.into()));
        case.sends("GET / HTTP/1.1\r\nHost: h\r\n\r\n").response("GET")
    };
    vec![
        case("server-1.0-with-length", Level::Must, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            .holds([Status(&[200]), Body(b"hello".to_vec())]),
        case("server-1.0-until-close", Level::Must, "HTTP/1.0 200 OK\r\n\r\nhello")
            .holds([Status(&[200]), Body(b"hello".to_vec())]),
        case("server-1.0-until-close-to-1.1-is-whole", Level::Must, "HTTP/1.0 200 OK\r\n\r\nhello").holds([
            Status(&[200]),
            Body(b"hello".to_vec()),
            OwnVersion,
        ]),
        case(
            "server-1.0-with-a-coding",
            Level::Must,
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .holds([Status(&[502, 500])])
        .holds([Incomplete])
        .holds([Status(&[200]), Body(b"hello".to_vec())]),
        case("server-1.0-is-sent-as-1.1", Level::Must, "HTTP/1.0 404 No\r\nContent-Length: 2\r\n\r\nno")
            .holds([Status(&[404]), OwnVersion]),
        case("server-0.9", Level::Should, "<html>hello</html>").holds([Status(&[502])]),
    ]
}
