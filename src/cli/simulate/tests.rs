//! The command from its arguments to its output.

use super::*;
use clap::{Parser, ValueEnum};

fn simulated_with(line: &str, config: &str) -> Result<Run, String> {
    let parsed = crate::cli::Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
    let Some(crate::cli::Command::Simulate(arguments)) = parsed.command else { panic!("{line}") };
    let config = config::parse(config, Path::new("/")).map_err(|faults| format!("{faults:?}"))?;
    let trace = arguments.trace.as_deref().map(trace::read).transpose();
    let trace = trace.map_err(|failure| format!("{failure:?}"))?;
    simulate(&arguments, &[("configuration", config)], trace.as_ref())
        .map_err(|failure| format!("{failure:?}"))
}

fn simulated(line: &str) -> Result<Run, String> {
    simulated_with(line, "{}")
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_all_forms_and_another_does_not() {
    let forms = |line: &str| {
        let run = simulated(line).unwrap();
        (text::told(&run), html::page(&run), serde_json::to_string(&run).unwrap())
    };
    let line = "evenkeel simulate --duration 5s --scenario speeds,failing,bursts,two-balancers";
    let same = forms(line);
    assert_eq!(same, forms(line));
    let other = forms(&format!("{line} --seed 2"));
    assert!(same.0 != other.0 && same.1 != other.1 && same.2 != other.2);
    for part in ["ideal", "Not simulated", "Shares of configuration", "p99 over time"] {
        assert!(other.0.contains(part), "{part}: {}", other.0);
    }
    assert!(other.0.lines().all(|line| line.chars().count() <= 80), "{}", other.0);
}

#[test]
fn the_page_has_the_figures() {
    let run = simulated("evenkeel simulate --duration 5s --load 95").unwrap();
    let page = html::page(&run);
    for result in &run.results {
        for figure in [format!("<td>{:.1}</td>", result.p99_ms), format!("<td>{}</td>", result.good)] {
            assert!(page.contains(&figure), "{figure}: {page}");
        }
    }
    assert_eq!(page.matches("<svg").count(), 4);
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n") && !page.contains("<script"));
}

#[test]
fn every_scenario_runs_with_the_servers_of_a_configuration_and_without() {
    let config =
        r#"{ "servers": { "list": [ { "address": "10.0.0.1:80" }, { "address": "10.0.0.2:80" } ] } }"#;
    for scenario in Scenario::value_variants() {
        let name = scenario.to_possible_value().unwrap().get_name().to_owned();
        let line = format!("evenkeel simulate --duration 2s --scenario {name}");
        for config in ["{}", config] {
            let run = simulated_with(&line, config).unwrap();
            let result = &run.results[1];
            assert!(result.good > 0 && result.p99_ms > 0.0, "{name}: {result:?}");
            assert_eq!(
                result.requests,
                result.good + result.failed + result.rejected + result.timed_out,
                "{name}"
            );
        }
    }
}

#[test]
fn servers_are_those_of_the_configuration_or_replace_them() {
    let config = r#"{ "servers": { "list": [] }, "pools": { "api": { "list": [ { "name": "a", "address": "10.0.0.1:80" },
        { "name": "b", "address": "10.0.0.2:80", "weight": 0 } ] } } }"#;
    let servers = |line: &str| {
        let run = simulated_with(&format!("evenkeel simulate --duration 1s {line}"), config)?;
        Ok::<_, String>(
            run.servers.into_iter().map(|one| (one.name, one.speed, one.slots)).collect::<Vec<_>>(),
        )
    };
    let of = |name: &str, speed, slots| (format!("api/{name}"), speed, slots);
    assert_eq!(servers("--load 50"), Ok(vec![of("a", 1.0, 4), of("b", 1.0, 4)]));
    assert_eq!(servers("--servers 2x1,3x8"), Ok(vec![of("a", 2.0, 1), of("b", 3.0, 8)]));
    assert_eq!(servers("--servers api/b=3x8"), Ok(vec![of("a", 1.0, 4), of("b", 3.0, 8)]));
    assert_eq!(servers("--servers 2x1"), Ok(vec![of("0", 2.0, 1)]));
    assert!(servers("--servers c=2x1").unwrap_err().contains("api/a, api/b"));
    assert!(servers("--pool web").unwrap_err().contains("default, api"));
    let run = simulated_with("evenkeel simulate --duration 1s", config).unwrap();
    assert_eq!(run.results[1].shares[1].percent, 0.0, "a weight of 0");
}

#[test]
fn the_limits_and_the_queue_of_the_configuration_hold() {
    let config = r#"{ "servers": { "max_in_flight": 4, "queue_capacity": 5 } }"#;
    let run = simulated_with("evenkeel simulate --duration 5s --scenario overload", config).unwrap();
    let result = &run.results[1];
    assert!(result.rejections["queue_full"] > result.requests / 2, "{result:?}");
    assert!(result.p99_ms < 1_000.0, "{result:?}");
    let run = simulated("evenkeel simulate --duration 5s --scenario overload").unwrap();
    assert!(run.results[1].p99_ms > 2_000.0, "without a limit it all waits at the servers");
}

#[test]
fn a_trace_goes_by_the_routes_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.jsonl");
    let line = |at: usize| {
        let (second, ms, path) = (at / 100, at % 100 * 10, if at % 2 == 0 { "/v1/x" } else { "/" });
        let server = if at % 4 < 2 { "a" } else { "b" };
        format!(
            "{{\"time\":\"2026-11-27T00:00:{second:02}.{ms:03}Z\",\"total_ms\":20.0,\"server\":\"{server}\",\"target\":\"{path}\"}}\n"
        )
    };
    std::fs::write(&file, (0..1_000).map(line).collect::<String>() + "{ broken\n").unwrap();
    let config = r#"{ "servers": { "list": [ { "name": "a", "address": "10.0.0.1:80" } ] },
        "pools": { "api": { "list": [ { "name": "b", "address": "10.0.0.2:80" } ] } },
        "routes": [ { "path": "/v1/*", "pool": "api" } ] }"#;
    let line = format!("evenkeel simulate --trace {}", file.display());
    let run = simulated_with(&line, config).unwrap();
    let result = &run.results[1];
    assert_eq!((result.requests, result.good), (1_000, 1_000), "{result:?}");
    let shares: Vec<_> = result.shares.iter().map(|share| (share.server.as_str(), share.percent)).collect();
    assert_eq!(shares, [("a", 50.0), ("api/b", 50.0)]);
    assert!(
        run.notes
            .iter()
            .any(|note| note.contains("1 line of the trace was not read") && note.contains("line 1001")),
        "{:?}",
        run.notes
    );
    // Without servers in the configuration those of the trace are there, with their names.
    let run = simulated(&format!("{line} --scenario failing --times 2")).unwrap();
    assert_eq!(run.servers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(run.results[1].failed > 0 && run.results[1].seconds.len() == 5);
}

#[test]
fn arguments_are_checked() {
    for (line, advice) in [
        ("evenkeel simulate --servers 2", "SPEEDxSLOTS"),
        ("evenkeel simulate --load 0", "above 0"),
        ("evenkeel simulate --rate 1000000 --duration 1h", "20 million"),
        ("evenkeel simulate --work bimodal:1ms", "ONE_IN"),
        ("evenkeel simulate --work lognormal:1ms:0", "above 0"),
        ("evenkeel simulate --scenario none", "possible values"),
        ("evenkeel simulate --times 2", "--trace"),
        ("evenkeel simulate --trace a --rate 2", "cannot be used with"),
    ] {
        let told = simulated(line).map(|_| ()).unwrap_err();
        assert!(told.contains(advice), "{line}: {told}");
    }
}

#[test]
fn distributions_have_their_means() {
    for text in ["20ms", "fixed:20ms", "lognormal:20ms:1", "bimodal:10ms:110ms:10"] {
        let run = simulated(&format!("evenkeel simulate --duration 60s --load 5 --work {text}")).unwrap();
        let mean_ms = run.results[0].mean_ms;
        assert!((16.0..24.0).contains(&mean_ms), "{text}: {mean_ms}");
    }
}
