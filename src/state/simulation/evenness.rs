//! Equal servers get equal shares, whatever single responses take, and at any rate of requests.

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Equal servers with many slots, for a minute.
fn equal(servers: usize, work: Work, per_second: f64, seed: u64) -> Description {
    Description {
        seed,
        balancers: 1,
        config: Config::default(),
        pool: PoolId::default(),
        servers: vec![Server { slots: 64, ..Server::default() }; servers],
        arrivals: Arrivals::PerSecond(per_second),
        work,
        length: seconds(60),
        warm_up: Duration::ZERO,
        client_timeout: seconds(10),
        changes: Vec::new(),
    }
}

/// Quick requests at an even pace, and a page of 2 s every 4 s.
fn slow_pages(servers: usize, per_second: u64, quick: Duration, seed: u64) -> Description {
    let listed = |at, work| Listed { at, work, pool: PoolId::default() };
    let quick_ones =
        (0..per_second * 60).map(|n| listed(Duration::from_micros(n * 1_000_000 / per_second), quick));
    let slow_ones = (0..15).map(|n| listed(seconds(4 * n), seconds(2)));
    let mut list: Vec<_> = quick_ones.chain(slow_ones).collect();
    list.sort();
    let description = equal(servers, Work::Fixed(quick), 1.0, seed);
    Description { arrivals: Arrivals::Listed(list), ..description }
}

/// The mean over windows of 2 s of the busiest server's share in percent: soon after the start, when one of the first responses of a
/// server was a slow page, or of the whole time.
fn busiest(report: &Report, until: usize) -> f64 {
    let windows: Vec<f64> =
        (4..until).step_by(2).map(|at| report.percent(at..at + 2).into_iter().fold(0.0, f64::max)).collect();
    windows.iter().sum::<f64>() / windows.len() as f64
}

#[test]
fn one_slow_page_moves_no_traffic_for_longer_than_it_takes() {
    // While the page is with a server, the others take its part.
    for (servers, per_second, quick_us, most) in [
        (3, 40, 5_000, 50.0),
        (3, 40, 500, 50.0),
        (3, 200, 5_000, 50.0),
        (2, 20, 5_000, 90.0),
        (10, 100, 5_000, 15.0),
    ] {
        for seed in 1..=2 {
            let report = run(&slow_pages(servers, per_second, Duration::from_micros(quick_us), seed));
            for until in [22, 60] {
                let busiest = busiest(&report, until);
                assert!(
                    busiest <= most,
                    "{servers} servers, {per_second} requests/s of {quick_us} us until {until} s: {busiest:.0} %"
                );
            }
        }
    }
}

#[test]
fn equal_servers_get_equal_shares_at_any_rate() {
    let ms = Duration::from_millis(20);
    for (servers, least, most) in [(2, 0.75, 1.25), (3, 0.6, 1.45), (10, 0.45, 2.0)] {
        for (per_second, fails) in
            [5.0, 20.0, 60.0, 300.0].into_iter().flat_map(|rate| [(rate, 0), (rate, 30)])
        {
            for work in [Work::Exponential(ms), Work::Fixed(ms)] {
                let mut description = equal(servers, work, per_second, 1);
                let behaviour = Behaviour::FailsSome(fails);
                description.servers.iter_mut().for_each(|server| server.behaviour = behaviour);
                let shares = run(&description).percent(0..60);
                let of_even = |share: &f64| share * servers as f64 / 100.0;
                assert!(
                    shares.iter().map(of_even).all(|share| (least..=most).contains(&share)),
                    "{servers} servers, {per_second}/s of {work:?}, {fails} % fail: {shares:.1?}"
                );
            }
        }
    }
}
