//! A network in CIDR notation, for lists of trusted peers and for conditions on a client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and its number of significant leading bits: `10.0.0.0/8`, `::1`, `127.0.0.1`. The other bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    /// 0 to 32, or to 128 for IPv6.
    prefix: u8,
}

impl Network {
    /// Whether the network contains the address. An IPv4 address in IPv6 form (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    /// Its address and its number of significant leading bits.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    /// The error is a sentence that says what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write \"10.0.0.0/8\", \"fd00::/8\" or a single address";
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address =
            address.parse::<IpAddr>().map_err(|_| format!("{text:?} is not a valid network; {advice}"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if let Some(bits) = prefix.and_then(mask_bits).filter(|_| address.is_ipv4()) {
            return Err(format!("{text:?} has a mask; write \"{address}/{bits}\""));
        }
        let prefix = prefix.map_or(Some(most), |prefix| digits(prefix).filter(|prefix| *prefix <= most));
        let prefix = prefix.ok_or_else(|| format!("{text:?} has no prefix from 0 to {most}; {advice}"))?;
        let network = Network { address: masked(address, prefix), prefix };
        if network.address != address {
            return Err(format!("{text:?} has bits beyond its prefix; write \"{network}\" or \"{address}\""));
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

/// The leading ones of an IPv4 mask such as `255.255.0.0`.
fn mask_bits(text: &str) -> Option<u32> {
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    (mask.leading_ones() + mask.trailing_zeros() == 32).then(|| mask.leading_ones())
}

/// A number of digits only: the standard parser also accepts a sign.
fn digits(text: &str) -> Option<u8> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network: Network = network.parse().unwrap();
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(network.contains(address.parse().unwrap()), expected, "{network} {address}");
            }
        }
    }

    #[test]
    fn an_address_is_inside_or_outside() {
        check(
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            &["11.0.0.0", "9.9.9.9", "::10"],
        );
        check("127.0.0.1", &["127.0.0.1"], &["127.0.0.2", "::1"]);
        check("192.168.1.128/25", &["192.168.1.128", "192.168.1.255"], &["192.168.1.127"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::", "::1"]);
        check("::/0", &["::", "fd00::1"], &["10.0.0.1", "::ffff:10.0.0.1"]);
        check("::1", &["::1"], &["::2", "127.0.0.1"]);
        check("fd00::/8", &["fd12::1"], &["fe80::1"]);
    }

    #[test]
    fn faults_say_what_to_write() {
        for (text, advice) in [
            ("", "not a valid network"),
            ("localhost", "not a valid network"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/+8", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("::/129", "0 to 128"),
            ("10.0.0.5/8", "write \"10.0.0.0/8\" or \"10.0.0.5\""),
            ("10.0.0.0/8/8", "0 to 32"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
