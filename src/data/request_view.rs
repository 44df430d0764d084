//! Layer 2: a request as its route looks at it, and what templates insert of it.

use super::meta::Meta;
use crate::base::template::{Placeholder, Values};
use crate::http1::head::RequestHead;
use crate::http1::names::is_same_dashed;
use crate::policy::route::{Pattern, Request, without_port};
use crate::state::listener::OpenListener;
use crate::state::route::Found;
use crate::state::tls::subject::told;
use std::io::Write;
use std::net::IpAddr;

/// Stands for the server's name in rendered headers until it is known. No value has this byte: what clients may send in
/// targets and hosts is ASCII, and in headers it is replaced.
pub const SERVER_NAME: u8 = 0xff;

/// A request as the routes look at it.
pub struct RequestView<'a, 's, 'b> {
    /// Its head.
    pub head: &'a RequestHead<'s, 'b>,
    /// Its normalised path.
    pub path: &'a [u8],
    /// Its query, without the `?`.
    pub query: Option<&'a [u8]>,
    /// What is kept of it.
    pub meta: &'a Meta,
    /// Where it came in; `None` where that does not matter.
    pub listener: Option<&'a OpenListener>,
}

impl Request for RequestView<'_, '_, '_> {
    fn host(&self) -> &[u8] {
        self.head.host
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> &[u8] {
        self.query.unwrap_or_default()
    }

    fn method(&self) -> &[u8] {
        self.head.method
    }

    fn header(&self, name: &[u8], each: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        if let Some(of_certificate) = told(name, self.meta.certificate(), self.meta.peer_trusted) {
            return of_certificate.is_some_and(|value| each(value.as_bytes()));
        }
        // A server that cannot distinguish an underscore from a dash must not see a header that its route did not.
        let mut fields = self.head.fields.iter().filter(|field| is_same_dashed(field.name, name));
        fields.any(|field| each(field.value))
    }

    fn client(&self) -> Option<IpAddr> {
        self.meta.client
    }

    fn listener(&self) -> &str {
        self.listener.map_or("", |listener| &listener.name)
    }
}

/// What is known of a request, for templates.
pub struct TemplateValues<'a> {
    /// The request.
    pub request: &'a RequestView<'a, 'a, 'a>,
    /// What is kept of it.
    pub meta: &'a Meta,
    /// Its route.
    pub found: &'a Found<'a>,
    /// The name of its pool; empty while none is chosen.
    pub pool: &'a str,
}

impl Values for TemplateValues<'_> {
    fn write(&self, placeholder: &Placeholder, out: &mut Vec<u8>) {
        let request = self.request;
        match placeholder {
            Placeholder::ClientIp => {
                // Writing to a vector cannot fail.
                let _ = self.meta.client.map(|client| write!(out, "{}", client.to_canonical()));
            }
            Placeholder::Host => out.extend_from_slice(without_port(request.head.host)),
            Placeholder::Path => out.extend_from_slice(request.path),
            Placeholder::Query => out.extend_from_slice(request.query()),
            Placeholder::Uri => {
                out.extend_from_slice(if request.head.slash_first { b"/" } else { b"" });
                out.extend_from_slice(request.head.target);
            }
            Placeholder::Method => out.extend_from_slice(request.head.method),
            Placeholder::Scheme => {
                out.extend_from_slice(if self.meta.secure.is_some() { b"https" } else { b"http" });
            }
            Placeholder::RequestId => out.extend_from_slice(self.meta.shown_id.to_string().as_bytes()),
            Placeholder::TlsVersion => {
                let version = self.meta.secure.as_ref().map_or("", |secure| secure.version);
                out.extend_from_slice(version.as_bytes());
            }
            Placeholder::Server => out.push(SERVER_NAME),
            Placeholder::Route => out.extend_from_slice(self.found.route.name.as_bytes()),
            Placeholder::Pool => out.extend_from_slice(self.pool.as_bytes()),
            Placeholder::Port => {
                let port = request.listener.and_then(|listener| listener.place.port());
                let _ = port.map(|port| write!(out, "{port}"));
            }
            Placeholder::Header(name) => self.header(name, out),
            Placeholder::Capture(number) => self.capture(*number, out),
        }
    }
}

impl TemplateValues<'_> {
    fn header(&self, name: &str, out: &mut Vec<u8>) {
        self.request.header(name.as_bytes(), &mut |value| {
            // UTF-8 has no such byte either.
            out.extend(value.iter().map(|byte| if *byte == SERVER_NAME { b'?' } else { *byte }));
            true
        });
    }

    fn capture(&self, number: u8, out: &mut Vec<u8>) {
        let captures = self.found.pattern.and_then(|pattern: &Pattern| pattern.captures(self.request.path));
        let group = captures.as_ref().and_then(|captures| captures.get(usize::from(number)));
        group.into_iter().for_each(|group| out.extend_from_slice(group.as_bytes()));
    }
}
