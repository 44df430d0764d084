//! Small writers for heads: no formatting machinery on the hot path.

use std::io::Write;
use std::net::IpAddr;

/// Appends a decimal number.
pub(super) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// Appends `name: value` and the line end.
pub(super) fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends an address; an IPv4-mapped IPv6 address is written as IPv4.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let (mut text, mut len) = ([b'.'; 16], 0);
            for octet in address.octets() {
                for (least, digit) in [(100, octet / 100), (10, octet / 10 % 10), (0, octet % 10)] {
                    if octet >= least {
                        text[len] = b'0' + digit;
                        len += 1;
                    }
                }
                // Behind the last number there is room for the dot that is left out.
                text[len] = b'.';
                len += 1;
            }
            out.extend_from_slice(&text[..len - 1]);
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
        for (text, expected) in
            [("127.0.0.1", "127.0.0.1"), ("2001:db8::1", "2001:db8::1"), ("::ffff:10.0.0.255", "10.0.0.255")]
        {
            let mut out = Vec::new();
            address(&mut out, text.parse().unwrap());
            assert_eq!(out, expected.as_bytes());
        }
    }
}
