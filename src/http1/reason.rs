//! Every way in which a request is refused or comes to a bad end: one enum, so that each has a status, a
//! sentence, a counter and a log line.

/// Builds the enum and its tables from one row per reason.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal, $status:literal, $sentence:literal;)*) => {
        /// Why a request was not answered by a server, or not to its end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $reason,)* }

        impl Reason {
            /// All reasons, in order: `ALL[reason as usize] == reason`.
            pub const ALL: &'static [Reason] = &[$(Reason::$reason,)*];

            /// The name in metrics, logs and answers: snake_case, stable.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$reason => $name,)* }
            }

            /// The status of the answer. 499 where the client is not there to read one.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$reason => $status,)* }
            }

            /// A sentence for people: what happened and what to do.
            pub const fn sentence(self) -> &'static str {
                match self { $(Reason::$reason => $sentence,)* }
            }
        }
    };
}

reasons! {
    // The preamble of a proxy, before any head: closed without an answer (`is_silent`).

    /// A PROXY protocol preamble was begun and does not hold together.
    BadProxyHeader = "bad_proxy_header", 400, "The PROXY protocol header is malformed. Check the proxy that sent it.";
    /// The connection must begin with a PROXY protocol preamble and does not.
    ProxyHeaderMissing = "proxy_header_missing", 400, "This port expects the PROXY protocol. Connect through the proxy, or switch it off here.";

    // The client's head (RFC 9112 sections 2 to 5).

    /// Not `method SP target SP version`.
    BadRequestLine = "bad_request_line", 400, "The first line is not an HTTP request. Send: METHOD /path HTTP/1.1";
    /// The target has forbidden bytes, a wrong form, or an authority that does not hold together.
    BadTarget = "bad_target", 400, "The request target is malformed. Percent-encode special characters and leave out fragments and user names.";
    /// White space before a colon, a folded line, a name that is no token, a control byte.
    BadField = "bad_field", 400, "A header field is malformed. Check its name, its colon and control characters.";
    /// A CR or an LF that is not part of CRLF.
    BareLineBreak = "bare_line_break", 400, "A line does not end with CRLF. End every line of the head with CR and LF.";
    /// Host is missing, repeated or malformed.
    BadHost = "bad_host", 400, "The Host field is missing, repeated or malformed. Send exactly one: Host: name or name:port";
    /// Not HTTP/1.x.
    VersionUnsupported = "version_unsupported", 505, "This HTTP version is not supported. Use HTTP/1.1.";
    /// The connection preface of HTTP/2 without TLS.
    Http2Preface = "http2_preface", 505, "HTTP/2 is not spoken on this port. Use HTTP/1.1.";
    /// The head is longer than the limit.
    HeadTooLarge = "head_too_large", 431, "The request head is too large. Send smaller header fields or fewer cookies.";
    /// More field lines than the limit.
    TooManyFields = "too_many_fields", 431, "The request has too many header fields. Send fewer.";
    /// The target is longer than the limit.
    UriTooLong = "uri_too_long", 414, "The request target is too long. Send long data in the body.";
    /// CONNECT: this is no forward proxy.
    ConnectRefused = "connect_refused", 501, "CONNECT is not offered here: this is not a forward proxy.";
    /// TRACE, which is off, or has a body.
    TraceRefused = "trace_refused", 405, "TRACE is not allowed here.";
    /// An expectation other than 100-continue.
    ExpectationUnknown = "expectation_unknown", 417, "The expectation cannot be met. Only Expect: 100-continue is known.";
    /// Via names this balancer already.
    LoopDetected = "loop_detected", 508, "The request has come through this balancer before. Check that no server points back at it.";
    /// The target is of https, and nobody whom we trust took it over TLS (RFC 9110 section 7.4).
    Misdirected = "misdirected", 421, "An https target was asked for in clear text. Ask for it over TLS, or for http.";

    // The client's framing and body (RFC 9112 sections 6 and 7).

    /// Content-Length is repeated, a list, not a number or too big.
    BadContentLength = "bad_content_length", 400, "Content-Length must be one decimal number, sent once.";
    /// Content-Length and Transfer-Encoding together.
    LengthConflict = "length_conflict", 400, "Content-Length and Transfer-Encoding exclude each other. Send one of them.";
    /// Transfer-Encoding is repeated, malformed, or came in HTTP/1.0.
    BadTransferEncoding = "bad_transfer_encoding", 400, "Transfer-Encoding must be exactly: chunked, sent once and in HTTP/1.1.";
    /// A transfer coding that is not chunked.
    TransferCodingUnknown = "transfer_coding_unknown", 501, "This transfer coding is not known. Use chunked.";
    /// The chunked coding is broken.
    BadChunk = "bad_chunk", 400, "The chunked body is malformed.";
    /// The trailer section is longer than its bound.
    TrailersTooLarge = "trailers_too_large", 431, "The trailer fields after the body are too large.";
    /// The body is longer than the limit.
    BodyTooLarge = "body_too_large", 413, "The request body is too large.";

    // The client's time.

    /// The head was not complete in time.
    HeadTimeout = "head_timeout", 408, "The request head did not arrive in time. Try again.";
    /// The body stood still for too long.
    BodyTimeout = "body_timeout", 408, "The request body did not arrive in time. Try again.";
    /// The client closed before its answer was complete.
    ClientGone = "client_gone", 499, "The client closed the connection before its answer was complete.";
    /// The client did not read its answer in time.
    ClientStalled = "client_stalled", 499, "The client did not read its answer in time.";

    // The balancer's own bounds.

    /// The queue of requests is full.
    QueueFull = "queue_full", 503, "The balancer has too many requests waiting. Try again shortly.";
    /// The request waited in the queue past its deadline.
    QueueTimeout = "queue_timeout", 503, "The request waited too long for a free worker. Try again shortly.";
    /// The standing queue is being shortened.
    Overloaded = "overloaded", 503, "The balancer is overloaded. Try again shortly.";
    /// No further connection is taken.
    ConnectionLimit = "connection_limit", 503, "The balancer has too many connections. Try again shortly.";
    /// No further tunnel (upgraded connection) is opened.
    TunnelLimit = "tunnel_limit", 503, "The balancer has too many upgraded connections. Try again shortly.";
    /// The balancer is stopping.
    Draining = "draining", 503, "The balancer is shutting down. Try again on a new connection.";
    /// A fault of the balancer itself.
    Internal = "internal", 500, "The balancer failed on this request. Its log has the details under the request id.";

    // The servers.

    /// No server may be picked.
    NoServer = "no_server", 503, "No server is available. Check that the servers are up and healthy.";
    /// No server took the connection.
    ConnectFailed = "connect_failed", 503, "The server could not be reached. Check that it is running.";
    /// The server closed before the answer's head was complete.
    ServerReset = "server_reset", 502, "The server closed the connection before it answered.";
    /// The server did not answer in time.
    ServerTimeout = "server_timeout", 504, "The server did not answer in time.";
    /// The server's answer breaks the rules of HTTP.
    BadAnswer = "bad_answer", 502, "The server sent an answer that is not valid HTTP.";
    /// The head of the server's response is longer than the limit.
    ResponseHeadTooLarge = "response_head_too_large", 502, "The headers of the response are larger than 64 KiB and than limits.head. Send less, or raise limits.head.";
    /// The server's response has more header fields than the limit.
    ResponseTooManyHeaders = "response_too_many_headers", 502, "The response has more than 256 headers, which is the limit. Send fewer.";
    /// The server closed, stalled or broke the coding in the middle of a body: the client's is cut off too.
    AnswerTruncated = "answer_truncated", 502, "The server broke off in the middle of its answer.";
}

impl Reason {
    /// The connection must close after the answer: where the next request begins cannot be trusted, or the
    /// client is asked to come back on a new connection. After the others it may stay, once the request's body
    /// has been read to its end.
    pub const fn closes(self) -> bool {
        !matches!(
            self,
            Reason::LoopDetected
                | Reason::QueueTimeout
                | Reason::Overloaded
                | Reason::TunnelLimit
                | Reason::NoServer
                | Reason::ConnectFailed
                | Reason::ServerReset
                | Reason::ServerTimeout
                | Reason::BadAnswer
                | Reason::ResponseHeadTooLarge
                | Reason::ResponseTooManyHeaders
        )
    }

    /// The connection closes without an answer: the other side speaks, or should speak, another protocol first.
    pub const fn is_silent(self) -> bool {
        matches!(self, Reason::BadProxyHeader | Reason::ProxyHeaderMissing)
    }

    /// A server was at fault, or there was none.
    pub const fn is_of_servers(self) -> bool {
        (self as u8) >= Reason::NoServer as u8
    }

    /// The fault lies with the client's bytes: counted apart from what operators must act on.
    pub const fn is_refusal(self) -> bool {
        (self as u8) <= Reason::BodyTooLarge as u8
    }
}

/// The reason phrase of a status that the balancer itself sends (RFC 9110 section 15).
pub const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_row() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert_ne!(phrase(reason.status()), "Unknown", "{reason:?}");
            assert!(reason.sentence().ends_with(|last: char| last == '.' || last.is_alphanumeric()));
            assert!(!reason.sentence().contains(['"', '\\', '\n']), "goes into JSON as it is: {reason:?}");
            let snake: String = reason.name().split('_').map(capitalised).collect();
            assert_eq!(snake, format!("{reason:?}"));
        }
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }

    fn capitalised(word: &str) -> String {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    }

    #[test]
    fn whatever_is_wrong_with_the_framing_closes() {
        for reason in Reason::ALL.iter().filter(|reason| reason.is_refusal()) {
            assert!(reason.closes() || *reason == Reason::LoopDetected, "{reason:?}");
        }
        assert!(!Reason::NoServer.closes() && !Reason::NoServer.is_refusal());
    }
}
