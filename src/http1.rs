//! Layer 1: the HTTP/1.1 codec without IO. Bytes in, facts out; facts in, bytes out. It never reads a socket, a clock
//! or a file, and never panics on a peer's bytes.
//!
//! The path of a request: [`head`] asks the scanner for lines (strict, in the order of the stream, so that any split of
//! the bytes gives the same result), [`framing`] decides where the message ends, [`body`] finds that end, and
//! [`forward`] writes the head that is forwarded. [`proxy_protocol`] and [`client`] determine the client's address.
//! [`reason`] names every rejection and [`reply`] writes its response. [`trace`]: the id of a request in logs and
//! responses.

pub mod body;
pub mod client;
mod connection;
pub mod edits;
mod extension;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod head;
pub mod names;
pub mod path;
pub mod proxy_protocol;
pub mod reason;
pub mod reply;
mod scan;
mod target;
pub mod trace;
mod trailers;
mod write;
