//! A decision as text, in 80 columns.

use crate::cli::columns::wrapped;
use crate::cli::view::{millis, plain};
use crate::state::decisions::told::{Candidate, Decision, Excluded, PassedOver, Shadow};

/// Where the text behind the name of a server begins at the most.
const NAME_MAX: usize = 20;

/// A decision: what came of it, the candidates from the chosen one on, and the servers that could not get the request.
pub(super) fn report(decision: &Decision) -> String {
    let request = decision.request.as_deref().map_or_else(|| "a request".to_owned(), plain);
    let mut lines = wrapped(&format!("{} {request} -> {}", plain(&decision.at), outcome(decision)), "", "  ");
    lines.extend(wrapped(&about(decision), "  ", "  "));
    let (chosen, others): (Vec<_>, Vec<_>) =
        decision.candidates.iter().partition(|one| Some(&one.server) == decision.server.as_ref());
    let width = names(decision).map(|name| name.chars().count()).max().unwrap_or(0).min(NAME_MAX);
    let mut row = |name: &str, text: String| {
        let name = plain(name);
        lines.extend(wrapped(&text, &format!("  {name:width$}  "), &" ".repeat(width + 4)));
    };
    for one in chosen {
        row(&one.server, format!("{}: {}", why(decision), figures(one, decision)));
    }
    others.iter().for_each(|one| row(&one.server, figures(one, decision)));
    decision.excluded.iter().for_each(|one| row(&one.server, format!("excluded: {}", exclusion(one))));
    let more = [
        (decision.candidates_more, "more candidates"),
        (decision.excluded_more, "more excluded"),
        (decision.not_sampled, "not in the sample of this choice"),
    ];
    let more = more.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let more = more.collect::<Vec<_>>().join(", ");
    if !more.is_empty() {
        lines.extend(wrapped(&more, "  ", "  "));
    }
    if let Some(PassedOver { server, takes_ms, sooner_ms }) = &decision.passed_over {
        let (takes, sooner) = (millis(*takes_ms), millis(*sooner_ms));
        let line = format!("{} has room, but takes {takes}; a full one is done in {sooner}", plain(server));
        lines.extend(wrapped(&line, "  ", "  "));
    }
    if let Some(tier) = &decision.tier {
        lines.push(format!("  tier {}", plain(tier)));
    }
    if let Some(Shadow { algorithm, server }) = &decision.shadow {
        let is_same = Some(server) == decision.server.as_ref();
        let choice = if is_same { "the same".to_owned() } else { plain(server) };
        lines.push(format!("  shadow {}: {choice}", plain(algorithm)));
    }
    lines.join("\n")
}

fn names(decision: &Decision) -> impl Iterator<Item = String> {
    let candidates = decision.candidates.iter().map(|one| &one.server);
    candidates.chain(decision.excluded.iter().map(|one| &one.server)).map(|name| plain(name))
}

fn outcome(decision: &Decision) -> String {
    match (&decision.server, &*decision.outcome) {
        (Some(server), _) => plain(server),
        (None, "queued") if decision.passed_over.is_some() => "waits for a server that is sooner".to_owned(),
        (None, "queued") if decision.excluded.is_empty() => "waits behind others".to_owned(),
        (None, "queued") => "waits: all servers are full".to_owned(),
        (None, _) => "no server".to_owned(),
    }
}

fn about(decision: &Decision) -> String {
    let mut parts = vec![format!("pool {}", plain(&decision.pool))];
    parts.extend(decision.route.as_ref().map(|route| format!("route {}", plain(route))));
    parts.push(plain(&decision.algorithm));
    let after = decision.after_status.map(|status| format!(" after {status}")).unwrap_or_default();
    parts.extend((decision.attempt > 1).then(|| format!("attempt {}{after}", decision.attempt)));
    parts.extend(decision.waited_ms.map(|ms| format!("waited {}", millis(ms))));
    parts.push(format!("request {}", plain(&decision.request_id)));
    parts.join(", ")
}

/// Why the chosen server was.
fn why(decision: &Decision) -> String {
    let among = decision.among;
    let why = match decision.why.as_deref().unwrap_or_default() {
        "only_one" => "the only one".to_owned(),
        "trial" => "a trial, after a long time without requests".to_owned(),
        "least" if decision.algorithm == "dynamic" => "least cost".to_owned(),
        "least" => "least in flight".to_owned(),
        "turn" if among == decision.candidates.len() => "its turn".to_owned(),
        "turn" => format!("its turn among {among} about equal"),
        "random" => format!("at random among {among} about equal"),
        "session" => "its client's session is there".to_owned(),
        "slow_start" => "one of the few requests of a server in slow start".to_owned(),
        "less_of_two" => "the less loaded of two at random".to_owned(),
        "hash" => "by hash".to_owned(),
        other => plain(other),
    };
    if decision.last_resort { format!("last resort, {why}") } else { why }
}

/// What is known of a candidate, as far as it matters.
fn figures(one: &Candidate, decision: &Decision) -> String {
    let in_flight = match one.usual_in_flight {
        Some(usual) => format!("{} in flight, usually {usual:.0}", one.in_flight),
        None => format!("{} in flight", one.in_flight),
    };
    let mut parts = Vec::new();
    parts.extend(one.latency_ms.map(|ms| format!("latency {}", millis(ms))));
    parts.push(in_flight);
    parts.extend((one.tunnels > 0).then(|| format!("{} of them tunnels", one.tunnels)));
    let differ = decision.candidates.iter().any(|other| other.weight != one.weight);
    parts.extend(differ.then(|| format!("weight {}", one.weight)));
    parts.extend((one.good_share < 1.0).then(|| format!("{:.0} % good", one.good_share * 100.0)));
    parts.extend((one.silence_ms > 0.0).then(|| format!("silent for {}", millis(one.silence_ms))));
    parts.extend((one.report_factor > 1.0).then(|| format!("report x {:.2}", one.report_factor)));
    let parts = parts.join(", ");
    match one.cost_ms {
        _ if one.avoided => format!("avoided, fails or hangs ({parts})"),
        Some(cost) => format!("cost {} ({parts})", millis(cost)),
        // Turns and hashes know nothing of responses.
        None if matches!(&*decision.algorithm, "round_robin" | "ip_hash") => {
            format!("weight {}", one.weight)
        }
        None => parts,
    }
}

fn exclusion(one: &Excluded) -> String {
    let detail = one.detail.as_ref().map(|detail| format!(", {}", plain(detail))).unwrap_or_default();
    match &*one.why {
        "tried" => "tried before".to_owned(),
        "full" => format!("full, {} in flight", one.in_flight.unwrap_or(0)),
        "down" => format!("down{detail}"),
        "ejected" => format!("ejected for {:.0} s{detail}", one.for_s.unwrap_or(0.0).max(1.0)),
        "drain" => "drained by the operator".to_owned(),
        "maint" => "taken out by the operator".to_owned(),
        "weight_zero" => "weight 0".to_owned(),
        "backup" => "a backup, and others are up".to_owned(),
        "other_tier" => "of another priority or zone".to_owned(),
        "starting" => "its first probe is not finished".to_owned(),
        "slow_start" => "in slow start, it gets few requests yet".to_owned(),
        "changed" => "it changed while it was chosen".to_owned(),
        other => format!("{}{detail}", plain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::columns::WIDTH;
    use serde_json::{Value, json};

    fn check(decision: Value, expected: &str) {
        let decision: Decision = serde_json::from_value(decision).unwrap();
        let text = report(&decision);
        assert_eq!(text, expected.trim_start_matches('\n').trim_end_matches('\n'), "\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn a_choice_by_cost() {
        check(
            json!({
                "at": "2026-11-27T12:00:00Z", "request_id": "4bf92f3577b34da6", "request": "GET /orders/7",
                "pool": "api", "route": "orders", "algorithm": "dynamic", "attempt": 2, "waited_ms": 3.5,
                "outcome": "sent", "server": "b", "why": "least", "among": 1,
                "candidates": [
                    { "server": "a", "cost_ms": 19.0, "weight": 1, "in_flight": 4, "latency_ms": 17.0, "usual_in_flight": 2.0,
                      "good_share": 0.9, "silence_ms": 250.0, "report_factor": 1.25, "tunnels": 1 },
                    { "server": "b", "cost_ms": 12.1, "weight": 1, "in_flight": 3, "latency_ms": 11.0, "usual_in_flight": 2.0,
                      "good_share": 1.0, "report_factor": 1.0 },
                    { "server": "new", "weight": 1, "good_share": 0.2, "report_factor": 1.0, "avoided": true },
                ],
                "excluded": [
                    { "server": "c", "why": "ejected", "for_s": 12.3, "detail": "5xx share 80 % against 1 %" },
                    { "server": "d", "why": "full", "in_flight": 8 },
                    { "server": "e", "why": "tried" },
                ],
                "excluded_more": 2, "not_sampled": 90, "shadow": { "algorithm": "least_connections", "server": "new" },
            }),
            "
2026-11-27T12:00:00Z GET /orders/7 -> b
  pool api, route orders, dynamic, attempt 2, waited 3.50 ms, request
  4bf92f3577b34da6
  b    least cost: cost 12.1 ms (latency 11.0 ms, 3 in flight, usually 2)
  a    cost 19.0 ms (latency 17.0 ms, 4 in flight, usually 2, 1 of them tunnels,
       90 % good, silent for 250 ms, report x 1.25)
  new  avoided, fails or hangs (0 in flight, 20 % good)
  c    excluded: ejected for 12 s, 5xx share 80 % against 1 %
  d    excluded: full, 8 in flight
  e    excluded: tried before
  2 more excluded, 90 not in the sample of this choice
  shadow least_connections: new
",
        );
    }

    #[test]
    fn turns_and_requests_without_a_server() {
        let turn = json!({
            "at": "T", "request_id": "i", "pool": "default", "algorithm": "round_robin", "attempt": 1, "outcome": "sent",
            "server": "b", "why": "turn", "among": 2, "last_resort": true,
            "candidates": [{ "server": "a", "weight": 1 }, { "server": "b", "weight": 3 }],
        });
        check(
            turn,
            "
T a request -> b
  pool default, round_robin, request i
  b  last resort, its turn: weight 3
  a  weight 1
",
        );
        let none = json!({
            "at": "T", "request": "GET /\u{202e}", "pool": "p", "algorithm": "dynamic", "attempt": 1, "outcome": "no_server",
            "excluded": [{ "server": "a", "why": "down", "detail": "3 probes failed in a row (refused)" }],
        });
        check(
            none,
            "
T GET /\\u{202e} -> no server
  pool p, dynamic, request 
  a  excluded: down, 3 probes failed in a row (refused)
",
        );
        let queued = json!({ "at": "T", "request": "GET /", "pool": "p", "algorithm": "dynamic", "outcome": "queued" });
        check(queued, "\nT GET / -> waits behind others\n  pool p, dynamic, request \n");
    }
}
