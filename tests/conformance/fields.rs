//! Field lines of requests (RFC 9110 section 5, RFC 9112 section 5).

use super::case::{Area, Case, Level, Step, and_smuggled, get};
use super::rule::Rule::*;

const A: Area = Area::Fields;
const BAD: &[u16] = &[400];

/// Lines that are no field lines.
const REJECTED: &[(&str, Level, &str, &[u8])] = &[
    ("name-space-before-colon", Level::Must, "9112 5.1", b"X-A : b\r\n"),
    ("name-tab-before-colon", Level::Must, "9112 5.1", b"X-A\t: b\r\n"),
    ("name-space-tab-before-colon", Level::Must, "9112 5.1", b"X-A \t : b\r\n"),
    ("name-empty", Level::Must, "9112 5", b": b\r\n"),
    ("name-of-a-space", Level::Must, "9112 5", b" : b\r\n"),
    ("line-without-colon", Level::Must, "9112 5", b"X-A\r\n"),
    ("line-without-colon-but-value", Level::Must, "9112 5", b"X-A b\r\n"),
    ("name-with-space", Level::Must, "9110 5.1", b"X A: b\r\n"),
    ("name-with-tab", Level::Must, "9110 5.1", b"X\tA: b\r\n"),
    ("name-with-bracket", Level::Must, "9110 5.1", b"X[A]: b\r\n"),
    ("name-with-paren", Level::Must, "9110 5.1", b"X(A): b\r\n"),
    ("name-with-at", Level::Must, "9110 5.1", b"X@A: b\r\n"),
    ("name-with-slash", Level::Must, "9110 5.1", b"X/A: b\r\n"),
    ("name-with-backslash", Level::Must, "9110 5.1", b"X\\A: b\r\n"),
    ("name-with-quote", Level::Must, "9110 5.1", b"\"X\": b\r\n"),
    ("name-with-comma", Level::Must, "9110 5.1", b"X,A: b\r\n"),
    ("name-with-semicolon", Level::Must, "9110 5.1", b"X;A: b\r\n"),
    ("name-with-equals", Level::Must, "9110 5.1", b"X=A: b\r\n"),
    ("name-with-question-mark", Level::Must, "9110 5.1", b"X?: b\r\n"),
    ("name-with-brace", Level::Must, "9110 5.1", b"X{A}: b\r\n"),
    ("name-with-angle", Level::Must, "9110 5.1", b"<X>: b\r\n"),
    ("name-with-nul", Level::Must, "9110 5.1", b"X\0A: b\r\n"),
    ("name-with-control", Level::Must, "9110 5.1", b"X\x01A: b\r\n"),
    ("name-with-escape", Level::Must, "9110 5.1", b"X\x1bA: b\r\n"),
    ("name-with-del", Level::Must, "9110 5.1", b"X\x7fA: b\r\n"),
    ("name-with-vertical-tab", Level::Must, "9110 5.1", b"X\x0bA: b\r\n"),
    ("name-with-utf8", Level::Must, "9110 5.1", b"X-\xc3\xab: b\r\n"),
    ("name-with-obs-text", Level::Must, "9110 5.1", b"X-\xff: b\r\n"),
    ("name-with-cr", Level::Must, "9112 2.2", b"X\rA: b\r\n"),
    ("name-of-cr", Level::Must, "9112 2.2", b"\rX: b\r\n"),
    ("value-with-nul", Level::Must, "9110 5.5", b"X-A: b\0c\r\n"),
    ("value-ends-with-nul", Level::Must, "9110 5.5", b"X-A: b\0\r\n"),
    ("value-of-cr-and-field", Level::Must, "9112 2.2", b"X-A:\rX-B: c\r\n"),
    ("value-with-control", Level::Safe, "9110 5.5", b"X-A: b\x07c\r\n"),
    ("value-with-backspace", Level::Safe, "9110 5.5", b"X-A: b\x08c\r\n"),
    ("value-with-vertical-tab", Level::Safe, "9110 5.5", b"X-A: b\x0bc\r\n"),
    ("value-with-escape", Level::Safe, "9110 5.5", b"X-A: b\x1bc\r\n"),
    ("value-with-del", Level::Safe, "9110 5.5", b"X-A: b\x7fc\r\n"),
    ("name-then-folded-colon", Level::Must, "9112 5.1", b"X-A\r\n : b\r\n"),
];

/// Fields that are well, with the name and the values that the server is to see.
const GOOD: &[(&str, Level, &str, &[u8], &str, &[&str])] = &[
    ("value-empty", Level::Must, "9110 5.5", b"X-A:\r\n", "X-A", &[""]),
    ("value-of-spaces", Level::Must, "9110 5.5", b"X-A:   \r\n", "X-A", &[""]),
    ("value-without-space", Level::Must, "9110 5.5", b"X-A:b\r\n", "X-A", &["b"]),
    ("value-after-spaces", Level::Must, "9110 5.5", b"X-A:    b\r\n", "X-A", &["b"]),
    ("value-after-a-tab", Level::Must, "9110 5.5", b"X-A:\tb\r\n", "X-A", &["b"]),
    ("value-before-spaces", Level::Must, "9110 5.5", b"X-A: b  \t\r\n", "X-A", &["b"]),
    ("value-with-inner-tab", Level::Must, "9110 5.5", b"X-A: b\tc\r\n", "X-A", &["b\tc"]),
    ("value-with-colons", Level::Must, "9110 5.5", b"X-A: b:c: d\r\n", "X-A", &["b:c: d"]),
    (
        "value-with-quoted-string",
        Level::Must,
        "9110 5.6.4",
        b"X-A: \"b \\\" ; c\"\r\n",
        "X-A",
        &["\"b \\\" ; c\""],
    ),
    (
        "value-with-everything-visible",
        Level::Must,
        "9110 5.5",
        b"X-A: !#$%&'()*+-./:;<=>?@[]^_`{|}~\r\n",
        "X-A",
        &["!#$%&'()*+-./:;<=>?@[]^_`{|}~"],
    ),
    (
        "lines-of-one-name-keep-their-order",
        Level::Must,
        "9110 5.3",
        b"X-A: 1\r\nX-B: x\r\nX-A: 2\r\nX-A: 3\r\n",
        "X-A",
        &["1", "2", "3"],
    ),
    (
        "name-with-odd-token",
        Level::Should,
        "9110 5.1",
        b"X!#$%&'*+-.^`|~9: b\r\n",
        "X!#$%&'*+-.^`|~9",
        &["b"],
    ),
    ("name-with-dot", Level::Should, "9110 5.1", b"X.A: b\r\n", "X.A", &["b"]),
    ("name-with-underscore", Level::May, "9110 5.1", b"X_A: b\r\n", "X_A", &["b"]),
    ("name-of-digits", Level::Should, "9110 5.1", b"123: b\r\n", "123", &["b"]),
    ("unknown-field", Level::Must, "9110 5.1", b"Foo-Bar-Baz: qux\r\n", "Foo-Bar-Baz", &["qux"]),
    ("cookie", Level::Must, "6265 4.2", b"Cookie: a=b; c=\"d\"\r\n", "Cookie", &["a=b; c=\"d\""]),
    (
        "authorization",
        Level::Must,
        "9110 11.6.2",
        b"Authorization: Basic YTpi\r\n",
        "Authorization",
        &["Basic YTpi"],
    ),
    ("range", Level::Must, "9110 14.2", b"Range: bytes=0-4\r\n", "Range", &["bytes=0-4"]),
    ("range-that-is-none", Level::Must, "9110 14.2", b"Range: bytes=x-y\r\n", "Range", &["bytes=x-y"]),
    (
        "if-none-match",
        Level::Must,
        "9110 13.1.2",
        b"If-None-Match: W/\"a\"\r\n",
        "If-None-Match",
        &["W/\"a\""],
    ),
    (
        "if-modified-since-that-is-none",
        Level::Must,
        "9110 13.1.3",
        b"If-Modified-Since: soon\r\n",
        "If-Modified-Since",
        &["soon"],
    ),
    (
        "accept-encoding",
        Level::Must,
        "9110 12.5.3",
        b"Accept-Encoding: gzip;q=0.5\r\n",
        "Accept-Encoding",
        &["gzip;q=0.5"],
    ),
    (
        "cache-control",
        Level::Must,
        "9111 5.2",
        b"Cache-Control: no-cache\r\n",
        "Cache-Control",
        &["no-cache"],
    ),
    (
        "content-type-without-a-body",
        Level::Must,
        "9110 8.3",
        b"Content-Type: a/b\r\n",
        "Content-Type",
        &["a/b"],
    ),
    (
        "origin-and-referer",
        Level::Must,
        "6454 7",
        b"Origin: http://x\r\nReferer: http://x/y\r\n",
        "Origin",
        &["http://x"],
    ),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = REJECTED
        .iter()
        .map(|&(id, level, rfc, fields)| {
            let case = Case::new(A, id, level, rfc).sends(and_smuggled(get(fields))).step(Step::Finish);
            case.response("GET").holds([Rejects(BAD), Unseen("smuggled")])
        })
        .collect();
    cases.extend(GOOD.iter().map(|&(id, level, rfc, fields, name, values)| {
        let case = Case::new(A, id, level, rfc).sends(get(fields)).response("GET");
        let case = case.holds([Status(&[200]), SeenLines(name, values)]);
        // Lines of one name may be joined (RFC 9110 section 5.3).
        if values.len() > 1 { case.holds([Status(&[200]), SeenList(name, values)]) } else { case }
    }));
    cases.extend(repaired());
    cases.extend(opaque());
    cases
}

/// What a server must reject or repair (RFC 9112 sections 2.2 and 5.2, RFC 9110 section 5.5).
fn repaired() -> Vec<Case> {
    let rows: [(&str, &str, &[u8], &'static str, &'static [&'static str]); 6] = [
        ("obs-fold", "9112 5.2", b"X-A: b\r\n c\r\n", "X-A", &["b c"]),
        ("obs-fold-with-tab", "9112 5.2", b"X-A: b\r\n\tc\r\n", "X-A", &["b c"]),
        ("obs-fold-of-an-empty-value", "9112 5.2", b"X-A:\r\n c\r\n", "X-A", &["c"]),
        ("obs-fold-twice", "9112 5.2", b"X-A: b\r\n c\r\n d\r\n", "X-A", &["b c d"]),
        ("value-with-cr", "9112 2.2", b"X-A: b\rc\r\n", "X-A", &["b c"]),
        ("value-ends-with-cr", "9112 2.2", b"X-A: b\r\r\n", "X-A", &["b"]),
    ];
    let case = |(id, rfc, fields, name, values): (
        &str,
        &'static str,
        &[u8],
        &'static str,
        &'static [&'static str],
    )| {
        let case = Case::new(A, id, Level::Must, rfc).sends(get(fields)).response("GET");
        // How many spaces stand for a fold is the proxy's choice.
        case.holds([Rejects(BAD)]).holds([Status(&[200]), SeenWords(name, values[0])])
    };
    rows.into_iter().map(case).collect()
}

/// Bytes above 0x7f in values mean nothing and go on; other uses of fields that no proxy reads.
fn opaque() -> Vec<Case> {
    vec![
        Case::new(A, "value-with-obs-text", Level::Should, "9110 5.5")
            .sends(get(b"X-A: \xe9\xff\x80\r\n"))
            .response("GET")
            .holds([
                Status(&[200]),
                Servers(|seen| {
                    let found = seen.raw.concat().windows(3).any(|part| part == b"\xe9\xff\x80");
                    super::rule::ensure(found, || "the bytes did not go on".into())
                }),
            ]),
        Case::new(A, "content-type-twice", Level::May, "9110 5.3")
            .sends(get(b"Content-Type: a/b\r\nContent-Type: c/d\r\n"))
            .response("GET")
            .holds([Status(&[200]), SeenList("Content-Type", &["a/b", "c/d"])])
            .holds([Rejects(BAD)]),
    ]
}
