//! The forms that lines of the access log can have.

/// The form of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Our own: begins like the common form, then time, server, id and reason.
    #[default]
    Default,
    /// The combined form of Apache and nginx.
    Combined,
    /// An object with all [`Field`]s.
    Json,
    /// A text with fields in it.
    Template(Template),
}

/// A value of a line: a key of the JSON form, a placeholder of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// When it ended, RFC 3339 in UTC with milliseconds.
    Time,
    /// The client's address.
    Client,
    /// The other end of the connection, with its port.
    Peer,
    /// The listener.
    Listener,
    /// The method.
    Method,
    /// The target as it came.
    Target,
    /// The value of Host.
    Host,
    /// The version of HTTP.
    Protocol,
    /// The status that the client was sent; 499 and so on where there was none.
    Status,
    /// Bytes of the request's body.
    ReceivedBytes,
    /// Bytes of the response's body, as it was framed.
    SentBytes,
    /// From the complete head to the end.
    TotalMs,
    /// In the queue of the pool.
    QueueMs,
    /// Of its route; for the queue.
    Priority,
    /// How much time it had, as its client or its route says.
    DeadlineMs,
    /// For a new connection to the server.
    ConnectMs,
    /// From the complete head to the head of the response.
    FirstByteMs,
    /// The route.
    Route,
    /// The pool.
    Pool,
    /// The server that was tried last.
    Server,
    /// How often it was sent to a server.
    Tries,
    /// Whether a second attempt was made beside the first.
    Hedged,
    /// Why it was rejected or failed.
    Reason,
    /// The value of Referer.
    Referer,
    /// The value of User-Agent.
    UserAgent,
    /// Of the client's TLS.
    TlsVersion,
    /// Of the client's TLS.
    TlsCipher,
    /// The request id.
    RequestId,
    /// The id of the trace.
    TraceId,
    /// The line in which a malformed head stops to be one.
    MalformedLine,
}

impl Field {
    /// All fields with their names, in the order of the JSON form.
    pub const ALL: [(&'static str, Field); 30] = [
        ("time", Field::Time),
        ("client", Field::Client),
        ("peer", Field::Peer),
        ("listener", Field::Listener),
        ("method", Field::Method),
        ("target", Field::Target),
        ("host", Field::Host),
        ("protocol", Field::Protocol),
        ("status", Field::Status),
        ("received_bytes", Field::ReceivedBytes),
        ("sent_bytes", Field::SentBytes),
        ("total_ms", Field::TotalMs),
        ("queue_ms", Field::QueueMs),
        ("priority", Field::Priority),
        ("deadline_ms", Field::DeadlineMs),
        ("connect_ms", Field::ConnectMs),
        ("first_byte_ms", Field::FirstByteMs),
        ("route", Field::Route),
        ("pool", Field::Pool),
        ("server", Field::Server),
        ("tries", Field::Tries),
        ("hedged", Field::Hedged),
        ("reason", Field::Reason),
        ("referer", Field::Referer),
        ("user_agent", Field::UserAgent),
        ("tls_version", Field::TlsVersion),
        ("tls_cipher", Field::TlsCipher),
        ("request_id", Field::RequestId),
        ("trace_id", Field::TraceId),
        ("malformed_line", Field::MalformedLine),
    ];
}

/// A text with fields in braces, such as `{client} {status} {total_ms}`. A brace is written twice to stand for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Written as it is.
    Text(String),
    /// Replaced by the value.
    Field(Field),
}

impl Template {
    /// Parses a text; an error follows the text itself: `has {hots}, which is not a field`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|char| char.is_control() && char != '\t') {
            return Err("has a control character; write visible characters".to_owned());
        }
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
                plain.push_str(&brace[..1]);
                rest = after;
                continue;
            }
            let inside = brace.strip_prefix('{').and_then(|inside| inside.split_once('}'));
            let (name, after) =
                inside.ok_or("has a single brace; write a field between two, or the brace twice")?;
            let field = Field::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
            let field = field.ok_or_else(|| format!("has {{{name}}}, which is not a field"))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template(parts))
    }

    /// Its parts, in their order.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    fn has(&self, fields: &[Field]) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Field(field) if fields.contains(field)))
    }
}

impl Format {
    /// Whether lines have headers of requests.
    pub fn has_headers(&self) -> bool {
        match self {
            Format::Default => false,
            Format::Combined | Format::Json => true,
            Format::Template(template) => template.has(&[Field::Host, Field::Referer, Field::UserAgent]),
        }
    }

    /// Whether lines have names of listeners, routes and pools, or TLS.
    pub fn has_names(&self) -> bool {
        use Field::{Listener, MalformedLine, Pool, Route, TlsCipher, TlsVersion};
        match self {
            Format::Default | Format::Combined => false,
            Format::Json => true,
            Format::Template(template) => {
                template.has(&[Listener, Route, Pool, TlsVersion, TlsCipher, MalformedLine])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_fields_and_say_what_is_wrong_with_them() {
        let template = Template::parse("{{{status}}} {client}\t").unwrap();
        let text = |text: &str| Part::Text(text.to_owned());
        assert_eq!(
            template.parts(),
            [text("{"), Part::Field(Field::Status), text("} "), Part::Field(Field::Client), text("\t")]
        );
        for (text, wrong) in [
            ("{hots}", "has {hots}, which is not a field"),
            ("{status", "single brace"),
            ("status}", "single brace"),
            ("a\nb", "control character"),
        ] {
            assert!(Template::parse(text).unwrap_err().contains(wrong), "{text}");
        }
    }

    #[test]
    fn only_what_a_line_has_is_kept_of_a_request() {
        let template = |text| Format::Template(Template::parse(text).unwrap());
        let found = |format: &Format| (format.has_headers(), format.has_names());
        assert_eq!(found(&Format::Default), (false, false));
        assert_eq!(found(&Format::Combined), (true, false));
        assert_eq!(found(&Format::Json), (true, true));
        assert_eq!(found(&template("{status}")), (false, false));
        assert_eq!(found(&template("{host}")), (true, false));
        assert_eq!(found(&template("{route}")), (false, true));
    }
}
