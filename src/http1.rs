//! Floor 1: the HTTP/1.1 codec without IO. Bytes in, facts out; facts in, bytes out. Nothing here reads a
//! socket, a clock or a file, and nothing here can panic on what a peer sent.
//!
//! The way of a request: [`head`] asks the scanner for lines (strict, in the order of the stream, so that any
//! split of the bytes gives the same verdict), [`framing`] decides where the message ends, [`body`] follows
//! it there, and [`forward`] writes the head that goes on. Whose request it is say
//! [`proxy_protocol`] and [`client`]. [`reason`] names every refusal and [`reply`] answers it. [`trace`]: what a
//! request is called in logs and answers.

pub mod body;
pub mod client;
mod connection;
mod extension;
pub mod fields;
pub mod forward;
pub mod framing;
pub mod head;
pub mod names;
pub mod proxy_protocol;
pub mod reason;
pub mod reply;
mod scan;
mod target;
pub mod trace;
mod trailers;
mod write;
