//! The scenarios of the balancing bench under virtual time, and what must hold in each.

use super::*;
use crate::policy::limit::MaxInFlight;
use crate::policy::pick::Algorithm::{self, *};

const BY_LOAD: [Algorithm; 3] = [Dynamic, LeastConnections, RandomTwo];
const SEEDS: u64 = 3;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three servers of four slots that take 20 ms, half loaded for 20 s.
pub(super) fn base() -> Description {
    Description {
        seed: 1,
        balancers: 1,
        config: Config::default(),
        servers: vec![Server::default(); 3],
        pool: PoolId::default(),
        arrivals: Arrivals::PerSecond(300.0),
        work: Work::Exponential(ms(20)),
        length: Duration::from_secs(20),
        warm_up: Duration::from_secs(2),
        client_timeout: Duration::from_secs(10),
        changes: Vec::new(),
    }
}

pub(super) fn at_load(load: f64, description: Description) -> Description {
    let per_second = description.capacity() * load;
    Description { arrivals: Arrivals::PerSecond(per_second), ..description }
}

pub(super) fn speeds(speeds: &[f64]) -> Description {
    let servers = speeds.iter().map(|speed| Server { speed: *speed, ..Server::default() }).collect();
    Description { servers, ..base() }
}

pub(super) fn slots(slots: &[u32]) -> Description {
    let servers = slots.iter().map(|slots| Server { slots: *slots, ..Server::default() }).collect();
    Description { servers, ..base() }
}

pub(super) fn pauses() -> Description {
    let server = |at: u64| Server {
        pause: Some(Pause { every: ms(5_000), lasts: ms(300), first: ms(1_000 + 1_700 * at) }),
        ..Server::default()
    };
    Description { servers: (0..3).map(server).collect(), ..base() }
}

/// The scenarios of the bench in which all servers respond, by name.
pub(super) fn tidy() -> Vec<(&'static str, Description)> {
    let two = |short, long, one_in| Description {
        work: Work::Two { short: ms(short), long: ms(long), one_in },
        ..base()
    };
    let joins = |cold| {
        let mut new = base();
        new.servers[2].joins = Duration::from_secs(5);
        new.servers[2].cold = cold;
        new
    };
    let lies = |reports: [LoadReport; 3]| {
        let servers = reports.into_iter().map(|report| Server { report, ..Server::default() }).collect();
        Description { servers, ..base() }
    };
    use LoadReport::{Constant, Random, True};
    vec![
        ("equal", base()),
        ("speeds 1:2:4", speeds(&[1.0, 2.0, 4.0])),
        ("slots 2:4:8", slots(&[2, 4, 8])),
        ("one slot each, 1:2:4", {
            let mut description = speeds(&[1.0, 2.0, 4.0]);
            description.servers.iter_mut().for_each(|server| server.slots = 1);
            description
        }),
        ("32 slots, 1:2:4", {
            let mut description = speeds(&[1.0, 2.0, 4.0]);
            description.servers.iter_mut().for_each(|server| server.slots = 32);
            description
        }),
        ("bimodal", two(10, 100, 10)),
        ("one slow in 500", two(20, 2_000, 500)),
        ("pauses of 300 ms", pauses()),
        ("newcomer", joins(None)),
        ("cold newcomer", joins(Some((Duration::from_secs(5), 4.0)))),
        ("true reports", lies([True; 3])),
        ("lying reports", lies([True, Random(100), Constant(1_000)])),
        ("two balancers", Description { balancers: 2, ..speeds(&[1.0, 2.0, 4.0]) }),
        ("two balancers, true reports", Description { balancers: 2, ..lies([True; 3]) }),
        ("100 servers", Description { servers: vec![Server::default(); 100], length: ms(8_000), ..base() }),
        ("100 unlike servers", {
            let server = |at: i32| Server { speed: f64::from(1 << (at % 3)), ..Server::default() };
            Description { servers: (0..100).map(server).collect(), length: ms(6_000), ..base() }
        }),
    ]
}

fn with(algorithm: Algorithm, seed: u64, description: &Description) -> Description {
    let mut description = Description { seed, ..description.clone() };
    description.config.servers.algorithm = algorithm;
    description
}

/// The means over seeds of p50, p99 and p99.9, in ms.
pub(super) fn quantiles(reports: &[Report]) -> [f64; 3] {
    [0.5, 0.99, 0.999].map(|share| {
        let sum: f64 = reports.iter().map(|report| report.quantile(share).as_secs_f64() * 1e3).sum();
        sum / reports.len() as f64
    })
}

fn of(algorithm: Algorithm, description: &Description) -> Vec<Report> {
    (1..=SEEDS).map(|seed| run(&with(algorithm, seed, description))).collect()
}

/// Prints a table for docs/experiments.md: `cargo test --release --lib simulation::tests::table -- --ignored --nocapture`.
#[test]
#[ignore = "prints a table"]
fn table() {
    for (name, description) in tidy() {
        for load in [0.5, 0.8, 0.95] {
            let description = at_load(load, description.clone());
            let ideals: Vec<_> =
                (1..=SEEDS).map(|seed| ideal(&Description { seed, ..description.clone() })).collect();
            let mut line = format!("{name:28} {:3.0} %", load * 100.0);
            let show = |[p50, p99, p999]: [f64; 3]| format!(" | {p50:5.0} {p99:5.0} {p999:6.0}");
            line += &show(quantiles(&ideals));
            for algorithm in [Dynamic, LeastConnections, RandomTwo, RoundRobin] {
                line += &show(quantiles(&of(algorithm, &description)));
            }
            println!("{line}");
        }
    }
}

/// What one server does from second 5 to second 35, beside others that take so many ms at so many requests a second or
/// with so many clients; at most this part of the requests may go to it in the first second, and after the third.
fn check_one_bad(servers: usize, bad: Behaviour, work_ms: u64, arrivals: &Arrivals, most: [f64; 2]) {
    for algorithm in BY_LOAD {
        let mut description = Description {
            servers: vec![Server { slots: 64, ..Server::default() }; servers],
            arrivals: arrivals.clone(),
            work: Work::Exponential(ms(work_ms)),
            length: Duration::from_secs(60),
            warm_up: Duration::ZERO,
            ..base()
        };
        let change = |at, behaviour| Change { at: Duration::from_secs(at), server: 0, behaviour };
        description.changes = vec![change(5, bad), change(35, Behaviour::Works)];
        let report = run(&with(algorithm, 1, &description));
        let share = |seconds: std::ops::Range<usize>| report.percent(seconds)[0];
        let case = format!(
            "{algorithm:?}, {servers} servers, {bad:?}, {work_ms} ms, {arrivals:?}: {:.1} % in the first second, then {:.1} %, \
             then {:.1} %; {:#?}",
            share(5..6),
            share(8..34),
            share(50..60),
            report.log
        );
        assert!(share(5..6) <= most[0] && share(8..34) <= most[1], "{case}");
        assert!(share(50..60) > 70.0 / servers as f64, "it has recovered: {case}");
    }
}

#[test]
fn failing_fast_attracts_nothing() {
    let fails = Behaviour::Fails { after: ms(1) };
    for (servers, most) in [(2, 50.0), (3, 34.0), (10, 12.0)] {
        for work_ms in [10, 50] {
            for arrivals in [Arrivals::Clients(16), Arrivals::Clients(64), Arrivals::PerSecond(200.0)] {
                check_one_bad(servers, fails, work_ms, &arrivals, [most, 2.0]);
            }
        }
    }
}

#[test]
fn a_far_slower_server_is_ejected_and_no_other_scenario_ejects_any() {
    for (name, description) in tidy() {
        for algorithm in [Dynamic, RoundRobin] {
            let report = run(&with(algorithm, 1, &at_load(0.8, description.clone())));
            assert_eq!(report.ejections, 0, "{name}, {algorithm:?}: {:?}", report.log);
        }
    }
    let mut slow = speeds(&[1.0, 1.0, 1.0, 0.02]);
    slow.servers.iter_mut().for_each(|server| server.slots = 64);
    slow.arrivals = Arrivals::PerSecond(200.0);
    slow.length = Duration::from_secs(60);
    slow.client_timeout = Duration::from_secs(60);
    let report = run(&with(RoundRobin, 1, &slow));
    assert!(report.ejections > 1, "{:?}", report.log);
    assert!(
        report.log.iter().filter(|line| line.contains("deviations above")).count() > 1,
        "{:?}",
        report.log
    );
    assert!(
        !report.log.iter().any(|line| line.contains("deviations") && !line.contains("server 3")),
        "{:?}",
        report.log
    );
    assert!(report.percent(20..60)[3] < 10.0, "{:?}", report.percent(20..60));
}

#[test]
fn servers_that_hang_or_refuse_connections_get_little() {
    for arrivals in [Arrivals::Clients(16), Arrivals::PerSecond(100.0)] {
        check_one_bad(3, Behaviour::Hangs, 20, &arrivals, [30.0, 3.0]);
        check_one_bad(3, Behaviour::Refuses, 20, &arrivals, [30.0, 3.0]);
    }
}

/// What lies are about: nothing, or a number that has nothing to do with the load. Their bound keeps them from moving more
/// than a part of a queue; the requests in flight tell the rest.
#[test]
fn reports_that_lie_or_never_change_cost_next_to_nothing() {
    use LoadReport::{Constant, None, Random, True};
    let saying = |reports: [LoadReport; 3], load| {
        let servers = reports.into_iter().map(|report| Server { report, ..Server::default() }).collect();
        at_load(load, Description { servers, ..base() })
    };
    for load in [0.8, 0.95] {
        let p99 = |reports| quantiles(&of(Dynamic, &saying(reports, load)))[1];
        let quiet = p99([None; 3]);
        for reports in [
            [Constant(1_000), None, None],
            [Constant(0), Constant(1_000), None],
            [True, Random(100), Constant(1_000)],
            [Random(1_000), Random(1_000), Random(1_000)],
            [Random(1_000), True, True],
            [True; 3],
        ] {
            let told = p99(reports);
            println!("{load} {reports:?}: {told:.0} ms, quiet {quiet:.0} ms");
            assert!(told < 1.2 * quiet, "{load} {reports:?}: {told} ms, quiet {quiet} ms");
        }
    }
}

#[test]
fn where_all_fail_none_is_ejected_and_the_shares_are_even() {
    for algorithm in BY_LOAD {
        let failing = Server { behaviour: Behaviour::Fails { after: ms(1) }, ..Server::default() };
        let description = Description { servers: vec![failing; 3], ..base() };
        let report = run(&with(algorithm, 1, &description));
        assert!(report.log.is_empty(), "{algorithm:?}: {:?}", report.log);
        assert!(report.percent(2..20).iter().all(|share| *share > 25.0), "{algorithm:?}: {report:?}");
    }
}

#[test]
fn a_bad_request_that_fails_everywhere_counts_against_no_server() {
    let some = Server { behaviour: Behaviour::FailsSome(30), ..Server::default() };
    let cases = BY_LOAD.into_iter().flat_map(|algorithm| [(algorithm, 6.0, 22.0), (algorithm, 300.0, 25.0)]);
    for (algorithm, rate, least) in cases {
        let arrivals = Arrivals::PerSecond(rate);
        let description = Description {
            servers: vec![some.clone(); 3],
            arrivals,
            length: Duration::from_secs(60),
            ..base()
        };
        let report = run(&with(algorithm, 1, &description));
        assert!(report.log.is_empty(), "{algorithm:?}: {:?}", report.log);
        assert!(
            report.percent(0..60).iter().all(|share| *share > least),
            "{algorithm:?}: {:?}",
            report.percent(0..60)
        );
    }
}

/// Requests that are too late are refused in the queue, and the servers work for clients that are still there.
#[test]
fn at_eight_times_the_capacity_as_many_responses_come_in_time_as_below_it() {
    let mut description = Description { length: ms(7_000), client_timeout: ms(1_000), ..base() };
    description.config.servers.max_in_flight = Some(MaxInFlight::Fixed(4));
    description.config.timeouts.request = Some(ms(1_000));
    let good = |load: f64| run(&at_load(load, description.clone())).good as f64;
    let peak = [0.95, 1.5, 3.0].map(good).into_iter().fold(0.0, f64::max);
    let part = good(8.0) / peak;
    println!("{part:.3} of the peak, which is {:.3} of the capacity", peak / description.capacity() / 5.0);
    assert!(part >= 0.98, "{part}");
}

#[test]
fn the_same_seed_gives_the_same_simulation() {
    let description = Description { balancers: 2, ..pauses() };
    assert_eq!(run(&description), run(&description));
    assert_ne!(run(&description), run(&Description { seed: 2, ..description.clone() }));
}

#[test]
fn no_policy_is_better_than_one_queue_and_requests_are_all_accounted_for() {
    for load in [0.5, 0.95] {
        let description = at_load(load, base());
        let best = ideal(&description);
        for algorithm in BY_LOAD {
            let report = run(&with(algorithm, 1, &description));
            assert_eq!(report.requests, best.requests);
            assert_eq!(report.requests, report.good + report.bad + report.rejected + report.timed_out);
            assert!(report.mean() >= best.mean(), "{algorithm:?}");
        }
    }
}

#[test]
fn many_small_servers_are_nearly_as_good_as_one_queue_from_the_start() {
    let server = Server { slots: 1, ..Server::default() };
    let hundred = Description { servers: vec![server; 100], warm_up: Duration::ZERO, ..base() };
    for (load, most) in [(0.5, 1.05), (0.8, 1.1), (0.95, 1.3)] {
        for seed in 1..=2 {
            let description = Description { length: ms(8_000), ..at_load(load, hundred.clone()) };
            let description = with(Dynamic, seed, &description);
            let p99 = |report: Report| report.quantile(0.99).as_secs_f64();
            let ratio = p99(run(&description)) / p99(ideal(&description));
            assert!(ratio <= most, "p99 is {ratio:.2} of the ideal at {load}, seed {seed}");
        }
    }
}

/// The others have queues of a second by then, and what it was sent before it shows how slow it is must wait for it.
#[test]
fn a_server_that_comes_back_cold_is_used_soon_and_not_flooded() {
    let change = |at, behaviour| Change { at: ms(at), server: 2, behaviour };
    let mut world = Description {
        length: ms(6_000),
        warm_up: Duration::ZERO,
        work: Work::Exponential(ms(40)),
        changes: vec![change(1_200, Behaviour::Refuses), change(2_400, Behaviour::Works)],
        ..base()
    };
    world.servers[2].cold = Some((ms(2_000), 4.0));
    for (load, most, least_share) in [(0.5, 1.1, 10.0), (0.8, 1.4, 20.0), (0.95, 1.7, 20.0)] {
        let all = |of: fn(&Description) -> Report| -> Vec<Report> {
            let world = at_load(load, world.clone());
            (1..=SEEDS).map(|seed| of(&with(Dynamic, seed, &world))).collect()
        };
        let (got, best) = (all(run), all(ideal));
        let ratio = quantiles(&got)[1] / quantiles(&best)[1];
        let shares: Vec<f64> = got.iter().map(|report| report.percent(4..6)[2]).collect();
        let sum = |of: fn(&Report) -> u64| got.iter().map(of).sum::<u64>();
        let rejected = sum(|report| report.rejected) as f64 / sum(|report| report.requests) as f64;
        println!("{load}: {ratio:.2}, {shares:.0?}, {rejected:.3} rejected");
        assert!(rejected < 0.02, "{load}: {rejected:.3}");
        assert!(ratio < most, "{load}: p99 is {ratio:.2} of the ideal, {:?}", got[0].log);
        assert!(shares.iter().all(|share| *share > least_share), "{load}: {shares:?}");
    }
}

/// With ejections of ten seconds at first a third got no good response.
#[test]
fn a_quick_server_that_failed_for_two_seconds_is_used_again_soon() {
    let change = |at, behaviour| Change { at: ms(at), server: 2, behaviour };
    let world = Description {
        length: ms(6_000),
        warm_up: Duration::ZERO,
        work: Work::Exponential(ms(40)),
        changes: vec![change(1_800, Behaviour::Fails { after: ms(1) }), change(3_600, Behaviour::Works)],
        ..speeds(&[1.0, 2.0, 4.0])
    };
    let world = at_load(0.8, world);
    for seed in 1..=SEEDS {
        let report = run(&with(Dynamic, seed, &world));
        let share = report.percent(5..6)[2];
        assert!(share > 40.0, "{share:.0} % in the last second, {:?}", report.log);
        assert!(report.good * 10 > report.requests * 8, "{} of {}", report.good, report.requests);
    }
}

#[test]
fn a_cold_newcomer_in_slow_start_is_neither_flooded_nor_starved() {
    let mut description = Description {
        servers: vec![Server::default(); 4],
        arrivals: Arrivals::PerSecond(400.0),
        length: Duration::from_secs(30),
        ..base()
    };
    description.config.servers.slow_start.time = Some(Duration::from_secs(10));
    description.servers[3].joins = Duration::from_secs(5);
    description.servers[3].cold = Some((Duration::from_secs(10), 4.0));
    for algorithm in [Dynamic, LeastConnections, RandomTwo, RoundRobin] {
        let report = run(&with(algorithm, 1, &description));
        let share = |seconds: std::ops::Range<usize>| report.percent(seconds)[3];
        let shares = [share(6..8), share(9..11), share(20..30)];
        let case = format!("{algorithm:?}: {shares:.1?}");
        // Of a quarter: about two tenths, then half, then all of it.
        assert!((2.0..9.0).contains(&shares[0]) && (8.0..18.0).contains(&shares[1]), "{case}");
        assert!((20.0..30.0).contains(&shares[2]), "{case}");
    }
}
