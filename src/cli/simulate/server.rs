//! A server of the command line: `[NAME=]SPEEDxSLOTS`, and after a `+` each what is special with it.

use crate::state::simulation::{Behaviour, LoadReport, Pause, Server};
use std::time::Duration;

const FORM: &str = "write [NAME=]SPEEDxSLOTS, such as 2x4, and behind it +fails@10s-20s, +errors=30@10s-20s, +hangs@10s-20s, \
                    +down@10s-20s, +joins@10s, +cold=5s*4, +pause=300ms/3s, +says=1000, +says=0..100 or +says=true";

/// What was written of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// That of a server of the configuration or of the trace.
    pub(super) name: Option<String>,
    pub(super) model: Server,
    /// From when on it does what.
    pub(super) changes: Vec<(Duration, Behaviour)>,
}

/// Reads one.
pub(super) fn parse(text: &str) -> Result<Described, String> {
    let mut parts = text.split('+');
    let first = parts.next().unwrap_or_default();
    let (name, size) = match first.rsplit_once('=') {
        Some((name, size)) => (Some(name.to_owned()), size),
        None => (None, first),
    };
    let (speed, slots) = size.split_once('x').ok_or(FORM)?;
    let slots = slots.parse().ok().filter(|slots| (1..=10_000).contains(slots)).ok_or(FORM)?;
    let speed = super::positive(speed).map_err(|_| FORM)?;
    let model = Server { speed, slots, ..Server::default() };
    let mut described = Described { name, model, changes: Vec::new() };
    for part in parts {
        described.add(part).ok_or_else(|| format!("{part:?} is not known of a server; {FORM}"))?;
    }
    Ok(described)
}

impl Described {
    fn add(&mut self, part: &str) -> Option<()> {
        let at = part.find(['=', '@'])?;
        let (name, value) = (&part[..at], &part[at + 1..]);
        match (name, part.as_bytes()[at]) {
            ("fails", b'@') => self.span(value, Behaviour::Fails { after: Duration::from_millis(1) })?,
            ("hangs", b'@') => self.span(value, Behaviour::Hangs)?,
            ("down", b'@') => self.span(value, Behaviour::Refuses)?,
            ("errors", b'=') => {
                let (percent, span) = value.split_once('@')?;
                let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent))?;
                self.span(span, Behaviour::FailsSome(percent))?;
            }
            ("joins", b'@') => self.model.joins = time(value)?,
            ("cold", b'=') => {
                let (lasts, factor) = value.split_once('*')?;
                self.model.cold = Some((time(lasts)?, super::positive(factor).ok()?));
            }
            ("pause", b'=') => {
                let (lasts, every) = value.split_once('/')?;
                let (lasts, every) = (time(lasts)?, time(every)?);
                (lasts < every).then(|| self.model.pause = Some(Pause { every, lasts, first: every / 2 }))?;
            }
            ("says", b'=') => {
                self.model.report = match value.split_once("..") {
                    _ if value == "true" => LoadReport::True,
                    Some(("0", most)) => LoadReport::Random(most.parse().ok()?),
                    _ => LoadReport::Constant(value.parse().ok()?),
                };
            }
            _ => return None,
        }
        Some(())
    }

    fn span(&mut self, text: &str, behaviour: Behaviour) -> Option<()> {
        let (from, to) = text.split_once('-').map_or((text, None), |(from, to)| (from, Some(to)));
        self.changes.push((time(from)?, behaviour));
        if let Some(to) = to {
            self.changes.push((time(to)?, Behaviour::Works));
        }
        Some(())
    }
}

fn time(text: &str) -> Option<Duration> {
    crate::cli::duration_or_zero(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_with_a_server_stands_behind_its_size() {
        let s = Duration::from_secs;
        let read = parse("a=2x8+fails@10s-20s+cold=5s*4+says=0..100+pause=300ms/3s+joins@1s").unwrap();
        assert_eq!(read.name.as_deref(), Some("a"));
        assert_eq!((read.model.speed, read.model.slots, read.model.joins), (2.0, 8, s(1)));
        assert_eq!((read.model.cold, read.model.report), (Some((s(5), 4.0)), LoadReport::Random(100)));
        assert_eq!(read.model.pause.map(|pause| pause.every), Some(s(3)));
        let changes: Vec<_> = read.changes.iter().map(|change| change.0).collect();
        assert_eq!(changes, [s(10), s(20)]);
        assert_eq!(parse("1x4+hangs@3s").unwrap().changes, [(s(3), Behaviour::Hangs)]);
    }

    #[test]
    fn mistakes_are_told() {
        for text in
            ["", "2", "0x2", "2x0", "1x4+", "1x4+fails", "1x4+fails=3s", "1x4+errors=0@1s", "1x4+pause=3s/1s"]
        {
            let told = parse(text).unwrap_err();
            assert!(told.contains("SPEEDxSLOTS"), "{text}: {told}");
        }
    }
}
