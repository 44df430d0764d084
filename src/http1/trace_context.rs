//! W3C Trace Context: the `traceparent` header, `version-trace_id-parent_id-flags` in lower-case hexadecimal digits
//! (<https://www.w3.org/TR/trace-context/>).

/// The length of version 00.
const LEN: usize = 55;

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace: all that happens for one request of a user.
    pub trace: u128,
    /// The span of the caller.
    pub parent: u64,
    /// Bit 0: the caller records its span.
    pub flags: u8,
}

impl TraceParent {
    /// Reads a value. A later version may have more behind the flags, after a dash; `None` for what the recommendation
    /// says must be ignored: upper case, zeros for ids, version ff, another length in version 00.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let head = value.get(..LEN)?;
        let (version, trace, parent, flags) = (&head[..2], &head[3..35], &head[36..52], &head[53..]);
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let version = hex(version).filter(|version| *version != 0xff)?;
        let fits =
            if version == 0 { value.len() == LEN } else { matches!(value.get(LEN), None | Some(b'-')) };
        let (trace, parent, flags) = (hex(trace)?, hex(parent)?, hex(flags)?);
        let is_valid = dashes && fits && trace != 0 && parent != 0;
        is_valid.then_some(TraceParent { trace, parent: parent as u64, flags: flags as u8 })
    }

    /// One of a trace that begins here; not sampled: what records spans decides that. Ids of zero are not valid and become
    /// one.
    pub fn new(trace: u128, parent: u64) -> TraceParent {
        TraceParent { trace: trace.max(1), parent: parent.max(1), flags: 0 }
    }

    /// The value of the header, in version 00.
    pub fn digits(&self) -> [u8; LEN] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(self.trace, &mut out[3..35]);
        write_hex(u128::from(self.parent), &mut out[36..52]);
        write_hex(u128::from(self.flags), &mut out[53..]);
        out
    }
}

/// Lower-case hexadecimal digits, 32 at the most.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn write_hex(mut number: u128, out: &mut [u8]) {
    for place in out.iter_mut().rev() {
        *place = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[track_caller]
    fn check(value: &str, valid: bool) {
        assert_eq!(TraceParent::parse(value.as_bytes()).is_some(), valid, "{value}");
    }

    #[test]
    fn only_valid_values_are_read() {
        let expected = TraceParent {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            parent: 0x00f0_67aa_0ba9_02b7,
            flags: 1,
        };
        assert_eq!(TraceParent::parse(VALID.as_bytes()), Some(expected));
        check(&VALID.replace("00-4", "cc-4"), true);
        check(&format!("{}-later", VALID.replace("00-4", "cc-4")), true);
        check(&format!("{}later", VALID.replace("00-4", "cc-4")), false);
        check(&VALID.replace("00-4", "ff-4"), false);
        check(&format!("{VALID}-later"), false);
        check(&VALID[..54], false);
        check(&VALID.to_uppercase(), false);
        check(&VALID.replace('-', "_"), false);
        check("", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1", false);
    }

    #[test]
    fn what_begins_here_is_valid() {
        for (trace, parent) in [(0, 0), (1, 2), (u128::MAX, u64::MAX)] {
            check(std::str::from_utf8(&TraceParent::new(trace, parent).digits()).unwrap(), true);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace in 1u128.., parent in 1u64.., flags: u8) {
            let one = TraceParent { trace, parent, flags };
            prop_assert_eq!(TraceParent::parse(&one.digits()), Some(one));
        }

        #[test]
        fn no_value_panics(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceParent::parse(&value);
        }
    }
}
