//! The binary form: a message `xds.data.orca.v3.OrcaLoadReport` in base64, of which a few fields are read.

use super::Report;
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// With padding and without: gRPC leaves it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BROKEN: &str = "its protobuf message is broken";

/// Numbers of the message's fields.
mod number {
    pub(super) const CPU: u64 = 1;
    pub(super) const MEMORY: u64 = 2;
    pub(super) const NAMED: u64 = 8;
    pub(super) const APPLICATION: u64 = 9;
    /// Of an entry of a map.
    pub(super) const KEY: u64 = 1;
    pub(super) const VALUE: u64 = 2;
}

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Double(f64),
    Bytes(&'a [u8]),
    /// Of a kind that no field here has.
    Other,
}

pub(super) fn read(value: &[u8]) -> Result<Report, &'static str> {
    let message = BASE64.decode(value.trim_ascii()).map_err(|_| "it is neither TEXT nor JSON nor base64")?;
    let mut report = Report::default();
    each(&message, |number, value| match (number, value) {
        (number::CPU, Value::Double(value)) => report.cpu_utilization = Some(value),
        (number::MEMORY, Value::Double(value)) => report.mem_utilization = Some(value),
        (number::APPLICATION, Value::Double(value)) => report.application_utilization = Some(value),
        (number::NAMED, Value::Bytes(entry)) => {
            let (mut key, mut value) = (String::new(), 0.0);
            let read = each(entry, |number, found| match (number, found) {
                (number::KEY, Value::Bytes(bytes)) => key = String::from_utf8_lossy(bytes).into_owned(),
                (number::VALUE, Value::Double(double)) => value = double,
                _ => {}
            });
            if read.is_some() {
                report.named_metrics.insert(key, value);
            }
        }
        _ => {}
    })
    .ok_or(BROKEN)?;
    Ok(report)
}

/// Calls `found` for each field; `None` where the message ends in one, or has one that cannot be.
fn each(mut message: &[u8], mut found: impl FnMut(u64, Value<'_>)) -> Option<()> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = match tag & 7 {
            0 => varint(&mut message).map(|_| Value::Other)?,
            1 => Value::Double(f64::from_le_bytes(*take(&mut message, 8)?.first_chunk::<8>()?)),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                Value::Bytes(take(&mut message, length)?)
            }
            5 => take(&mut message, 4).map(|_| Value::Other)?,
            _ => return None,
        };
        found(tag >> 3, value);
    }
    Some(())
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Metric, read};
    use super::*;

    fn double(number: u8, value: f64) -> Vec<u8> {
        [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
    }

    #[test]
    fn the_message_is_read_with_padding_and_without_and_broken_ones_are_told() {
        let entry = [&[10, 2, b'k', b'v'][..], &double(2, 0.75)].concat();
        let named = [&[8 << 3 | 2, entry.len() as u8][..], &entry].concat();
        let rps = [3 << 3, 0xac, 0x02];
        let message = [double(1, 0.5), rps.to_vec(), named, double(9, 0.25)].concat();
        let encoded = BASE64.encode(&message);
        for value in [format!("BIN {encoded}"), encoded.clone(), encoded.trim_end_matches('=').to_owned()] {
            let metric = |name| read(value.as_bytes(), &Metric::of_name(name).unwrap_or_default());
            assert_eq!(metric("cpu_utilization"), Ok(Some(0.5)));
            assert_eq!(metric("named_metrics.kv"), Ok(Some(0.75)));
            assert_eq!(metric(""), Ok(Some(0.25)));
            assert_eq!(metric("mem_utilization"), Ok(None));
        }
        for broken in [&message[..4], &[0xff; 11], &[8 << 3 | 2, 200], &[7]] {
            assert_eq!(read(BASE64.encode(broken).as_bytes(), &Metric::Usual), Err(BROKEN), "{broken:?}");
        }
    }
}
