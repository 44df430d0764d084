//! A connection, with TLS where the server speaks TLS; bytes to send and to expect if that is wanted.

use super::connection::{self, Channel, is_late};
use super::{Passed, Silence, Target, shortened, words};
use crate::base::time::{self, Moment};
use crate::state::config::{EXPECT_BYTES_MAX, Expected, TcpProbe};
use std::net::SocketAddr;
use std::time::Duration;

/// Connects, and sends and expects what the configuration says, all within this time. Also returns the address that was
/// connected to.
pub(super) fn ask(
    target: &Target,
    probe: &TcpProbe,
    timeout: Duration,
) -> (Result<Passed, Silence>, Option<SocketAddr>) {
    let deadline = time::now().after(timeout);
    let (stream, address) = match connection::open(target, deadline) {
        Ok(opened) => opened,
        Err(error) => return (Err(Silence::of_io(&error, timeout)), None),
    };
    let session = match target.tls.as_ref().map(|tls| tls.session(&target.address)).transpose() {
        Ok(session) => session,
        Err(words) => return (Err(words.into()), address),
    };
    let mut channel = Channel::new(stream, session);
    let sent = channel.complete_handshake(deadline).and_then(|()| match probe.send.is_empty() {
        true => Ok(()),
        false => channel.write_all(&probe.send, Some(deadline)),
    });
    let talked = match (sent, &probe.expect) {
        (Err(error), _) => Err(Silence::of_io(&error, timeout)),
        (Ok(()), None) => Ok(Passed::yes("connected")),
        (Ok(()), Some(expected)) => listen(&mut channel, expected, deadline, timeout),
    };
    (talked, address)
}

/// Reads until the expected bytes have come, or cannot come any more.
fn listen(
    channel: &mut Channel,
    expected: &Expected,
    deadline: Moment,
    timeout: Duration,
) -> Result<Passed, Silence> {
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let why = match channel.read(&mut piece, Some(deadline)) {
            Ok(0) => "it closed the connection".to_owned(),
            Ok(count) => {
                let room = EXPECT_BYTES_MAX - received.len();
                received.extend_from_slice(&piece[..count.min(room)]);
                if expected.is_in(&received) {
                    return Ok(Passed::yes("responded as expected"));
                }
                if received.len() < EXPECT_BYTES_MAX {
                    continue;
                }
                format!("not in the first {EXPECT_BYTES_MAX} bytes")
            }
            Err(error) if received.is_empty() => return Err(Silence::of_io(&error, timeout)),
            Err(error) if is_late(&error) => format!("in {}", humantime::format_duration(timeout)),
            Err(error) => words(&error, timeout),
        };
        return match received.is_empty() {
            true => Err("closed without a response".to_owned().into()),
            false => Ok(Passed::no(format!(
                "did not respond as expected ({why}); it sent {}",
                shortened(&received)
            ))),
        };
    }
}
