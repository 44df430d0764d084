//! The state machine event by event, the bounds of ejection, the times of probes, and servers that flap.

use super::super::outlier::Share;
use super::*;
use Event::*;

const THREE: Others = Others { servers: 3, ejected: 0, is_another_ready: true };
const OUTLIER: Outlier =
    Outlier { own: Share { errors: 41, of: 50 }, others: Share { errors: 1, of: 99 }, seconds: 2 };
const TEN_SECONDS: Ejection = Ejection {
    consecutive_failures: 5,
    base_time: Duration::from_secs(10),
    max_time: Duration::from_secs(120),
    max_percent: 50,
    error_margin_percent: 30,
    latency_deviations: 6,
};
const OFF: fn() -> Rules = || Rules { enabled: false, ..Rules::default() };

/// `U`p, `D`own, `S`tarting, `E`jected.
fn letter(health: Health) -> char {
    match health {
        Health::Starting => 'S',
        Health::Up => 'U',
        Health::Down => 'D',
        Health::Ejected { .. } => 'E',
    }
}

/// Events a second apart as `+` and `-` (probe), `p` and `f` (request), `o` (it is an outlier), `.`
/// (tick); the health after each.
fn check(rules: Rules, others: Others, events: &str, expected: &str) {
    let mut record = Record::new(&rules, Moment::START);
    let health = events.chars().zip(1..).map(|(event, second)| {
        let event = match event {
            '+' => ProbePassed,
            '-' => ProbeFailed,
            'p' => RequestPassed,
            'f' => RequestFailed,
            'o' => FailsMore(OUTLIER),
            _ => Tick,
        };
        let before = record.health;
        let now = Moment::from_millis(second * 1_000);
        let (next, change) = after(record, event, &rules, &TEN_SECONDS, others, now);
        record = next;
        assert_eq!(change.is_some(), before != record.health, "{events}");
        assert!(change.is_none_or(|c| c.from == before && c.to == record.health && record.since == now));
        letter(record.health)
    });
    assert_eq!(health.collect::<String>(), expected, "{events}");
}

#[test]
fn probes() {
    let rules = Rules::default();
    check(rules, THREE, "+", "U");
    check(rules, THREE, "-", "D");
    check(rules, THREE, ".pf.", "SSSS");
    check(rules, THREE, "+--+---", "UUUUUUD");
    check(rules, THREE, "+----+-++", "UUUDDDDDU");
    check(rules, THREE, "+---++--+--", "UUUDDUUUUUU");
    // one probe suffices until it has been up once
    check(rules, THREE, "---+---++", "DDDUUUDDU");
    check(rules, THREE, "-....", "DDDDD");
}

#[test]
fn live_failures_add_to_failed_probes() {
    let rules = Rules::default();
    check(rules, THREE, "+ff-", "UUUD");
    check(rules, THREE, "+ffp-", "UUUUU");
    check(rules, THREE, "+f--", "UUUD");
    check(rules, THREE, "+-f.-", "UUUUD");
}

#[test]
fn ejection_and_return() {
    let rules = Rules::default();
    check(rules, THREE, "+fffff", "UUUUUE");
    check(rules, THREE, "+ffffpffff", "UUUUUUUUUU");
    // its time is over; then it is on probation
    check(rules, THREE, "+fffff.........", "UUUUUEEEEEEEEEE");
    check(rules, THREE, "+fffff..........f", "UUUUUEEEEEEEEEEUE");
    check(rules, THREE, "+fffff..........pffff", "UUUUUEEEEEEEEEEUUUUUU");
    // a killed server that comes back, by probes
    check(rules, THREE, "+fffff-", "UUUUUED");
    check(rules, THREE, "+fffff-++", "UUUUUEDDU");
    check(rules, THREE, "+fffff++", "UUUUUEEU");
    // the second time it needs twice as many
    check(rules, THREE, "+fffff++f++++", "UUUUUEEUEEEEU");
    // its time is over, but its last probe failed
    check(rules, THREE, "+fffffp-........", "UUUUUEEEEEEEEEED");
    // live failures while it is ejected change nothing
    check(rules, THREE, "+fffffffff", "UUUUUEEEEE");
}

#[test]
fn a_slow_server_is_ejected_as_an_outlier_is() {
    let slow = Slow {
        own: Duration::from_secs(1),
        median: Duration::from_millis(20),
        deviations: 9.0,
        responses: 99,
        servers: 3,
    };
    let (rules, ejection) = (Rules::default(), TEN_SECONDS);
    let up = Record { health: Health::Up, was_up: true, ..Record::new(&rules, Moment::START) };
    let mut now = Moment::from_millis(1);
    let mut record = up;
    for seconds in [10, 20, 30] {
        let (out, change) = after(record, IsSlow(slow), &rules, &ejection, THREE, now);
        let until = now.after(Duration::from_secs(seconds));
        assert_eq!((out.health, change.map(|c| c.why)), (Health::Ejected { until }, Some(Why::IsSlow(slow))));
        let passed = after(out, ProbePassed, &rules, &ejection, THREE, now).0;
        assert_eq!(passed.health, out.health, "its probes passed while it was slow");
        record = after(passed, Tick, &rules, &ejection, THREE, until).0;
        assert_eq!(record.health, Health::Up);
        now = until;
    }
    let last = Others { is_another_ready: false, ..THREE };
    assert_eq!(after(up, IsSlow(slow), &rules, &ejection, last, now).1, None);
}

#[test]
fn an_outlier_comes_back_by_time_alone() {
    let rules = Rules::default();
    check(rules, THREE, "+o+++++++++.", "UEEEEEEEEEEU");
    // one failure after its return changes nothing
    check(rules, THREE, "+o..........ffff", "UEEEEEEEEEEUUUUU");
    // the second time it takes twice as long
    check(rules, THREE, "+o..........o............", "UEEEEEEEEEEUEEEEEEEEEEEEE");
    // failed probes still take it down
    check(rules, THREE, "+o---", "UEEED");
    // its last probe had failed, so that probes tell when it is back
    check(rules, THREE, "+-o++", "UUEEU");
    check(rules, THREE, "+-o-++", "UUEEEU");
    check(rules, THREE, "+-+o++++", "UUUEEEEE");
    check(OFF(), THREE, "o..........", "EEEEEEEEEEU");
    // never the last one
    check(rules, Others { servers: 3, ejected: 0, is_another_ready: false }, "+offfffff", "UUUUUUUUU");
    check(rules, Others { servers: 3, ejected: 1, is_another_ready: true }, "+o", "UU");
}

#[test]
fn without_probes_only_ejection_applies() {
    check(OFF(), THREE, "ffff", "UUUU");
    check(OFF(), THREE, "fffff.........", "UUUUEEEEEEEEEE");
    check(OFF(), THREE, "fffff..........f", "UUUUEEEEEEEEEEUE");
    check(OFF(), THREE, "-----", "UUUUU");
    let down = Record { health: Health::Down, ..Record::new(&OFF(), Moment::START) };
    let (up, change) = after(down, Tick, &OFF(), &TEN_SECONDS, THREE, Moment::START);
    assert_eq!((up.health, change.map(|c| c.why)), (Health::Up, Some(Why::ProbesOff)));
}

/// Whether a failing server may be ejected from such a table.
fn check_bound(servers: usize, ejected: usize, max_percent: u32, expected: bool) {
    let ejection = Ejection { max_percent, ..TEN_SECONDS };
    let record = Record { live_failed: 4, ..Record::new(&OFF(), Moment::START) };
    let (_, change) = after(
        record,
        RequestFailed,
        &OFF(),
        &ejection,
        Others { servers, ejected, is_another_ready: servers - 1 > ejected },
        Moment::START,
    );
    assert_eq!(change.is_some(), expected, "{ejected} of {servers}, {max_percent} %");
}

#[test]
fn at_most_a_share_is_ejected() {
    check_bound(1, 0, 50, false);
    check_bound(1, 0, 100, false);
    check_bound(2, 0, 50, true);
    check_bound(2, 1, 50, false);
    check_bound(3, 0, 50, true);
    check_bound(3, 1, 50, false);
    check_bound(4, 1, 50, true);
    check_bound(10, 4, 50, true);
    check_bound(10, 5, 50, false);
    check_bound(3, 0, 10, true);
    check_bound(3, 0, 0, false);
}

/// The duration of the ejection in s, after this many before it and this long up since the last one.
fn check_time(ejections: u32, up_s: u64, expected_s: u64, expected_count: u32) {
    check_time_of(&TEN_SECONDS, ejections, up_s, expected_s, expected_count);
}

fn check_time_of(ejection: &Ejection, ejections: u32, up_s: u64, expected_s: u64, expected_count: u32) {
    let record = Record { live_failed: 4, ejections, ..Record::new(&OFF(), Moment::START) };
    let now = Moment::from_millis(up_s * 1_000);
    let (record, _) = after(record, RequestFailed, &OFF(), ejection, THREE, now);
    assert_eq!(record.health, Health::Ejected { until: now.after(Duration::from_secs(expected_s)) });
    assert_eq!(record.ejections, expected_count, "{ejections} before, {up_s} s up");
}

#[test]
fn ejections_grow_and_are_forgotten() {
    check_time(0, 0, 10, 1);
    check_time(1, 9, 20, 2);
    check_time(1, 10, 10, 1);
    check_time(5, 25, 40, 4);
    check_time(30, 0, 120, 31);
    check_time(u32::MAX, 0, 120, u32::MAX);
    check_time(3, 86_400, 10, 1);
    // By default it is short, so that a server that works again is soon used; one that fails again within ten seconds is remembered.
    check_time_of(&Ejection::default(), 0, 0, 2, 1);
    check_time_of(&Ejection::default(), 1, 9, 4, 2);
    check_time_of(&Ejection::default(), 1, 10, 2, 1);
    check_time_of(&Ejection::default(), 5, 25, 8, 4);
}

/// The next probe, in ms from now, for both extremes of the random fraction.
fn check_probe(health: Health, passed: u32, failed: u32, live_failed: u32, expected: [u64; 2]) {
    let now = Moment::from_millis(5_000);
    let rules = Rules::default();
    let record = Record { health, passed, failed, live_failed, was_up: true, ..Record::new(&rules, now) };
    let got =
        [0.0, 1.0].map(|chance| next_probe(&record, &rules, 0, chance, now).since(now).as_millis() as u64);
    assert_eq!(got, expected, "{record:?}");
    assert_eq!(next_probe(&record, &OFF(), 0, 0.5, now), Moment::NEVER);
}

/// When a server that has never been up is probed next, in ms, after this many failed probes and with this many
/// others.
fn check_new(failed: u32, newcomers: usize, expected_ms: u64) {
    let rules = Rules::default();
    let record = Record { health: Health::Down, failed, ..Record::new(&rules, Moment::START) };
    let next = next_probe(&record, &rules, newcomers, 0.5, Moment::START);
    assert_eq!(next.since(Moment::START).as_millis() as u64, expected_ms, "{failed}, {newcomers}");
}

#[test]
fn a_server_that_was_never_up_is_asked_often_but_not_by_thousands() {
    check_new(0, 1, 200);
    check_new(150, 1, 200);
    check_new(151, 1, 400);
    check_new(153, 1, 1_600);
    check_new(154, 1, 2_000);
    check_new(u32::MAX, 1, 2_000);
    check_new(0, 40, 200);
    check_new(0, 100, 500);
    check_new(0, 4_000, 2_000);
    check_new(0, usize::MAX, 2_000);
}

#[test]
fn a_change_and_a_server_that_is_down_have_intervals_of_their_own() {
    let (fast, down) = (Duration::from_millis(100), Duration::from_secs(30));
    let rules = Rules { fast_interval: Some(fast), down_interval: Some(down), ..Rules::default() };
    let check = |health, passed, failed, was_up, expected| {
        let record = Record { health, passed, failed, was_up, ..Record::new(&rules, Moment::START) };
        let next = next_probe(&record, &rules, 1, 0.5, Moment::START).since(Moment::START);
        assert_eq!(next.as_millis(), expected, "{record:?}");
    };
    check(Health::Up, 9, 0, true, 2_000);
    check(Health::Up, 0, 1, true, 100);
    check(Health::Ejected { until: Moment::NEVER }, 1, 0, true, 100);
    check(Health::Down, 0, 7, true, 30_000);
    check(Health::Down, 1, 0, true, 100);
    check(Health::Down, 0, 1, false, 200);
    check(Health::Down, 0, 1_000, false, 30_000);
}

#[test]
fn a_server_that_is_down_is_asked_at_times_in_proportion_to_that() {
    let slow = Rules { interval: Duration::from_secs(60), ..Rules::default() };
    let quick = Rules { fast_interval: Some(Duration::from_secs(5)), ..Rules::default() };
    for (rules, down_s, expected_ms) in [
        (Rules::default(), 0, 500),
        (Rules::default(), 2, 500),
        (Rules::default(), 6, 1_500),
        (Rules::default(), 8, 2_000),
        (Rules::default(), 86_400, 2_000),
        (slow, 0, 15_000),
        (slow, 120, 30_000),
        (slow, 86_400, 60_000),
        (quick, 0, 2_000),
    ] {
        let record = Record { health: Health::Down, was_up: true, ..Record::new(&rules, Moment::START) };
        let now = Moment::from_millis(down_s * 1_000);
        let next = next_probe(&record, &rules, 0, 0.5, now).since(now);
        assert_eq!(next.as_millis(), expected_ms, "{down_s} s: {rules:?}");
    }
}

#[test]
fn probes_come_sooner_while_a_change_is_confirmed() {
    let (steady, soon) = ([1_800, 2_200], [450, 550]);
    check_probe(Health::Up, 9, 0, 0, steady);
    check_probe(Health::Up, 0, 1, 0, soon);
    check_probe(Health::Up, 9, 0, 1, soon);
    check_probe(Health::Down, 1, 0, 0, soon);
    check_probe(Health::Starting, 0, 0, 0, soon);
    check_probe(Health::Ejected { until: Moment::NEVER }, 0, 0, 5, soon);
}

/// Probes that pass (true) or fail, one after the other, for ten minutes: how often the server comes up and goes down.
fn transitions(rules: &Rules, mut passes: impl FnMut(u64, u64) -> bool) -> u32 {
    let mut record = Record::new(rules, Moment::START);
    let (mut now, mut changes) = (Moment::from_millis(1), 0);
    for probe in 0.. {
        if now > Moment::from_millis(600_000) {
            break;
        }
        let now_ms = now.as_nanos() / 1_000_000;
        let event = if passes(probe, now_ms) { ProbePassed } else { ProbeFailed };
        let (next, change) = after(record, event, rules, &TEN_SECONDS, THREE, now);
        changes += u32::from(change.is_some());
        record = next;
        now = next_probe(&record, rules, 0, 0.5, now);
    }
    changes
}

/// At most this many changes in ten minutes, and more than so many times as many where `rise` does not grow.
fn check_flaps(rules: Rules, most: u32, times: u32, passes: impl Fn(u64, u64) -> bool) {
    let got = transitions(&rules, &passes);
    let steady = transitions(&Rules { rise_max: rules.rise, ..rules }, &passes);
    assert!(got <= most && steady > times * got, "{got} changes, {steady} without");
}

#[test]
fn probes_that_flap_do_not_move_traffic_back_and_forth() {
    let once = Rules { rise: 1, fall: 1, ..Rules::default() };
    check_flaps(once, 16, 20, |probe, _| probe % 2 == 0);
    check_flaps(once, 16, 8, |probe, _| probe % 7 < 6);
    check_flaps(once, 16, 5, |_, ms| ms / 4_000 % 2 == 0);
    check_flaps(Rules::default(), 16, 3, |_, ms| ms / 8_000 % 2 == 0);
    for seed in 0..20 {
        let random = std::cell::RefCell::new(crate::base::random::Random::seeded(seed));
        let draws: Vec<_> = (0..2_000).map(|_| random.borrow_mut().fraction() < 0.5).collect();
        check_flaps(once, 24, 5, |probe, _| draws[probe as usize % draws.len()]);
    }
}

#[test]
fn a_server_that_stays_up_is_trusted_again_and_rise_has_a_bound() {
    let rules = Rules::default();
    assert_eq!([0, 1, 2, 4, 5, 99].map(|flaps| rules.rise_after(flaps)), [2, 4, 8, 32, 60, 60]);
    assert_eq!(Rules { rise: 100, ..rules }.rise_after(3), 100);
    let after_up = |up_s: u64, is_back, before| {
        let record =
            Record { health: Health::Up, is_back, flaps: before, ..Record::new(&rules, Moment::START) };
        flaps(&record, Health::Down, &rules, Moment::from_millis(up_s * 1_000))
    };
    assert_eq!((after_up(19, true, 2), after_up(20, true, 2), after_up(45, true, 2)), (3, 1, 0));
    assert_eq!(after_up(1, false, 0), 0, "it was not down before");
}

/// A server is killed and comes back after a while, again and again: the longest time until it is used again.
fn check_back(dead_ms: u64, rounds: u32) {
    let (rules, ejection) = (Rules::default(), TEN_SECONDS);
    let mut record = Record::new(&rules, Moment::START);
    let (mut now, mut due) = (0, 0);
    for round in 1..=u64::from(rounds) {
        let (dies, back) = (round * 20_000, round * 20_000 + dead_ms);
        let mut used = None;
        while now < dies + 20_000 - 10 {
            now += 10;
            let (at, dead) = (Moment::from_millis(now), (dies..back).contains(&now));
            let learn = |record: Record, event| after(record, event, &rules, &ejection, THREE, at).0;
            if record.health == Health::Up {
                record = learn(record, if dead { RequestFailed } else { RequestPassed });
            }
            if now >= due {
                record = learn(record, if dead { ProbeFailed } else { ProbePassed });
                due = next_probe(&record, &rules, 0, 1.0, at).as_nanos() / 1_000_000;
            }
            due = due.min(next_probe(&record, &rules, 0, 1.0, at).as_nanos() / 1_000_000);
            record = learn(record, Tick);
            used = used.or((now >= back && record.health == Health::Up).then(|| now - back));
        }
        // From the third time within a minute on it counts as one that flaps.
        let most = if round < 3 { 5_000 } else { 8_000 };
        assert!(used.is_some_and(|ms| ms < most), "{dead_ms} ms, round {round}: {used:?}");
    }
}

#[test]
fn a_killed_server_is_used_again_within_seconds_of_its_return() {
    check_back(100, 3);
    check_back(1_000, 3);
    check_back(7_000, 3);
}

#[test]
fn reasons_read_as_sentences() {
    assert_eq!(Why::ProbesFailed(3).to_string(), "3 probes failed in a row");
    assert_eq!(
        Why::ProbesAndRequestsFailed(1, 5).to_string(),
        "failed in a row: 5 of its requests, 1 of its probes"
    );
}
