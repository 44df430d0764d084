//! Layer 1: the HTTP/1.1 codec without IO. Bytes in, facts out; facts in, bytes out. It never reads a socket, a clock
//! or a file, and never panics on a peer's bytes.
//!
//! The path of a request: [`head`] asks the scanner for lines (strict, in the order of the stream, so that any split of
//! the bytes gives the same result), [`framing`] decides where the message ends, [`body`] finds that end, and
//! [`forward`] writes the head that is forwarded. [`proxy_protocol`] and [`client`] determine the client's address.
//! [`reason`] names every rejection and [`reply`] writes its response, [`page`] with its pages. [`trace`]: the id of a
//! request in logs and responses. [`encoding`]: compression of responses. [`websocket`], [`event_stream`]: where a
//! stream may be ended. [`challenge`]: the headers that tell a client what it may do.

pub mod body;
pub mod challenge;
pub mod client;
mod connection;
pub mod edits;
pub mod encoding;
pub mod event_stream;
mod extension;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod head;
pub mod malformed;
pub mod names;
mod origin;
pub mod page;
pub mod path;
pub mod proxy_protocol;
pub mod reason;
pub mod reply;
mod scan;
mod target;
pub mod trace;
pub mod trace_context;
mod trailers;
pub mod upgrade;
pub mod websocket;
mod write;
