//! Sets of networks, as allow and deny lists have them: whether an address is in one of them takes a binary search,
//! however many there are.

use std::net::IpAddr;

/// A set of networks. Networks that overlap or touch become one range, so the ranges are sorted by start and by end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// The set of these networks: address and number of leading bits that count, 0 to 32, or to 128 for IPv6.
    pub fn new(networks: impl IntoIterator<Item = (IpAddr, u8)>) -> Self {
        let mut set = Networks::default();
        for (address, prefix) in networks {
            match address {
                IpAddr::V4(address) => {
                    let rest = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                    set.v4.push((address.to_bits() & !rest, address.to_bits() | rest));
                }
                IpAddr::V6(address) => {
                    let rest = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                    set.v6.push((address.to_bits() & !rest, address.to_bits() | rest));
                }
            }
        }
        set.v4 = merged(set.v4, |end, start| end.checked_add(1).is_none_or(|next| start <= next));
        set.v6 = merged(set.v6, |end, start| end.checked_add(1).is_none_or(|next| start <= next));
        set
    }

    /// Whether one of them has the address. An IPv4 address in IPv6 form (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => has(&self.v4, address.to_bits()),
            IpAddr::V6(address) => has(&self.v6, address.to_bits()),
        }
    }

    /// Whether it has each address that the other set has.
    pub fn has_all_of(&self, other: &Networks) -> bool {
        covers(&self.v4, &other.v4) && covers(&self.v6, &other.v6)
    }

    /// Whether it has no network.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Sorted, and those that overlap or touch as one. `touches`: whether a range from `start` goes on where one ends.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, touches: impl Fn(T, T) -> bool) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (start, end) in ranges {
        match merged.last_mut().filter(|last| touches(last.1, start)) {
            Some(last) => last.1 = last.1.max(end),
            None => merged.push((start, end)),
        }
    }
    merged.shrink_to_fit();
    merged
}

/// Ranges of one set touch no other of it, so that one of them has all of a range, or none has.
fn covers<T: Copy + Ord>(ranges: &[(T, T)], others: &[(T, T)]) -> bool {
    others.iter().all(|other| ranges.iter().any(|range| range.0 <= other.0 && other.1 <= range.1))
}

fn has<T: Copy + Ord>(ranges: &[(T, T)], wanted: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= wanted);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, end)| wanted <= *end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn set(texts: &[&str]) -> Networks {
        Networks::new(texts.iter().map(|text| {
            let (address, prefix) = text.split_once('/').unwrap();
            (address.parse().unwrap(), prefix.parse().unwrap())
        }))
    }

    #[track_caller]
    fn check(networks: &[&str], inside: &[&str], outside: &[&str]) {
        let set = set(networks);
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(set.contains(address.parse().unwrap()), expected, "{networks:?} {address}");
            }
        }
    }

    #[test]
    fn an_address_is_in_one_of_them_or_in_none() {
        check(&[], &[], &["10.0.0.1", "::1"]);
        check(
            &["10.0.0.0/8", "192.168.1.128/25", "10.1.0.0/16"],
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "192.168.1.128", "192.168.1.255"],
            &["9.255.255.255", "11.0.0.0", "192.168.1.127", "192.168.2.0", "::10"],
        );
        check(&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255"], &["::", "::1"]);
        check(&["::/0"], &["::", "fd00::1"], &["10.0.0.1", "::ffff:10.0.0.1"]);
        check(&["127.0.0.1/32", "::1/128"], &["127.0.0.1", "::1"], &["127.0.0.2", "127.0.0.0", "::2", "::"]);
        check(&["255.255.255.255/32", "255.255.255.254/32"], &["255.255.255.254", "255.255.255.255"], &[]);
    }

    #[test]
    fn a_set_may_have_all_of_another() {
        for (all, of, has) in [
            (&["10.0.0.0/8"][..], &["10.1.0.0/16", "10.2.0.1/32"][..], true),
            (&["10.0.0.0/8"], &["10.1.0.0/16", "11.0.0.0/8"], false),
            (&["10.0.0.0/9", "10.128.0.0/9"], &["10.0.0.0/8"], true),
            (&["0.0.0.0/0"], &["fd00::/8"], false),
            (&[], &[], true),
        ] {
            assert_eq!(set(all).has_all_of(&set(of)), has, "{all:?} {of:?}");
        }
    }

    #[test]
    fn networks_that_overlap_or_touch_are_one_range() {
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"]).v4.len(), 1);
        assert_eq!(set(&["fd00::/9", "fd80::/9", "fe00::/16"]).v6.len(), 1);
        assert_eq!(set(&["10.0.0.0/9", "11.0.0.0/8"]).v4.len(), 2);
    }

    #[test]
    fn ten_thousand_networks_are_told_apart() {
        let networks = (0..10_000u32).map(|at| (IpAddr::V4(Ipv4Addr::from_bits(at << 16)), 24));
        let set = Networks::new(networks);
        assert_eq!(set.v4.len(), 10_000);
        for at in (0..10_000u32).step_by(37) {
            let address = |low: u32| IpAddr::V4(Ipv4Addr::from_bits((at << 16) | low));
            assert!(set.contains(address(0)) && set.contains(address(255)));
            assert!(!set.contains(address(256)) && !set.contains(address(65_535)));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_walk_through_all(
            v4 in prop::collection::vec((any::<u32>(), 0u8..=32), 0..40),
            v6 in prop::collection::vec((any::<u128>(), 0u8..=128), 0..40),
            probes in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let networks: Vec<(IpAddr, u8)> = v4.iter().map(|(bits, prefix)| (Ipv4Addr::from_bits(*bits).into(), *prefix))
                .chain(v6.iter().map(|(bits, prefix)| (Ipv6Addr::from_bits(*bits).into(), *prefix)))
                .collect();
            let set = Networks::new(networks.iter().copied());
            let near = v4.iter().flat_map(|(bits, _)| [bits.wrapping_sub(1), *bits, bits.wrapping_add(1)]);
            for probe in probes.iter().copied().chain(near) {
                let walked = v4.iter().any(|(bits, prefix)| {
                    let shift = 32 - u32::from(*prefix);
                    (bits ^ probe).checked_shr(shift).unwrap_or(0) == 0
                });
                prop_assert_eq!(set.contains(IpAddr::V4(Ipv4Addr::from_bits(probe))), walked);
            }
            for (bits, prefix) in &v6 {
                let beside = bits ^ (1u128.checked_shl(128 - u32::from(*prefix)).unwrap_or(0));
                for probe in [*bits, beside] {
                    let walked = v6.iter().any(|(bits, prefix)| {
                        (bits ^ probe).checked_shr(128 - u32::from(*prefix)).unwrap_or(0) == 0
                    });
                    prop_assert_eq!(set.contains(IpAddr::V6(Ipv6Addr::from_bits(probe))), walked);
                }
            }
        }
    }
}
