//! Persistence, pipelining and closing (RFC 9112 section 9).

use super::case::{Area, Case, Level, OK, Script, Step, get, post};
use super::rule::{Rule, Rule::*, ensure};

const A: Area = Area::Connections;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = persistence();
    cases.extend(pipelining());
    cases.extend(server_side());
    cases.extend(ends());
    cases
}

fn persistence() -> Vec<Case> {
    let rows: [(&str, Level, &str, &str, bool); 11] = [
        ("1.1-stays", Level::Must, "HTTP/1.1", "", true),
        ("1.1-with-keep-alive-stays", Level::Must, "HTTP/1.1", "Connection: keep-alive\r\n", true),
        ("1.1-with-another-option-stays", Level::Must, "HTTP/1.1", "Connection: foo\r\n", true),
        ("1.1-close", Level::Must, "HTTP/1.1", "Connection: close\r\n", false),
        ("1.1-close-in-capitals", Level::Must, "HTTP/1.1", "CONNECTION: CLOSE\r\n", false),
        ("1.1-close-in-a-list", Level::Must, "HTTP/1.1", "Connection: foo, close\r\n", false),
        (
            "1.1-close-in-a-second-line",
            Level::Must,
            "HTTP/1.1",
            "Connection: foo\r\nConnection: close\r\n",
            false,
        ),
        ("1.1-close-and-keep-alive", Level::Must, "HTTP/1.1", "Connection: keep-alive, close\r\n", false),
        ("1.0-closes", Level::Must, "HTTP/1.0", "", false),
        ("1.0-with-close", Level::Must, "HTTP/1.0", "Connection: close\r\n", false),
        ("1.0-close-and-keep-alive", Level::Must, "HTTP/1.0", "Connection: keep-alive, close\r\n", false),
    ];
    let case = |(id, level, version, fields, stays): (&str, Level, &str, &str, bool)| {
        let case =
            Case::new(A, id, level, "9112 9.3").sends(format!("GET / {version}\r\nHost: h\r\n{fields}\r\n"));
        case.response("GET").holds([Status(&[200]), Body(b"ok".to_vec()), if stays { Stays } else { Ends }])
    };
    let mut cases: Vec<Case> = rows.into_iter().map(case).collect();
    cases.extend([
        Case::new(A, "close-is-said-before-closing", Level::Should, "9112 9.6")
            .sends(get("Connection: close\r\n"))
            .response("GET")
            .holds([Status(&[200]), Has("Connection", "close"), Closes]),
        Case::new(A, "close-is-said-with-a-rejection", Level::Should, "9112 9.6")
            .sends("GET / HTTP/1.1\r\n\r\n")
            .response("GET")
            .holds([Status(&[400]), Has("Connection", "close"), Closes]),
        Case::new(A, "nothing-is-served-behind-close", Level::Must, "9112 9.6")
            .sends([get("Connection: close\r\n"), get("X-Second: 1\r\n")].concat())
            .response("GET")
            .holds([Status(&[200]), Ends, Seen(1), Unseen("X-Second")]),
        Case::new(A, "1.0-with-keep-alive-stays", Level::May, "9112 9.3")
            .sends("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
            .response("GET")
            .holds([Status(&[200]), Has("Connection", "keep-alive"), Stays])
            .holds([Status(&[200]), Client(promises_nothing), Ends]),
        Case::new(A, "many-requests-one-after-the-other", Level::Must, "9112 9.3").many(20),
    ]);
    cases
}

/// The response does not say that the connection stays.
fn promises_nothing(seen: &mut super::observe::AtClient) -> Result<(), String> {
    let said =
        seen.responses.last().map(|response| response.fields.all("Connection").join(",")).unwrap_or_default();
    ensure(!said.to_ascii_lowercase().contains("keep-alive"), || said.clone())
}

impl Case {
    /// So many requests, each after the response to the one before.
    fn many(self, count: usize) -> Case {
        let case = (0..count).fold(self, |case, _| case.sends(get("")).response("GET"));
        case.holds([Responses(20), Seen(21), Stays])
    }
}

fn pipelining() -> Vec<Case> {
    let numbered = |at: usize| match at % 3 {
        0 => format!("GET /{at} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes(),
        1 => format!("POST /{at} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc").into_bytes(),
        _ => format!(
            "PUT /{at} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        .into_bytes(),
    };
    let ten: Vec<u8> = (0..10).flat_map(numbered).collect();
    let says_target = || {
        Script::Does(|visit| {
            while let Some(seen) = visit.request() {
                let target = seen.target().to_owned();
                visit.response(target);
            }
        })
    };
    let in_order = Client(|seen| {
        let bodies: Vec<_> = seen.responses.iter().map(|response| response.text()).collect();
        let expected: Vec<_> = (0..bodies.len()).map(|at| format!("/{at}")).collect();
        ensure(bodies == expected, || format!("{bodies:?}"))
    });
    let ten_responses = |case: Case| (0..10).fold(case, |case, _| case.response("GET"));
    vec![
        ten_responses(
            Case::new(A, "pipelined-in-order", Level::Must, "9112 9.3.2").server(says_target()).sends(&ten),
        )
        .holds([Responses(10), in_order.clone(), Stays]),
        ten_responses(
            Case::new(A, "pipelined-byte-by-byte", Level::Must, "9112 9.3.2")
                .server(says_target())
                .step(Step::Bytewise(ten)),
        )
        .holds([Responses(10), in_order]),
        Case::new(A, "pipelined-behind-a-bad-one", Level::Safe, "9112 9.3.2")
            .sends([&get("")[..], b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", &get("X-Third: 1\r\n")].concat())
            .response("GET")
            .response("GET")
            .holds([StatusOf(0, &[200]), StatusOf(1, &[400]), Ends, Seen(1), Unseen("X-Third")])
            .holds([StatusOf(0, &[200]), ResponsesAtMost(1), Ends, Seen(1), Unseen("X-Third")]),
        Case::new(A, "pipelined-with-an-empty-line-between", Level::Should, "9112 2.2")
            .sends([&post("Content-Length: 5\r\n", "hello")[..], b"\r\n", &get("")].concat())
            .response("GET")
            .response("GET")
            .holds([Responses(2), StatusOf(1, &[200])]),
    ]
}

/// Connections to servers.
fn server_side() -> Vec<Case> {
    let twice =
        |case: Case| case.sends(get("")).response("GET").step(Step::Pause).sends(get("")).response("GET");
    let case = |id: &str, level| Case::new(A, id, level, "9112 9.3");
    let both = || [Responses(2), StatusOf(0, &[200]), StatusOf(1, &[200])];
    vec![
        twice(case("server-connection-is-used-again", Level::May))
            .holds([&both()[..], &[SeenConnections(1)]].concat()),
        twice(case("server-that-closes-is-not-used-again", Level::Must).server(Script::SaysAndCloses(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        )))
        .holds([&both()[..], &[SeenConnections(2)]].concat()),
        twice(
            case("server-that-says-close-and-stays", Level::Must)
                .says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        )
        .holds([&both()[..], &[SeenConnections(2)]].concat()),
        twice(
            case("server-of-1.0-is-not-used-again", Level::Must)
                .says("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        )
        .holds([&both()[..], &[SeenConnections(2)]].concat()),
        twice(
            case("server-of-1.0-with-keep-alive", Level::Must)
                .says("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"),
        )
        .holds(both()),
        twice(
            case("server-that-closes-without-saying-so", Level::Should)
                .server(Script::SaysAndCloses(OK.to_vec())),
        )
        .holds(both()),
        case("post-on-a-connection-that-was-closed", Level::Should)
            .server(Script::SaysAndCloses(OK.to_vec()))
            .sends(get(""))
            .response("GET")
            .step(Step::Pause)
            .sends(post("Content-Length: 5\r\n", "hello"))
            .response("POST")
            .holds([&both()[..], &[Seen(2)]].concat()),
    ]
}

/// Ends that lose nothing (RFC 9112 section 9.6).
fn ends() -> Vec<Case> {
    vec![
        Case::new(A, "client-that-has-finished-is-answered", Level::Should, "9112 9.6")
            .sends(get(""))
            .step(Step::Finish)
            .response("GET")
            .holds([Status(&[200]), Body(b"ok".to_vec()), Ends]),
        Case::new(A, "client-that-has-finished-is-answered-to-all", Level::Should, "9112 9.6")
            .sends([get(""), get("")].concat())
            .step(Step::Finish)
            .response("GET")
            .response("GET")
            .holds([Responses(2), Ends]),
        Case::new(A, "rejection-can-be-read-behind-a-long-upload", Level::Should, "9112 9.6")
            .sends(post("Content-Length: x\r\n", vec![b'a'; 300_000]))
            .response("GET")
            .holds([Status(&[400]), Closes]),
        Case::new(A, "rejection-can-be-read-behind-a-bad-chunk", Level::Should, "9112 9.6")
            .sends(post("Transfer-Encoding: chunked\r\n", [b"x\r\n".to_vec(), vec![b'a'; 300_000]].concat()))
            .response("GET")
            .holds([Status(&[400]), Closes]),
    ]
}
