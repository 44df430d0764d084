//! Evenkeel under the conformance suite: every case of `tests/conformance`, each with a balancer of its own.
//! `cargo bench --bench conformance` runs the same cases against nginx and HAProxy as well. `CASE=part` in the
//! environment runs those alone whose name has that part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "conformance/suite.rs"]
mod suite;
mod support;

use std::collections::HashSet;
use std::time::Duration;
use suite::case::Setup;
use suite::run::{self, Waits};
use suite::{Case, evenkeel};

/// Generous: a case that holds needs none of it.
const WAITS: Waits = Waits { response: Duration::from_secs(30), pause: Duration::from_millis(60) };
/// Most cases wait for other processes.
const LANES: usize = 12;

/// Why cases fail, in the order of the cases.
fn failures(cases: &[Case]) -> Vec<String> {
    let results = run::all(cases, LANES, |case| {
        // With times of a second a machine that stands still makes faults; those of the balancer stay.
        let more_tries = if matches!(case.setup, Setup::Hasty) { 2 } else { 0 };
        let once = || run::run(case, WAITS, evenkeel::start);
        (0..more_tries).fold(once(), |result, _| result.or_else(|_| once()))
    });
    results.into_iter().filter_map(Result::err).collect()
}

#[test]
fn every_case_holds() {
    let only = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<Case> = suite::all().into_iter().filter(|case| case.id.contains(&only)).collect();
    let failures = failures(&cases);
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
}

#[test]
fn the_cases_are_many_and_each_has_a_name_of_its_own() {
    let cases = suite::all();
    let names: HashSet<_> = cases.iter().map(|case| &case.id).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 400, "{}", cases.len());
    for case in &cases {
        assert!(!case.ways.is_empty() && !case.steps.is_empty(), "{}", case.id);
    }
}
