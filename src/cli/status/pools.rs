//! The pools of a status: for each a heading, its tiers, and rows for its servers.

use super::super::columns::WIDTH;
use super::super::view::{
    Mood, Pool, Server, Shadow, Status, Tier, count, cut, cut_in_the_middle, plain, rate,
};
use super::{Paint, fits};

/// The widths of the columns for names and addresses: what the others leave of it. Longer ones are repeated below in full.
const NAME: usize = 15;
const ADDRESS: usize = 21;
const BOTH: usize = NAME + 1 + ADDRESS;

/// A pool: its heading, its tiers, and its servers. With `is_detailed` all about them, in the order of the file; else one
/// line each, those that are not up first, and why they are not.
pub(super) fn lines(pool: &Pool, status: &Status, is_detailed: bool, paint: Paint) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(head(pool, status, paint));
    lines.extend(pool.shadow.as_ref().map(shadow));
    lines.extend(pool.tiers.iter().map(tier));
    let mut servers: Vec<_> = status.servers.iter().filter(|server| server.pool == pool.name).collect();
    if servers.is_empty() {
        lines.push("  no servers".to_owned());
        return lines;
    }
    if !is_detailed {
        servers.sort_by_key(|server| server.mood());
    }
    lines.push(
        paint.dim(&row(&columns("name", "address"), ["", "state", "req/s", "share", "busy", "latency"])),
    );
    let of_server = if is_detailed { in_detail } else { in_short };
    servers.iter().for_each(|server| lines.extend(of_server(server, paint)));
    lines
}

/// The heading of a pool: one line, or two where its name is long.
fn head(pool: &Pool, status: &Status, paint: Paint) -> Vec<String> {
    let mood = match (pool.ready, pool.servers) {
        _ if pool.fail_open.is_some() => Mood::Bad,
        (_, 0) => Mood::Off,
        (0, _) => Mood::Bad,
        (ready, all) if ready < all && status.servers.iter().any(|one| one.mood() == Mood::Bad) => {
            Mood::Warning
        }
        _ => Mood::Good,
    };
    let name = format!("pool {}", plain(&pool.name));
    let before = format!("{}  ", plain(&pool.algorithm));
    let ready = pool.ready_told();
    let waiting = pool.waiting_told().map_or_else(String::new, |waiting| format!("  {waiting}"));
    let after = format!("  in flight {}{waiting}", pool.in_flight);
    // Measured before it is painted: colours have no width.
    let is_one_line = fits(&name, &format!(" {before}{ready}{after}"));
    let facts = format!("{before}{}{after}", paint.mood(mood, &ready));
    let name = paint.strong(&name);
    if is_one_line { vec![format!("{name}  {facts}")] } else { vec![name, format!("  {facts}")] }
}

/// How far the second algorithm of a pool differs from the first.
fn shadow(shadow: &Shadow) -> String {
    let Shadow { algorithm, same, different } = shadow;
    let percent = 100.0 * *different as f64 / (same + different).max(1) as f64;
    let all = count(same + different);
    format!("  shadow {}  would choose another server for {percent:.1} % of {all}", plain(algorithm))
}

/// What a tier of a pool gets now.
fn tier(tier: &Tier) -> String {
    let (name, share) = (cut(&plain(&tier.name), 24), 100.0 * tier.share);
    let ready = format!("{} of {} can take requests", tier.ready, tier.servers);
    format!("  tier {name:24}  {ready}, gets {share:.0} %")
}

/// Columns of 80 in all; `which` has those of the name and the address.
fn row(which: &str, [mark, state, rate, share, busy, latency]: [&str; 6]) -> String {
    format!("  {mark:1} {which:BOTH$} {state:8} {rate:>7} {share:>5} {busy:>4} {latency:>8}")
        .trim_end()
        .to_owned()
}

/// The columns of the name and the address.
fn columns(name: &str, address: &str) -> String {
    format!("{:NAME$} {:ADDRESS$}", cut_in_the_middle(name, NAME), cut_in_the_middle(address, ADDRESS))
}

/// A server's row, with colours.
fn coloured(server: &Server, which: &str, paint: Paint) -> String {
    let (rate, share, latency) = (rate(server.rate), server.share(), server.latency());
    let (state, busy) = (plain(&server.state), server.in_flight.to_string());
    let line = row(which, [server.mark(), &state, &rate, &share, &busy, &latency]);
    let (mark, padded) = (server.mark(), format!("{state:8}"));
    // Painted after it was padded: colours have no width.
    let line = line.replacen(mark, &paint.mood(server.mood(), mark), 1);
    line.replacen(&padded, &paint.mood(server.mood(), &padded), 1)
}

/// Why a server is not up.
fn why(server: &Server) -> Option<String> {
    (server.mood() != Mood::Good).then(|| server.why()).filter(|why| !why.is_empty())
}

/// A line below that of a server.
fn below(text: &str, paint: Paint) -> String {
    paint.dim(&format!("    {}", cut(text, WIDTH - 4)))
}

/// A server's row, and why it is not up. A name that is too long for its column has that of the address, too: it is what a
/// server is known by.
fn in_short(server: &Server, paint: Paint) -> Vec<String> {
    let (name, address) = (plain(&server.name), plain(&server.address));
    let which = match name.chars().count() > NAME {
        true => cut_in_the_middle(&name, BOTH),
        false => columns(&name, &address),
    };
    let line = coloured(server, &which, paint);
    std::iter::once(line).chain(why(server).map(|why| below(&why, paint))).collect()
}

/// A server's row, and further lines where there is more to say.
fn in_detail(server: &Server, paint: Paint) -> Vec<String> {
    let (name, address) = (plain(&server.name), plain(&server.address));
    let line = coloured(server, &columns(&name, &address), paint);
    let weight = (server.weight != 1).then(|| format!("weight {}", server.weight));
    let used = server.fail_open.then(|| "gets requests all the same".to_owned());
    let before =
        server.place().into_iter().chain([weight, server.slow_start_told(), used].into_iter().flatten());
    let more: Vec<String> = before.chain(why(server)).collect();
    let more = (!more.is_empty()).then(|| below(&more.join("; "), paint));
    let probes =
        Some(server.probes()).filter(|probes| !probes.is_empty()).map(|probes| below(&probes, paint));
    // Those that the columns cut: with an address for a name both are the same.
    let is_cut = |text: &String, width| text.chars().count() > width;
    let full_name = is_cut(&name, NAME).then(|| below(&name, paint));
    let full_address = (is_cut(&address, ADDRESS) && address != name).then(|| below(&address, paint));
    [Some(line), full_name, full_address, more, probes].into_iter().flatten().collect()
}
