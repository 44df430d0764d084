//! `GET /api/v1/decisions`: which servers the last requests were sent to, and why. `POST /api/v1/decisions/next` asks for the
//! requests to come.

use super::View;
use super::intake::Call;
use super::status::{rounded, unix_rfc3339};
use crate::base::time;
use crate::front::Response;
use crate::policy::pick::Candidate;
use crate::state::choose::{Considered, Excluded, Exclusion};
use crate::state::decisions::{Decision, KEPT_MAX, Wanted, told};
use serde::Serialize;

/// Decisions in a response where the caller does not say how many.
const LIMIT: u64 = 20;
/// The most requests that are asked for at once: as many as are kept.
const COUNT_MAX: u64 = KEPT_MAX as u64;
/// The longest id or header that is asked for, in bytes.
const TEXT_MAX: usize = 200;
/// Names of pools in a rejection.
const NAMES_MAX: usize = 20;

/// What was asked for, and from which decision on it is to be looked for.
#[derive(Debug, Serialize)]
struct Asked {
    /// For `?since=`.
    since: u64,
    count: u64,
}

/// The last decisions that the query wants: `pool`, `server`, `request_id`, `asked`, `since`, `limit`.
pub(super) fn last(view: &View, call: &Call) -> Response {
    // First: what comes meanwhile is for the next call.
    let last = view.stats.decisions.last();
    match found(view, call) {
        Ok(decisions) => {
            let next = decisions.last().map_or(last, |found| found.number.max(last));
            Response::compact(&told::Decisions {
                next,
                decisions: decisions.into_iter().map(shown).collect(),
            })
        }
        Err((status, sentence)) => call.reject(status, sentence),
    }
}

fn found(view: &View, call: &Call) -> Result<Vec<Decision>, (u16, String)> {
    let found = matching(view, call).map_err(|sentence| (400, sentence))?;
    // Decisions of pools and servers that have gone are still recorded.
    if found.is_empty() {
        known(view, call)?;
    }
    Ok(found)
}

/// Checks that there are the pool and the server that a query names.
fn known(view: &View, call: &Call) -> Result<(), (u16, String)> {
    let text = |name| call.text(name).map_err(|sentence| (400, sentence));
    if let Some(name) = text("pool")? {
        view.live().config.pool_named(&name).ok_or_else(|| no_pool(view, &name))?;
    }
    if let Some(name) = text("server")? {
        let is_there = view.table.snapshot().servers.iter().any(|server| server.name == name);
        if !is_there {
            return Err((404, format!("There is no server named {name:?}.")));
        }
    }
    Ok(())
}

fn no_pool(view: &View, name: &str) -> (u16, String) {
    let live = view.live();
    let names: Vec<&str> =
        live.config.pool_ids().take(NAMES_MAX).map(|pool| live.config.pool_name(pool)).collect();
    (404, format!("There is no pool named {name:?}. These are there: {}.", names.join(", ")))
}

fn matching(view: &View, call: &Call) -> Result<Vec<Decision>, String> {
    let (since, limit) = (call.number("since")?, call.number("limit")?);
    let limit = if call.has("limit") { limit } else { LIMIT };
    let [pool, server, request_id] = [call.text("pool")?, call.text("server")?, call.text("request_id")?];
    let is_asked = call.text("asked")?.is_some_and(|asked| asked == "true");
    Ok(view.stats.decisions.find(since, limit.min(COUNT_MAX) as usize, |decision| {
        let of_server =
            |name: &String| decision.note.picked.as_ref().is_some_and(|picked| picked.server == *name);
        pool.as_ref().is_none_or(|name| *decision.pool == **name)
            && server.as_ref().is_none_or(of_server)
            && request_id.as_ref().is_none_or(|id| decision.request_id == *id)
            && (!is_asked || decision.is_asked)
    }))
}

/// Asks for the next requests: `count`, of a `pool`, with a `request_id`, with a `header` (`name:value`).
pub(super) fn next(view: &View, call: &Call) -> Response {
    let (wanted, count) = match wanted(view, call) {
        Ok(wanted) => wanted,
        Err((status, sentence)) => return call.reject(status, sentence),
    };
    let since = view.stats.decisions.last();
    match view.stats.decisions.ask(wanted, count, time::now()) {
        true => Response::json(202, &Asked { since, count }),
        false => {
            call.reject(429, "Too many questions wait for requests to come. Each ends after ten minutes.")
        }
    }
}

fn wanted(view: &View, call: &Call) -> Result<(Wanted, u64), (u16, String)> {
    let bad = |sentence: String| (400, sentence);
    let count = if call.has("count") { call.number("count").map_err(bad)? } else { 1 };
    if !(1..=COUNT_MAX).contains(&count) {
        return Err((400, format!("count in the query is not 1 to {COUNT_MAX}.")));
    }
    let text = |name| match call.text(name) {
        Ok(Some(text)) if text.len() > TEXT_MAX => Err((400, format!("{name} in the query is too long."))),
        Ok(text) => Ok(text),
        Err(sentence) => Err((400, sentence)),
    };
    let pool = text("pool")?.map(|name| {
        let pool = view.live().config.pool_named(&name);
        pool.ok_or_else(|| no_pool(view, &name))
    });
    let header = text("header")?.map(|header| {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            (400, "header in the query is not name:value, as in header=x-debug:1.".to_owned())
        })?;
        Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok((
        Wanted { pool: pool.transpose()?, request_id: text("request_id")?, header: header.transpose()? },
        count,
    ))
}

fn shown(decision: Decision) -> told::Decision {
    let note = decision.note;
    let (server, why, among, last_resort) = match note.picked {
        Some(picked) => {
            (Some(picked.server), Some(picked.why.name().into()), picked.among, picked.is_reserve)
        }
        None => (None, None, 0, false),
    };
    told::Decision {
        number: decision.number,
        at: unix_rfc3339(decision.unix_ms / 1000),
        at_ms: decision.unix_ms,
        request_id: decision.request_id,
        request: (!decision.request.is_empty()).then_some(decision.request),
        pool: decision.pool.to_string(),
        route: decision.route,
        algorithm: note.algorithm.name().into(),
        attempt: decision.attempt,
        after_status: decision.after_status,
        waited_ms: (!decision.waited.is_zero()).then(|| rounded(decision.waited.as_secs_f64() * 1e3)),
        asked: decision.is_asked,
        outcome: decision.outcome.name().into(),
        server,
        why,
        among,
        last_resort,
        candidates: note.candidates.into_iter().map(candidate).collect(),
        candidates_more: note.candidates_more,
        excluded: note.excluded.into_iter().map(excluded).collect(),
        excluded_more: note.excluded_more,
        not_sampled: note.not_sampled,
        passed_over: note.passed_over.map(|over| told::PassedOver {
            server: over.server,
            takes_ms: rounded(over.takes.as_secs_f64() * 1e3),
            sooner_ms: rounded(over.sooner.as_secs_f64() * 1e3),
        }),
        tier: note.tier,
        shadow: note.shadow.map(|(by, server)| told::Shadow { algorithm: by.name().into(), server }),
    }
}

fn candidate(Considered { server, seen, .. }: Considered) -> told::Candidate {
    let ms = |us: f32| rounded(f64::from(us) / 1000.0);
    let Candidate { cost, latency, .. } = seen;
    told::Candidate {
        server,
        cost_ms: (cost > 0.0 && cost.is_finite()).then(|| ms(cost)),
        weight: seen.weight.0,
        in_flight: seen.in_flight,
        tunnels: seen.tunnels,
        latency_ms: latency.map(|latency| ms(latency.typical_us)),
        usual_in_flight: latency.map(|latency| rounded(f64::from(latency.load))),
        good_share: rounded(f64::from(seen.good)),
        silence_ms: ms(seen.silence_us),
        report_factor: rounded(f64::from(seen.report)),
        avoided: seen.is_avoided,
    }
}

fn excluded(Excluded { server, why }: Excluded) -> told::Excluded {
    let (name, mut for_s, mut in_flight) = (why.name(), None, None);
    let detail = match why {
        Exclusion::Down(detail) => detail,
        Exclusion::Ejected { left, detail } => {
            for_s = Some(rounded(left.as_secs_f64()));
            detail
        }
        Exclusion::Full { in_flight: count } => {
            in_flight = Some(count);
            None
        }
        _ => None,
    };
    told::Excluded { server, why: name.into(), detail, for_s, in_flight }
}
