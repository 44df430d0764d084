//! The cost of idle connections.

use super::process;
use super::proxy::{Proxy, ask};
use super::result::Idle;
use std::net::TcpStream;
use std::time::Duration;

/// Opens connections, uses each once, and measures the proxy's memory while all are open.
pub fn hold(proxy: &Proxy, connections: usize) -> Idle {
    let before = process::memory(&proxy.pids);
    let mut held = Vec::with_capacity(connections);
    let mut complaint = None;
    for number in 0..connections {
        match open_and_ask(proxy) {
            Ok(stream) => held.push(stream),
            Err(why) => {
                complaint = Some(format!("connection {} of {connections}: {why}", number + 1));
                break;
            }
        }
    }
    let holding = process::memory(&proxy.pids);
    // All of them must still be served, not only held: the first is tested for all.
    if let Some(first) = held.first_mut() {
        if complaint.is_none() && !ask(first).unwrap_or(false) {
            complaint = Some("the first connection is no longer served".to_string());
        }
    }
    Idle { proxy: proxy.kind.name().to_string(), connections: held.len(), before, holding, complaint }
}

fn open_and_ask(proxy: &Proxy) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(proxy.address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
    match ask(&mut stream) {
        Ok(true) => Ok(stream),
        Ok(false) => Err("no 200".to_string()),
        Err(error) => Err(error.to_string()),
    }
}
