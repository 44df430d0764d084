//! Where a request ends (RFC 9112 section 6): Content-Length, Transfer-Encoding, and both.

use super::case::{Area, Case, Level, SMUGGLED, Step, and_smuggled, post};
use super::rule::Rule::{self, *};

const A: Area = Area::Framing;
const BAD: &[u16] = &[400];
/// For codings that are not known 501 is right (RFC 9112 section 6.1); any rejection is safe.
const BAD_CODING: &[u16] = &[400, 422, 501];
const FIVE: &[u8] = b"5\r\nhello\r\n0\r\n\r\n";

/// Values of the one Content-Length that are none; with what is behind the head.
const BAD_LENGTHS: &[(&str, Level, &[u8])] = &[
    ("length-plus", Level::Must, b"+5"),
    ("length-minus", Level::Must, b"-5"),
    ("length-minus-zero", Level::Must, b"-0"),
    ("length-minus-one", Level::Must, b"-1"),
    ("length-hex", Level::Must, b"0x5"),
    ("length-hex-digit", Level::Must, b"a"),
    ("length-octal", Level::Must, b"0o5"),
    ("length-underscore", Level::Must, b"1_0"),
    ("length-letters", Level::Must, b"abc"),
    ("length-letters-behind", Level::Must, b"5x"),
    ("length-point", Level::Must, b"5.0"),
    ("length-exponent", Level::Must, b"5e0"),
    ("length-inner-space", Level::Must, b"1 0"),
    ("length-inner-tab", Level::Must, b"1\t0"),
    ("length-empty", Level::Must, b""),
    ("length-of-a-comma", Level::Must, b","),
    ("length-list-differs", Level::Must, b"5, 6"),
    ("length-list-differs-without-space", Level::Must, b"5,6"),
    ("length-list-with-an-empty-element", Level::Must, b"5,,6"),
    ("length-semicolon", Level::Must, b"5;"),
    ("length-quoted", Level::Must, b"\"5\""),
    ("length-beyond-64-bits", Level::Must, b"18446744073709551621"),
    ("length-huge", Level::Must, b"99999999999999999999999999999999"),
    ("length-wraps-32-bits-negative", Level::Must, b"-123456789123456789123456789"),
    ("length-vertical-tab", Level::Must, b"5\x0b"),
    ("length-nul", Level::Must, b"5\0"),
    ("length-obs-text", Level::Must, b"5\xa0"),
    ("length-arabic-digit", Level::Must, b"\xd9\xa5"),
];

/// Fields, with what is behind the head, that leave the end in doubt, or give it in an unknown coding.
const REJECTED: &[(&str, Level, &str, &[u8], &[u8], &[u16])] = &[
    (
        "two-lengths-differ",
        Level::Must,
        "9112 6.3",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"hello!",
        BAD,
    ),
    (
        "two-lengths-one-zero",
        Level::Must,
        "9112 6.3",
        b"Content-Length: 0\r\nContent-Length: 41\r\n",
        SMUGGLED,
        BAD,
    ),
    (
        "two-lengths-in-other-case",
        Level::Must,
        "9112 6.3",
        b"content-length: 5\r\nCONTENT-LENGTH: 6\r\n",
        b"hello!",
        BAD,
    ),
    (
        "two-lengths-apart",
        Level::Must,
        "9112 6.3",
        b"Content-Length: 5\r\nX: y\r\nContent-Length: 6\r\n",
        b"hello!",
        BAD,
    ),
    (
        "two-lengths-one-empty",
        Level::Must,
        "9112 6.3",
        b"Content-Length: 5\r\nContent-Length:\r\n",
        b"hello",
        BAD,
    ),
    (
        "two-lengths-one-no-number",
        Level::Must,
        "9112 6.3",
        b"Content-Length: x\r\nContent-Length: 5\r\n",
        b"hello",
        BAD,
    ),
    (
        "three-lengths-the-last-differs",
        Level::Must,
        "9112 6.3",
        b"Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        b"hello!",
        BAD,
    ),
    ("length-folded", Level::Must, "9112 5.2", b"Content-Length: 5\r\n 1\r\n", b"hello", BAD),
    ("length-space-before-colon", Level::Must, "9112 5.1", b"Content-Length : 5\r\n", b"hello", BAD),
    (
        "length-and-length-with-space",
        Level::Must,
        "9112 5.1",
        b"Content-Length: 5\r\nContent-Length : 41\r\n",
        b"hello",
        BAD,
    ),
    ("coding-unknown", Level::Safe, "9112 6.3", b"Transfer-Encoding: gzip\r\n", b"", BAD_CODING),
    ("coding-identity", Level::Safe, "9112 6.3", b"Transfer-Encoding: identity\r\n", b"hello", BAD_CODING),
    ("coding-xchunked", Level::Must, "9112 6.3", b"Transfer-Encoding: xchunked\r\n", FIVE, BAD_CODING),
    (
        "coding-chunkedchunked",
        Level::Must,
        "9112 6.3",
        b"Transfer-Encoding: chunkedchunked\r\n",
        FIVE,
        BAD_CODING,
    ),
    ("coding-chunk", Level::Must, "9112 6.3", b"Transfer-Encoding: chunk\r\n", FIVE, BAD_CODING),
    ("coding-pigeons", Level::Must, "9112 6.3", b"Transfer-Encoding: pigeons\r\n", b"", BAD_CODING),
    (
        "coding-chunked-not-last",
        Level::Must,
        "9112 6.3",
        b"Transfer-Encoding: chunked, gzip\r\n",
        FIVE,
        BAD_CODING,
    ),
    (
        "coding-chunked-then-identity",
        Level::Must,
        "9112 6.3",
        b"Transfer-Encoding: chunked, identity\r\n",
        FIVE,
        BAD_CODING,
    ),
    (
        "coding-chunked-twice",
        Level::Must,
        "9112 6.1",
        b"Transfer-Encoding: chunked, chunked\r\n",
        FIVE,
        BAD_CODING,
    ),
    (
        "coding-two-fields-chunked-twice",
        Level::Must,
        "9112 6.1",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        FIVE,
        BAD_CODING,
    ),
    (
        "coding-two-fields-chunked-first",
        Level::Must,
        "9112 6.3",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        FIVE,
        BAD_CODING,
    ),
    (
        "coding-two-fields-identity-behind",
        Level::Must,
        "9112 6.3",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        FIVE,
        BAD_CODING,
    ),
    (
        "coding-two-fields-unknown-behind",
        Level::Must,
        "9112 6.3",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n",
        FIVE,
        BAD_CODING,
    ),
    ("coding-empty", Level::Safe, "9112 6.1", b"Transfer-Encoding:\r\n", b"", BAD_CODING),
    ("coding-quoted", Level::Must, "9112 6.1", b"Transfer-Encoding: \"chunked\"\r\n", FIVE, BAD_CODING),
    ("coding-in-apostrophes", Level::Must, "9112 6.1", b"Transfer-Encoding: 'chunked'\r\n", FIVE, BAD_CODING),
    (
        "coding-among-words",
        Level::Must,
        "9112 6.1",
        b"Transfer-Encoding: cow chunked bar\r\n",
        FIVE,
        BAD_CODING,
    ),
    ("coding-and-word", Level::Must, "9112 6.1", b"Transfer-Encoding: chunked bar\r\n", FIVE, BAD_CODING),
    ("coding-semicolon", Level::Must, "9112 6.1", b"Transfer-Encoding: chunked;\r\n", FIVE, BAD_CODING),
    (
        "coding-folded-tail",
        Level::Must,
        "9112 5.2",
        b"Transfer-Encoding: chunked\r\n abc\r\n",
        FIVE,
        BAD_CODING,
    ),
];

/// Fields that tell a length and a coding. Rejected, or the coding counts and the connection closes (RFC 9112
/// section 6.1); behind the head stands what either reader would take for something else.
const BOTH: &[(&str, &[u8], &[u8])] = &[
    ("both-length-short", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", FIVE),
    ("both-length-of-all", b"Content-Length: 15\r\nTransfer-Encoding: chunked\r\n", FIVE),
    ("both-length-long", b"Content-Length: 300\r\nTransfer-Encoding: chunked\r\n", FIVE),
    ("both-length-zero", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", FIVE),
    ("both-coding-first", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", FIVE),
    ("both-in-capitals", b"CONTENT-LENGTH: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n", FIVE),
    ("both-coding-after-a-tab", b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n", FIVE),
    ("both-coding-before-spaces", b"Content-Length: 5\r\nTransfer-Encoding: chunked  \r\n", FIVE),
];

/// Fields of both kinds of which one is bad by itself.
const BOTH_BAD: &[(&str, &[u8])] = &[
    ("both-length-plus", b"Content-Length: +5\r\nTransfer-Encoding: chunked\r\n"),
    ("both-length-no-number", b"Content-Length: 5x\r\nTransfer-Encoding: chunked\r\n"),
    ("both-coding-unknown", b"Content-Length: 5\r\nTransfer-Encoding: xchunked\r\n"),
    ("both-coding-identity", b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n"),
    ("both-coding-not-last", b"Content-Length: 5\r\nTransfer-Encoding: chunked, cow\r\n"),
    ("both-coding-with-space-before-colon", b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n"),
    ("both-two-codings", b"Content-Length: 5\r\nTransfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
    ("both-two-lengths", b"Content-Length: 5\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n"),
];

/// Fields that may be rejected or read in one safe way; the payload that the server is then to see.
const CHOICES: &[(&str, &str, &[u8], &[u8], &[u8])] = &[
    ("two-lengths-equal", "9112 6.3", b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello", b"hello"),
    ("length-list-equal", "9112 6.3", b"Content-Length: 5, 5\r\n", b"hello", b"hello"),
    ("length-list-of-three-equal", "9112 6.3", b"Content-Length: 5,5,5\r\n", b"hello", b"hello"),
    ("length-leading-zeros", "9110 8.6", b"Content-Length: 005\r\n", b"hello", b"hello"),
    (
        "length-many-leading-zeros",
        "9110 8.6",
        b"Content-Length: 00000000000000000000000000000005\r\n",
        b"hello",
        b"hello",
    ),
    ("length-two-zeros", "9110 8.6", b"Content-Length: 00\r\n", b"", b""),
    ("coding-leading-comma", "9110 5.6.1", b"Transfer-Encoding: , chunked\r\n", FIVE, b"hello"),
    ("coding-trailing-comma", "9110 5.6.1", b"Transfer-Encoding: chunked,\r\n", FIVE, b"hello"),
    ("coding-with-parameter", "9112 7", b"Transfer-Encoding: chunked;a=b\r\n", FIVE, b"hello"),
    (
        "coding-empty-and-chunked",
        "9110 5.6.1",
        b"Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
        FIVE,
        b"hello",
    ),
    ("coding-folded", "9112 5.2", b"Transfer-Encoding:\r\n chunked\r\n", FIVE, b"hello"),
    ("length-folded-whole", "9112 5.2", b"Content-Length:\r\n 5\r\n", b"hello", b"hello"),
    ("coding-value-ends-with-cr", "9112 2.2", b"Transfer-Encoding: chunked\r\r\n", FIVE, b"hello"),
];

/// Fields that are well.
const GOOD: &[(&str, &str, &[u8], &[u8], &[u8])] = &[
    ("length", "9112 6.3", b"Content-Length: 5\r\n", b"hello", b"hello"),
    ("length-zero", "9112 6.3", b"Content-Length: 0\r\n", b"", b""),
    ("length-name-in-capitals", "9110 5.1", b"CONTENT-LENGTH: 5\r\n", b"hello", b"hello"),
    ("length-name-mixed", "9110 5.1", b"cOnTeNt-lEnGtH: 5\r\n", b"hello", b"hello"),
    ("length-spaces-around", "9110 5.5", b"Content-Length:   5  \r\n", b"hello", b"hello"),
    ("length-after-a-tab", "9110 5.5", b"Content-Length:\t5\t\r\n", b"hello", b"hello"),
    ("length-without-space", "9110 5.5", b"Content-Length:5\r\n", b"hello", b"hello"),
    ("chunked", "9112 7.1", b"Transfer-Encoding: chunked\r\n", FIVE, b"hello"),
    ("chunked-in-capitals", "9112 7", b"Transfer-Encoding: CHUNKED\r\n", FIVE, b"hello"),
    ("chunked-mixed", "9112 7", b"TrAnSfEr-EnCoDiNg: cHuNkEd\r\n", FIVE, b"hello"),
    ("chunked-spaces-around", "9110 5.5", b"Transfer-Encoding:  \tchunked\t \r\n", FIVE, b"hello"),
    ("chunked-without-space", "9110 5.5", b"Transfer-Encoding:chunked\r\n", FIVE, b"hello"),
    ("neither", "9112 6.3", b"", b"", b""),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let rejects = |id: &str, level, rfc, fields: &[u8], body: &[u8], statuses| {
        let case = Case::new(A, id, level, rfc).sends(and_smuggled(post(fields, body))).step(Step::Finish);
        case.response("GET").holds([Rejects(statuses), Unseen("smuggled")])
    };
    let serves =
        |body: &[u8]| -> [Rule; 4] { [Status(&[200]), SeenBody(body.to_vec()), Seen(1), ResponsesAtMost(1)] };
    let mut cases = Vec::new();
    cases.extend(BAD_LENGTHS.iter().map(|&(id, level, value)| {
        let fields = [b"Content-Length: ", value, b"\r\n"].concat();
        rejects(id, level, "9112 6.3", &fields, b"hello", BAD)
    }));
    cases.extend(
        REJECTED
            .iter()
            .map(|&(id, level, rfc, fields, body, statuses)| rejects(id, level, rfc, fields, body, statuses)),
    );
    cases.extend(
        BOTH_BAD.iter().map(|&(id, fields)| rejects(id, Level::Must, "9112 6.3", fields, FIVE, BAD_CODING)),
    );
    cases.extend(BOTH.iter().map(|&(id, fields, body)| {
        let case = Case::new(A, id, Level::Must, "9112 6.1").sends(and_smuggled(post(fields, body)));
        let case = case.response("GET").holds([Rejects(BAD), Unseen("smuggled")]);
        case.holds([&serves(b"hello")[..], &[Ends, Unseen("smuggled")]].concat())
    }));
    cases.extend(CHOICES.iter().map(|&(id, rfc, fields, sent, body)| {
        let case = Case::new(A, id, Level::Safe, rfc).sends(post(fields, sent)).response("GET");
        case.holds([Rejects(BAD_CODING)]).holds(serves(body))
    }));
    cases.extend(GOOD.iter().map(|&(id, rfc, fields, sent, body)| {
        let case =
            Case::new(A, format!("good-{id}"), Level::Must, rfc).sends(post(fields, sent)).response("GET");
        case.holds([Status(&[200]), Stays, SeenBody(body.to_vec()), Seen(2)])
    }));
    cases.extend(known());
    cases
}

/// Attacks that have a name, whole.
fn known() -> Vec<Case> {
    let attack = |id: &str, rfc, bytes: Vec<u8>| {
        let case = Case::new(A, id, Level::Safe, rfc).sends(bytes).response("GET");
        case.holds([Rejects(BAD_CODING), Unseen("smuggled")])
    };
    let hidden = |fields: &str| {
        let length = SMUGGLED.len() + 5;
        let fields = format!("Content-Length: {length}\r\n{fields}");
        post(fields, [b"0\r\n\r\n", SMUGGLED].concat())
    };
    let in_chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", SMUGGLED.len(), String::from_utf8_lossy(SMUGGLED));
    let serves = [Status(&[200]), Seen(1), SeenBody(Vec::new()), Ends];
    vec![
        attack("attack-cl-te", "9112 11.2", hidden("Transfer-Encoding: chunked\r\n")).holds(serves.clone()),
        attack("attack-cl-te-leading-comma", "9112 11.2", hidden("Transfer-Encoding: , chunked\r\n"))
            .holds(serves.clone()),
        attack("attack-cl-te-folded", "9112 11.2", hidden("Transfer-Encoding:\r\n chunked\r\n"))
            .holds(serves.clone()),
        attack(
            "attack-te-te",
            "9112 11.2",
            hidden("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ),
        attack(
            "attack-te-cl",
            "9112 11.2",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &in_chunk),
        )
        .holds([Status(&[200]), Seen(1), SeenBody(SMUGGLED.to_vec()), Ends]),
        attack(
            "attack-two-lengths",
            "9112 11.2",
            post(format!("Content-Length: 0\r\nContent-Length: {}\r\n", SMUGGLED.len()), SMUGGLED),
        ),
        Case::new(A, "body-of-a-get-is-a-body", Level::Must, "9112 6.3")
            .sends(super::case::get(format!("Content-Length: {}\r\n", SMUGGLED.len())))
            .sends(SMUGGLED)
            .response("GET")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Seen(1), SeenBody(SMUGGLED.to_vec())]),
        Case::new(A, "body-of-a-head-is-a-body", Level::Must, "9112 6.3")
            .sends(format!("HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", SMUGGLED.len()))
            .sends(SMUGGLED)
            .response("HEAD")
            .says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Seen(1), SeenBody(SMUGGLED.to_vec())]),
        Case::new(A, "body-of-an-options-is-a-body", Level::Must, "9112 6.3")
            .sends("OPTIONS / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            .response("GET")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Stays, Seen(2), SeenBody(b"hello".to_vec())]),
        Case::new(A, "chunked-body-of-a-get-is-a-body", Level::Must, "9112 6.3")
            .sends(super::case::get("Transfer-Encoding: chunked\r\n"))
            .sends(FIVE)
            .response("GET")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Stays, Seen(2), SeenBody(b"hello".to_vec())]),
        Case::new(A, "nothing-said-means-no-body", Level::Must, "9112 6.3")
            .sends(post("", "hello"))
            .step(Step::Finish)
            .response("GET")
            .response("GET")
            .holds([Status(&[200]), StatusOf(1, &[400, 405, 501]), Seen(1), SeenBody(Vec::new())])
            .holds([Status(&[200]), Ends, Seen(1), SeenBody(Vec::new())])
            .holds([Rejects(&[400, 411])]),
        Case::new(A, "length-zero-then-a-request", Level::Must, "9112 6.3")
            .sends(post("Content-Length: 0\r\n", "GET /second HTTP/1.1\r\nHost: h\r\n\r\n"))
            .response("GET")
            .response("GET")
            .holds([Responses(2), Seen(2), SeenBody(Vec::new())]),
        Case::new(A, "trace-with-a-body", Level::Must, "9110 9.3.8")
            .sends("TRACE / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            .step(Step::Finish)
            .response("GET")
            .holds([Status(&[400, 405, 413, 501]), Seen(0)])
            .holds([Status(&[200])]),
    ]
}
