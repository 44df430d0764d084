//! The text format of Prometheus, version 0.0.4: families of samples, each with its help and its type.

use crate::state::histogram::Counts;
use std::fmt::{Display, Write};

/// The type of a family.
#[derive(Clone, Copy, Debug)]
pub(in crate::control::admin) enum Kind {
    /// It only grows, but for a restart.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Cumulative buckets, their sum and their count.
    Histogram,
}

/// Which buckets of a histogram are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control::admin) enum Buckets {
    /// All powers of two, from 4 us to 268 s.
    All,
    /// Those of [`FEW_US`]: there is a histogram for each server.
    Few,
}

/// 0.5 ms to 67 s: what is faster is fast, and what is slower has timed out.
const FEW_US: std::ops::RangeInclusive<u64> = 1 << 9..=1 << 26;

/// The text so far. Samples belong to the last family.
#[derive(Debug, Default)]
pub(in crate::control::admin) struct Page {
    pub(in crate::control::admin) text: String,
    name: String,
}

impl Page {
    /// Begins a family of the balancer's own metrics.
    pub(in crate::control::admin) fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Self {
        self.family_named(&format!("evenkeel_{name}"), kind, help)
    }

    /// Begins a family with a name that many programs have.
    pub(in crate::control::admin) fn family_named(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
    ) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name.to_owned();
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        self
    }

    /// A sample of the last family.
    pub(in crate::control::admin) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// A family with one sample.
    pub(in crate::control::admin) fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// A family with one histogram.
    pub(in crate::control::admin) fn histogram(&mut self, name: &str, help: &str, counts: &Counts) {
        self.family(name, Kind::Histogram, help);
        self.buckets(&[], counts, Buckets::All);
    }

    /// A histogram of the last family. Buckets at the powers of two of a microsecond. The last one also counts longer
    /// durations, so its upper bound would be wrong: it is in `+Inf` alone.
    pub(in crate::control::admin) fn buckets(
        &mut self,
        labels: &[(&str, &str)],
        counts: &Counts,
        which: Buckets,
    ) {
        let buckets: Vec<_> = counts.cumulative().collect();
        for (upper_us, count) in &buckets[..buckets.len().saturating_sub(1)] {
            // Whole microseconds were counted: up to 7 us means less than 8 us.
            let bound_us = upper_us + 1;
            if which == Buckets::Few && !FEW_US.contains(&bound_us) {
                continue;
            }
            let bound = (bound_us as f64 / 1e6).to_string();
            self.suffixed("_bucket", &[labels, &[("le", bound.as_str())]].concat(), count);
        }
        self.suffixed("_bucket", &[labels, &[("le", "+Inf")]].concat(), counts.count());
        self.suffixed("_sum", labels, counts.sum_us as f64 / 1e6);
        self.suffixed("_count", labels, counts.count());
    }

    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name.clone();
        if labels.is_empty() {
            return self.line(format_args!("{name}{suffix} {value}"));
        }
        let labels = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        self.line(format_args!("{name}{suffix}{{{labels}}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::histogram::Histogram;
    use std::time::Duration;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("x", Kind::Gauge, "h").sample(&[("a", "\\ \" \n"), ("b", "é")], 1.5);
        let expected =
            "# HELP evenkeel_x h\n# TYPE evenkeel_x gauge\nevenkeel_x{a=\"\\\\ \\\" \\n\",b=\"é\"} 1.5\n";
        assert_eq!(page.text, expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let (histogram, mut counts) = (Histogram::default(), Counts::default());
        for us in [3, 4, 1_000_000, u64::from(u32::MAX)] {
            histogram.record(Duration::from_micros(us));
        }
        histogram.add_to(&mut counts);
        let mut page = Page::default();
        page.histogram("x", "h", &counts);
        for line in [
            "evenkeel_x_bucket{le=\"0.000004\"} 1",
            "evenkeel_x_bucket{le=\"0.000008\"} 2",
            "evenkeel_x_bucket{le=\"0.524288\"} 2",
            "evenkeel_x_bucket{le=\"1.048576\"} 3",
            "evenkeel_x_bucket{le=\"268.435456\"} 3",
            "evenkeel_x_bucket{le=\"+Inf\"} 4",
            "evenkeel_x_sum 4295.967302",
            "evenkeel_x_count 4",
        ] {
            assert!(page.text.lines().any(|found| found == line), "{line} is not in\n{}", page.text);
        }
        assert!(!page.text.contains("536.870912"), "the last bucket has no bound");
    }
}
