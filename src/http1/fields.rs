//! The field lines of one head, as offsets in its bytes: nothing is copied until it is forwarded.

use super::names::Name;

/// The most fields a head may have, whatever the configuration says.
pub const FIELDS_MAX: usize = 256;

/// One field line: the original bytes, without the line end and the white space around the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// The name, in its original case.
    pub name: &'b [u8],
    /// The value without white space around it; may contain bytes above 0x7f.
    pub value: &'b [u8],
    /// The name, if the balancer knows it.
    pub kind: Name,
}

/// Storage for the offsets of the fields of one head. Keep one per worker and pass it to every parse: it is cleared
/// there, and needs no allocation once it has grown to the largest head seen.
#[derive(Debug, Default)]
pub struct Slots {
    pub(super) spans: Vec<Span>,
}

impl Slots {
    /// Empty storage.
    pub const fn new() -> Self {
        Slots { spans: Vec::new() }
    }
}

/// The offsets of one field line in its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// First byte of the name.
    pub(super) start: u32,
    /// After the name.
    pub(super) name_end: u32,
    /// First byte of the value.
    pub(super) value: u32,
    /// After the value.
    pub(super) value_end: u32,
    /// After the line end.
    pub(super) end: u32,
    pub(super) kind: Name,
}

/// The fields of one head, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'s, 'b> {
    /// The whole head, its empty line included.
    pub(super) head: &'b [u8],
    /// Where the first field line starts.
    pub(super) first: usize,
    pub(super) spans: &'s [Span],
}

impl<'s, 'b> Fields<'s, 'b> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// All of them, unchanged.
    pub fn iter(&self) -> impl Iterator<Item = Field<'b>> + use<'s, 'b> {
        let fields = *self;
        self.spans.iter().map(move |span| fields.field(span))
    }

    /// The values of the fields of one kind, in order.
    pub fn values(&self, kind: Name) -> impl DoubleEndedIterator<Item = &'b [u8]> + use<'s, 'b> {
        let fields = *self;
        self.spans.iter().filter(move |span| span.kind == kind).map(move |span| fields.field(span).value)
    }

    pub(super) fn field(&self, span: &Span) -> Field<'b> {
        Field {
            name: self.slice(span.start, span.name_end),
            value: self.slice(span.value, span.value_end),
            kind: span.kind,
        }
    }

    pub(super) fn slice(&self, from: u32, to: u32) -> &'b [u8] {
        self.head.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// The state of a field that may appear only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Claim<'b> {
    #[default]
    Absent,
    One(&'b [u8]),
    Several,
}

impl<'b> Claim<'b> {
    pub(super) fn note(&mut self, value: &'b [u8]) {
        *self = match self {
            Claim::Absent => Claim::One(value),
            Claim::One(_) | Claim::Several => Claim::Several,
        };
    }

    /// The value where there is exactly one.
    pub(super) fn one(self) -> Option<&'b [u8]> {
        if let Claim::One(value) = self { Some(value) } else { None }
    }
}

/// The elements of a comma-separated list, without white space around them and without empty ones (RFC 9110 section
/// 5.6.1). Quoted strings are not supported: no field that is read this way has them.
pub(super) fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without spaces and tabs at both ends. (`trim_ascii` would remove more than the grammar's white space.)
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// 1*DIGIT that fits in 64 bits; anything else, in particular a sign, is None.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_digits_that_fit() {
        let check = |text: &str, expected| assert_eq!(decimal(text.as_bytes()), expected, "{text:?}");
        check("0", Some(0));
        check("007", Some(7));
        check("18446744073709551615", Some(u64::MAX));
        check("00000000000000000000000000000000000000001", Some(1));
        check("18446744073709551616", None);
        check("99999999999999999999999", None);
        for bad in ["", "+1", "-1", " 1", "1 ", "1,1", "0x1", "1_0", "1.0", "1e3", "\u{0661}", "1:", "1/"] {
            check(bad, None);
        }
    }

    #[test]
    fn lists_drop_white_space_and_empty_elements() {
        let elements = |value: &'static str| list(value.as_bytes()).collect::<Vec<_>>();
        assert_eq!(elements(" a ,\t, b\t,,c"), [b"a", b"b", b"c"]);
        assert!(elements(" , ,").is_empty());
    }
}
