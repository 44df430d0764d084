//! What an agent beside a server says of it, in the words of HAProxy's `agent-check`, and what its lines make of the server.
//!
//! A line has words between spaces, tabs or commas, and a reason behind `#`: `up 75% maxconn:30`, `down # deploys`. What a line
//! does not mention stays as it was, so only the agent takes back what it has said: `ready` ends `drain` and `maint`, `up`
//! ends `down`, and `100%` is the weight as configured.

use serde::{Deserialize, Serialize};

/// The longest reason, and the longest word that is shown, in characters.
const SHOWN_MAX: usize = 80;
/// The most percent of the configured weight: the largest weight times this can still be compared exactly in 32 bits.
const PERCENT_MAX: u32 = 1000;

/// A line of an agent. What is absent changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    is_up: Option<bool>,
    wish: Option<Wish>,
    weight_percent: Option<u16>,
    max_in_flight: Option<u32>,
    /// What follows `#`; empty where nothing does.
    pub reason: String,
    /// The first word that is not understood; the others count.
    pub unknown: Option<String>,
}

/// Whether an agent wants its server to get new requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// It does.
    #[default]
    Ready,
    /// No new ones; sessions stay.
    Drain,
    /// None at all, and no probes.
    Maint,
}

/// What the lines of an agent have made of a server so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The agent says that the server is down.
    pub is_down: bool,
    /// Whether it wants requests.
    pub wish: Wish,
    /// Its part of the configured weight, 0 to 1000.
    pub weight_percent: u16,
    /// The most requests at once, in the place of what is configured; `None` is as configured.
    pub max_in_flight: Option<u32>,
}

impl Default for Advice {
    fn default() -> Self {
        Advice { is_down: false, wish: Wish::Ready, weight_percent: 100, max_in_flight: None }
    }
}

impl Line {
    /// Reads a line, without its end. The error says why none of it counts.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(line);
        let (words, reason) = text.split_once('#').unwrap_or((&text, ""));
        let mut line = Line { reason: shortened(reason.trim()), ..Line::default() };
        let mut is_understood = false;
        for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            match line.take(&word.to_ascii_lowercase()) {
                Some(()) => is_understood = true,
                None => line.unknown = line.unknown.or_else(|| Some(shortened(word))),
            }
        }
        match (is_understood, &line.unknown) {
            (true, _) => Ok(line),
            (false, Some(word)) => Err(format!("{word:?} is not one of its words")),
            (false, None) => Err("it said nothing".to_owned()),
        }
    }

    /// Adds what a word says; `None` where it is not understood.
    fn take(&mut self, word: &str) -> Option<()> {
        match word {
            "ready" => self.wish = Some(Wish::Ready),
            "drain" => self.wish = Some(Wish::Drain),
            "maint" => self.wish = Some(Wish::Maint),
            "up" => self.is_up = Some(true),
            "down" | "stopped" | "fail" | "failed" => self.is_up = Some(false),
            _ => match (word.strip_suffix('%'), word.strip_prefix("maxconn:")) {
                (Some(percent), _) => {
                    self.weight_percent = Some(number(percent)?.min(PERCENT_MAX) as u16);
                }
                (None, Some(most)) => self.max_in_flight = Some(number(most)?),
                (None, None) => return None,
            },
        }
        Some(())
    }
}

/// Digits alone.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

impl Advice {
    /// With one more line.
    #[must_use]
    pub fn with(self, line: &Line) -> Self {
        Advice {
            is_down: line.is_up.map_or(self.is_down, |is_up| !is_up),
            wish: line.wish.unwrap_or(self.wish),
            weight_percent: line.weight_percent.unwrap_or(self.weight_percent),
            max_in_flight: match line.max_in_flight {
                None => self.max_in_flight,
                // No server takes nothing at once: there is `drain` for that.
                Some(0) => None,
                most => most,
            },
        }
    }

    /// The state that it means: `ready`, `drain`, `maint` or `down`.
    pub fn state(&self) -> &'static str {
        match (self.wish, self.is_down) {
            (Wish::Maint, _) => "maint",
            (_, true) => "down",
            (Wish::Drain, false) => "drain",
            (Wish::Ready, false) => "ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the lines make of a server: its state, weight and limit.
    #[track_caller]
    fn check(lines: &[&str], state: &str, percent: u16, max: Option<u32>) {
        let advice = lines.iter().fold(Advice::default(), |advice, line| {
            advice.with(&Line::read(line.as_bytes()).unwrap_or_else(|fault| panic!("{line}: {fault}")))
        });
        assert_eq!(
            (advice.state(), advice.weight_percent, advice.max_in_flight),
            (state, percent, max),
            "{lines:?}"
        );
    }

    #[test]
    fn lines_change_what_they_mention() {
        check(&["up"], "ready", 100, None);
        check(&["up 75% maxconn:30"], "ready", 75, Some(30));
        check(&["75%", "maxconn:30"], "ready", 75, Some(30));
        check(&["up, 50%,\tmaxconn:5 drain"], "drain", 50, Some(5));
        check(&["DOWN # disk"], "down", 100, None);
        check(&["down#disk"], "down", 100, None);
        for word in ["down", "stopped", "fail", "failed"] {
            check(&[word], "down", 100, None);
            check(&[word, "up"], "ready", 100, None);
        }
        check(&["0%"], "ready", 0, None);
        check(&["250%"], "ready", 250, None);
        check(&["99999%"], "ready", 1000, None);
        check(&["maxconn:5", "maxconn:0"], "ready", 100, None);
    }

    #[test]
    fn only_the_opposite_word_takes_one_back() {
        check(&["drain", "up"], "drain", 100, None);
        check(&["drain", "ready"], "ready", 100, None);
        check(&["maint", "up", "75%"], "maint", 75, None);
        check(&["maint", "ready"], "ready", 100, None);
        check(&["down", "ready"], "down", 100, None);
        check(&["drain", "down"], "down", 100, None);
        check(&["down maint 10% maxconn:1", "ready up"], "ready", 10, Some(1));
        check(&["10%", "100%"], "ready", 100, None);
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        for line in [
            "",
            " ",
            "# up",
            "HTTP/1.1 400",
            "75",
            "7x%",
            "%",
            "+5%",
            "maxconn:",
            "maxconn:-1",
            "maxconn:99999999999",
            "up\u{fffd}",
        ] {
            assert!(Line::read(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(Line::read(&[0xff, 0xfe]).is_err());
        let line = Line::read(b"later:7 up 50%").unwrap();
        assert_eq!(
            (line.unknown.as_deref(), line.is_up, line.weight_percent),
            (Some("later:7"), Some(true), Some(50))
        );
        let line = Line::read(format!("up # {}", "x".repeat(500)).as_bytes()).unwrap();
        assert_eq!(line.reason.len(), SHOWN_MAX);
    }
}
