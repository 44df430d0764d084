//! Every reason for rejecting or failing a request: one enum, so that each has a status, a sentence, a counter and a
//! log line.

/// Builds the enum and its tables from one row per reason.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal, $status:literal, $sentence:literal;)*) => {
        /// Why a request got no response from a server, or an incomplete one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $reason,)* }

        impl Reason {
            /// All reasons, in order: `ALL[reason as usize] == reason`.
            pub const ALL: &'static [Reason] = &[$(Reason::$reason,)*];

            /// The name in metrics, logs and responses: snake_case, stable.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$reason => $name,)* }
            }

            /// The status of the response. 499 if the client is gone and cannot read one.
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
    // The preamble of a proxy, before any head: the connection is closed without a response (`is_silent`).

    /// A PROXY protocol preamble is not valid.
    BadProxyHeader = "bad_proxy_header", 400, "The PROXY protocol header is malformed. Check the proxy that sent it.";
    /// The connection must begin with a PROXY protocol preamble and does not.
    ProxyHeaderMissing = "proxy_header_missing", 400, "This port expects the PROXY protocol. Connect through the proxy, or switch it off here.";

    // TLS where there is none, and the other way round.

    /// The client speaks TLS on a port without it: the connection is closed without a response.
    TlsOnHttpPort = "tls_on_http_port", 400, "The client speaks TLS on a port for http. Use http://, or the port for https.";
    /// The client speaks HTTP in clear text on a port with TLS.
    HttpOnHttpsPort = "http_on_https_port", 400, "This port speaks HTTPS, and the request came in clear text. Use https:// in its URL.";

    // The client's head (RFC 9112 sections 2 to 5).

    /// Not `method SP target SP version`.
    BadRequestLine = "bad_request_line", 400, "The first line is not an HTTP request. Send: METHOD /path HTTP/1.1";
    /// The target has forbidden bytes, an invalid form, or an invalid authority.
    BadTarget = "bad_target", 400, "The request target is malformed. Percent-encode special characters and leave out fragments and user names.";
    /// White space before a colon, a folded line, a name that is not a token, a control byte.
    BadHeader = "bad_header", 400, "A header is malformed. Check its name, its colon and control characters.";
    /// A path that servers read in different ways, or one whose `..` leads to another route (`docs/http.md`, Paths and
    /// routes).
    UnsafePath = "unsafe_path", 400, "The path is ambiguous. Send it without dot segments, encoded slashes, backslashes and NUL.";
    /// A CR or an LF that is not part of CRLF.
    BareLineBreak = "bare_line_break", 400, "A line does not end with CRLF. End every line of the request headers with CR and LF.";
    /// Host is missing, repeated or malformed.
    BadHost = "bad_host", 400, "The Host header is missing, repeated or malformed. Send exactly one: Host: name or name:port";
    /// Not HTTP/1.x.
    VersionUnsupported = "version_unsupported", 505, "This HTTP version is not supported. Use HTTP/1.1.";
    /// The connection preface of HTTP/2 without TLS.
    Http2Preface = "http2_preface", 505, "HTTP/2 is not supported on this port. Use HTTP/1.1.";
    /// The head is longer than the limit.
    HeadTooLarge = "head_too_large", 431, "The request headers are too large. Send smaller headers or fewer cookies.";
    /// More field lines than the limit.
    TooManyHeaders = "too_many_headers", 431, "The request has too many headers. Send fewer.";
    /// The target is longer than the limit.
    UriTooLong = "uri_too_long", 414, "The request target is too long. Send long data in the body.";
    /// CONNECT: this is not a forward proxy.
    ConnectRejected = "connect_rejected", 501, "CONNECT is not supported: this is not a forward proxy.";
    /// TRACE, which is disabled, or has a body.
    TraceRejected = "trace_rejected", 405, "TRACE is not allowed here.";
    /// An expectation other than 100-continue.
    ExpectationUnknown = "expectation_unknown", 417, "The expectation cannot be met. Only Expect: 100-continue is supported.";
    /// Via already names this balancer.
    LoopDetected = "loop_detected", 508, "The request has already passed through this balancer. Check that no server points back at it.";
    /// The target is https, and no trusted peer received it over TLS (RFC 9110 section 7.4).
    Misdirected = "misdirected", 421, "An https target was requested without TLS. Request it over TLS, or use http.";
    /// TLS was negotiated for another host than that of the request, and the listener asks for client certificates.
    SniMismatch = "sni_mismatch", 421, "The connection was made for another host than that of the request. Use a connection of its own for each host.";
    /// The connection was made before its listener required client certificates.
    CertificateRequired = "certificate_required", 421, "This connection was made without a client certificate, which is required now. Connect again.";

    // The client's framing and body (RFC 9112 sections 6 and 7).

    /// Content-Length is repeated, a list, not a number or too big.
    BadContentLength = "bad_content_length", 400, "Content-Length must be one decimal number, sent once.";
    /// Content-Length and Transfer-Encoding together.
    LengthConflict = "length_conflict", 400, "Content-Length and Transfer-Encoding exclude each other. Send one of them.";
    /// Transfer-Encoding is repeated, malformed, or used in HTTP/1.0.
    BadTransferEncoding = "bad_transfer_encoding", 400, "Transfer-Encoding must be exactly: chunked, sent once and in HTTP/1.1.";
    /// A transfer coding that is not chunked.
    TransferCodingUnknown = "transfer_coding_unknown", 501, "This transfer coding is not supported. Use chunked.";
    /// The chunked coding is broken.
    BadChunk = "bad_chunk", 400, "The chunked body is malformed.";
    /// The trailer section is longer than its limit.
    TrailersTooLarge = "trailers_too_large", 431, "The trailers after the body are too large.";
    /// The server does not support chunked bodies, and the body is too long to be buffered.
    LengthRequired = "length_required", 411, "The server accepts no chunked body of this size. Send Content-Length.";
    /// The body is longer than the limit.
    BodyTooLarge = "body_too_large", 413, "The request body is too large.";

    // Timeouts of the client.

    /// The head was not complete in time.
    HeadTimeout = "head_timeout", 408, "The request headers did not arrive in time. Try again.";
    /// The body made no progress for too long.
    BodyTimeout = "body_timeout", 408, "The request body did not arrive in time. Try again.";
    /// The client closed before its response was complete.
    ClientGone = "client_gone", 499, "The client closed the connection before its response was complete.";
    /// The client did not read its response in time.
    ClientStalled = "client_stalled", 499, "The client did not read its response in time.";

    // Guards: what the configuration asks of a request before it may pass.

    /// The client's address is on a deny list, or not on the allow list.
    AccessDenied = "access_denied", 403, "Access from this address is not allowed.";
    /// More requests than the rate limit allows.
    RateLimited = "rate_limited", 429, "Too many requests. Try again after the time in Retry-After.";
    /// More requests at once than the limit allows.
    ConcurrencyLimited = "concurrency_limited", 429, "Too many requests at once. Wait for responses before sending more.";
    /// No credentials, or wrong ones.
    Unauthorized = "unauthorized", 401, "A valid user name and password are required.";
    /// More attempts to log in than one client may make.
    AuthAttempts = "auth_attempts", 429, "Too many attempts to log in. Try again after the time in Retry-After.";
    /// Too many passwords are being verified.
    AuthBusy = "auth_busy", 503, "Too many passwords are being verified. Try again shortly.";

    // The balancer's own limits.

    /// The queue of requests is full.
    QueueFull = "queue_full", 503, "The balancer has too many requests waiting. Try again shortly.";
    /// The request waited past its deadline, for a server or for a worker.
    QueueTimeout = "queue_timeout", 503, "The request waited too long for a server. Try again shortly.";
    /// The deadline of the client or of the route was too near before a server had room.
    QueueDeadline = "queue_deadline", 503, "No server had room in the time that the request had. Try again shortly.";
    /// The deadline of the client or of the route has passed.
    DeadlineExceeded = "deadline_exceeded", 504, "The time that the request had is over. Allow more time, or try again later.";
    /// The standing queue is being shortened.
    Overloaded = "overloaded", 503, "The balancer is overloaded. Try again shortly.";
    /// The limit of connections is reached.
    ConnectionLimit = "connection_limit", 503, "The balancer has too many connections. Try again shortly.";
    /// The limit of tunnels (upgraded connections) is reached.
    TunnelLimit = "tunnel_limit", 503, "The balancer has too many upgraded connections. Try again shortly.";
    /// The balancer is stopping.
    Draining = "draining", 503, "The balancer is shutting down. Try again on a new connection.";
    /// An internal fault of the balancer.
    Internal = "internal", 500, "The balancer failed to process this request. Its log has the details under the request id.";

    /// No route matches, and the default pool has no servers.
    NoRoute = "no_route", 404, "No route leads here. Check the host and the path.";
    // The servers.

    /// No server can be picked.
    NoServer = "no_server", 503, "No server is available. Add servers, or check that they are up and healthy.";
    /// All servers of the pool are drained or in maintenance, or it has none.
    Maintenance = "maintenance", 503, "No server of the pool is in use. Take a server out of drain or maintenance.";
    /// No server accepted the connection.
    ConnectFailed = "connect_failed", 503, "The server could not be reached. Check that it is running.";
    /// TLS with the server failed: its certificate is not accepted, or it speaks no TLS.
    TlsFailed = "tls_failed", 502, "No secure connection to the server could be made. The balancer's log says why.";
    /// The server closed before the head of its response was complete.
    ServerReset = "server_reset", 502, "The server closed the connection before it responded.";
    /// The server did not respond in time.
    ServerTimeout = "server_timeout", 504, "The server did not respond in time.";
    /// The server's response is not valid HTTP.
    BadResponse = "bad_response", 502, "The server sent a response that is not valid HTTP.";
    /// The head of the server's response is longer than the limit.
    ResponseHeadTooLarge = "response_head_too_large", 502, "The headers of the response are larger than 64 KiB and than limits.head. Send less, or raise limits.head.";
    /// The server's response has more headers than the limit.
    ResponseTooManyHeaders = "response_too_many_headers", 502, "The response has more than 256 headers, which is the limit. Send fewer.";
    /// The server closed, stalled or broke the coding in the middle of a body: the client's response is truncated too.
    ResponseTruncated = "response_truncated", 502, "The server stopped in the middle of its response.";
}

impl Reason {
    /// The connection must close after the response: the start of the next request cannot be determined reliably, or
    /// the client should come back on a new connection. After other reasons it may be kept, once the request's body has
    /// been read to its end.
    pub const fn closes(self) -> bool {
        !matches!(
            self,
            Reason::LoopDetected
                | Reason::AccessDenied
                | Reason::RateLimited
                | Reason::ConcurrencyLimited
                | Reason::Unauthorized
                | Reason::AuthAttempts
                | Reason::AuthBusy
                | Reason::QueueFull
                | Reason::QueueTimeout
                | Reason::QueueDeadline
                | Reason::DeadlineExceeded
                | Reason::Overloaded
                | Reason::TunnelLimit
                | Reason::NoRoute
                | Reason::NoServer
                | Reason::Maintenance
                | Reason::ConnectFailed
                | Reason::TlsFailed
                | Reason::ServerReset
                | Reason::ServerTimeout
                | Reason::BadResponse
                | Reason::ResponseHeadTooLarge
                | Reason::ResponseTooManyHeaders
        )
    }

    /// The connection closes without a response: the peer uses, or should use, another protocol first.
    pub const fn is_silent(self) -> bool {
        matches!(self, Reason::BadProxyHeader | Reason::ProxyHeaderMissing | Reason::TlsOnHttpPort)
    }

    /// The sentence for the public: without anything about what is behind the balancer, or how it is set up.
    pub const fn public_sentence(self) -> &'static str {
        match (self, self.status()) {
            (Reason::Internal, _) => {
                "Something went wrong. Try again; if it happens again, name the request id."
            }
            (Reason::Maintenance, _) => "The service is down for maintenance. Try again later.",
            (_, 502) => "The service did not respond properly. Try again shortly.",
            (_, 503) if self.is_of_servers() => "The service is not available. Try again shortly.",
            (_, 504) => "The service took too long to respond. Try again shortly.",
            _ => self.sentence(),
        }
    }

    /// A server was at fault, or none was available.
    pub const fn is_of_servers(self) -> bool {
        (self as u8) >= Reason::NoServer as u8
    }
}

/// The reason phrase of a status that the balancer itself sends (RFC 9110 section 15).
pub const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
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
        for reason in &Reason::ALL[..=Reason::BodyTooLarge as usize] {
            assert!(reason.closes() || *reason == Reason::LoopDetected, "{reason:?}");
        }
        assert!(!Reason::NoServer.closes());
    }
}
