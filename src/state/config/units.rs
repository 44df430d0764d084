//! Durations and sizes as a person writes them.

use std::time::Duration;

/// Every unit of a size, the larger ones first, so that the first that divides the size is shown.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Bytes of `"16KiB"`, `"64KB"` or `"512"`; the case of the unit does not matter. None when it is not a valid size, or
/// does not fit in 64 bits.
pub fn read_size(text: &str) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start_matches(' ');
    let factor =
        if unit.is_empty() { 1 } else { SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1 };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// `10MiB` for the `10m` of other programs.
pub(super) fn with_unit(text: &str) -> Option<String> {
    let number = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "k" | "K" => "KiB",
        "m" | "M" => "MiB",
        "g" | "G" => "GiB",
        _ => return None,
    };
    number.trim_end().parse::<u64>().ok().map(|number| format!("{number}{unit}"))
}

/// The size in the largest binary unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let binary = SIZES.iter().filter(|(name, _)| name.ends_with("iB"));
    let fits = binary.into_iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    fits.map_or(format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// A duration as humantime reads it: `"5s"`, `"500ms"`, `"1m 30s"`. None when it is not valid.
pub(super) fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// The duration in the largest unit that divides it, down to milliseconds.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let fits = units.into_iter().find(|(_, factor)| ms.is_multiple_of(*factor) && ms > 0);
    fits.map_or("0s".to_owned(), |(name, factor)| format!("{}{name}", ms / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("512B", Some(512)),
            ("16KiB", Some(16384)),
            ("16kib", Some(16384)),
            ("64KB", Some(64000)),
            ("2 MiB", Some(2 << 20)),
            ("1GB", Some(1_000_000_000)),
            ("3TiB", Some(3 << 40)),
            ("", None),
            ("KiB", None),
            ("16K", None),
            ("-1", None),
            ("1.5KiB", None),
            ("99999999999999999999", None),
            ("99999999999TiB", None),
            ("16KiBé", None),
        ] {
            assert_eq!(read_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, ms) in [
            ("5s", Some(5000)),
            ("500ms", Some(500)),
            ("1m", Some(60_000)),
            ("1m 30s", Some(90_000)),
            ("2h", Some(7_200_000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("five seconds", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for (text, bytes) in [("16KiB", 16384), ("1000B", 1000), ("1MiB", 1 << 20), ("0B", 0)] {
            assert_eq!(show_size(bytes), text);
            assert_eq!(read_size(text), Some(bytes));
        }
        for (text, ms) in [("24h", 86_400_000), ("90s", 90_000), ("1ms", 1), ("10m", 600_000), ("0s", 0)] {
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
            assert_eq!(duration(text), Some(Duration::from_millis(ms)));
        }
    }
}
