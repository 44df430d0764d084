//! A question to the agent beside a server: a connection in clear text, what is to be sent, and the first line that comes.

use super::connection::{self, Channel};
use super::{Silence, Target, shortened};
use crate::base::time;
use crate::policy::agent::Line;
use crate::state::config::AgentCheck;

/// The longest line of an agent, in bytes; what is beyond does not count.
const LINE_MAX: usize = 1024;

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What of it is understood.
    pub line: Line,
    /// The line, escaped and in quotes.
    pub shown: String,
}

/// Asks, all within the time of the settings. A line that is not understood is as none.
pub fn ask(target: &Target, agent: &AgentCheck) -> Result<Heard, Silence> {
    let deadline = time::now().after(agent.timeout);
    let of_io = |error| Silence::of_io(&error, agent.timeout);
    let (stream, _) = connection::open(target, deadline).map_err(of_io)?;
    let mut channel = Channel::new(stream, None);
    if !agent.send.is_empty() {
        channel.write_all(&agent.send, Some(deadline)).map_err(of_io)?;
    }
    let (mut received, mut piece) = (Vec::new(), [0; LINE_MAX]);
    let is_whole = |received: &[u8]| received.len() >= LINE_MAX || received.iter().any(is_end);
    while !is_whole(&received) {
        match channel.read(&mut piece, Some(deadline)).map_err(of_io)? {
            0 => break,
            count => received.extend_from_slice(&piece[..count]),
        }
    }
    let line = received.split(is_end).next().unwrap_or_default();
    let line = &line[..line.len().min(LINE_MAX)];
    match Line::read(line) {
        Ok(read) => Ok(Heard { line: read, shown: shortened(line) }),
        Err(_) if received.is_empty() => Err("closed without a line".to_owned().into()),
        Err(fault) => Err(format!("not understood: {fault}; it sent {}", shortened(line)).into()),
    }
}

fn is_end(byte: &u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}
