//! What listeners take: addresses, TLS to clients and to servers, the PROXY protocol.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod certificate_files;
mod client_auth;
mod client_certificates;
mod handshakes;
mod proxy_protocol;
mod proxy_to_servers;
mod tls_clients;
mod tls_servers;
