//! The configuration as a whole: what is valid, what is reported for what is not, and the document.

use super::source::Source;
use super::*;
use crate::state::access::{Format, Template};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

const SEED: &str = r#"{"load_balancer": {"load_balancer_port": "8000"}, "servers": {"queue_capacity": 1000}, "threadpool": {"min_workers": 1, "max_workers": 50, "queue_capacity": 100}}"#;
const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

fn read(text: &str) -> Result<Config, Vec<Fault>> {
    parse(text, Path::new(""))
}

/// Each fault as `path: advice`, without positions.
fn told(text: &str) -> Vec<String> {
    let faults = read(text).expect_err(text);
    faults.iter().map(|fault| format!("{}: {}", fault.path, fault.advice)).collect()
}

#[test]
fn the_seed_word_for_word_is_valid_and_says_what_silence_says() {
    assert_eq!(read(SEED).unwrap(), Config::default());
    assert_eq!(read("{}").unwrap(), Config::default());
    assert_eq!(read(include_str!("../../../config.json")).unwrap(), Config::default());
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let config = Config::default();
    assert_eq!(config.listen.address(), Some("0.0.0.0:8000".parse().unwrap()));
    assert_eq!((config.threadpool.bounds.min, config.threadpool.bounds.max), (1, 50));
    assert_eq!(config.threadpool.queue_capacity, 100);
    assert_eq!(config.servers.queue_capacity, 1000);
    assert_eq!(config.timeouts.drain, Duration::from_secs(30));
    assert_eq!(config.limits.head, head::Limits { head: 16384, headers: 100, uri: 8192, trace: false });
    assert_eq!(config.limits.body, None);
    assert_eq!(config.admin.socket, Some("evenkeel.sock".into()));
    assert_eq!(config.admin.bind, Some("127.0.0.1:9301".parse().unwrap()));
    assert!(matches!(&config.servers.health_check.probe, Probe::Http(http) if !http.is_strict));
    assert!(config.warnings.is_empty());
}

/// The servers of each pool, by the pool's name.
fn check_pools(text: &str, expected: &[(&str, &[&str])]) {
    let config = read(text).unwrap_or_else(|faults| panic!("{}", faults[0]));
    let addresses = |pool| config.pool(pool).list.iter().map(|server| server.address.to_string()).collect();
    let pools: Vec<(&str, Vec<String>)> =
        config.pool_ids().map(|pool| (config.pool_name(pool), addresses(pool))).collect();
    let expected: Vec<(&str, Vec<String>)> =
        expected.iter().map(|(name, list)| (*name, list.iter().map(|at| at.to_string()).collect())).collect();
    assert_eq!(pools, expected);
    assert!(config.pool_ids().all(|pool| config.pool_named(config.pool_name(pool)) == Some(pool)));
}

#[test]
fn pools_have_the_keys_of_servers() {
    check_pools("{}", &[("default", &[])]);
    check_pools(
        r#"{"servers": {"list": [{"address": "a:1"}]}, "pools": {"web": {"list": [{"address": "a:1"}, {"address": "b:1"}]}, "empty": {}}}"#,
        &[("default", &["a:1"]), ("web", &["a:1", "b:1"]), ("empty", &[])],
    );
    let auto =
        read(r#"{"servers": {"max_in_flight": "auto", "list": [{"address": "a:1", "max_in_flight": 7}]}}"#)
            .unwrap();
    assert_eq!(auto.servers.max_in_flight, Some(MaxInFlight::Auto));
    assert_eq!(auto.servers.list[0].max_in_flight, Some(MaxInFlight::Fixed(7)));
    let limit = |text: &str| read(text).unwrap().servers.max_in_flight;
    assert_eq!(limit("{}"), Some(MaxInFlight::Auto));
    assert_eq!(limit(r#"{"servers": {"max_in_flight": null}}"#), None);
    let hash = read(r#"{"servers": {"algorithm": "ip_hash"}}"#).unwrap().servers;
    assert_eq!((hash.max_in_flight, hash.limit_of_each()), (Some(MaxInFlight::Auto), None));
    for (text, advice) in
        [("automatic", "or \\\"auto\\\" for as many"), ("measured", "that is what \\\"auto\\\" does")]
    {
        let unknown = read(&format!(r#"{{"servers": {{"max_in_flight": "{text}"}}}}"#)).unwrap_err();
        assert!(format!("{unknown:?}").contains(advice), "{unknown:?}");
    }
    let config = read(r#"{"pools": {"web": {"algorithm": "ip_hash", "max_in_flight": 3}}}"#).unwrap();
    let web = config.pool(PoolId(1));
    assert_eq!((web.algorithm, web.max_in_flight), (pick::Algorithm::IpHash, Some(MaxInFlight::Fixed(3))));
    assert_eq!(config.servers, Config::default().servers);
}

#[test]
fn faults_of_pools_name_the_pool() {
    for (text, expected) in [
        (r#"{"pools": []}"#, "pools: expected an object, found a list"),
        (r#"{"pools": {"default": {}}}"#, "pools.default: the default pool is described by `servers`"),
        (r#"{"pools": {"a b": {}}}"#, "pools.a b: the name \"a b\""),
        (r#"{"pools": {"a": {}, "a": {}}}"#, "pools.a: is written twice"),
        (
            r#"{"pools": {"a": {"algoritm": "dynamic"}}}"#,
            "pools.a.algoritm: unknown key; did you mean \"algorithm\"?",
        ),
        (
            r#"{"pools": {"a": {"list": [{"address": "b:1"}, {"address": "b:1"}]}}}"#,
            "pools.a.list[1].address: \"b:1\" is the address of pools.a.list[0] too",
        ),
        (
            r#"{"pools": {"a": {"list": [{"address": "127.0.0.1:8000"}]}}}"#,
            "pools.a.list[0].address: \"127.0.0.1:8000\" is the balancer itself",
        ),
        (
            r#"{"pools": {"a": {"ejection": {"base_time": "9m"}, "health_check": 1}}}"#,
            "pools.a.health_check: expected an object",
        ),
        (
            r#"{"pools": {"a": {"ejection": {"base_time": "9m", "max_time": "1s"}}}}"#,
            "pools.a.ejection.max_time: 1s is shorter",
        ),
        (
            r#"{"servers": {"health_check": {"rise": 5, "rise_max": 4}}}"#,
            "servers.health_check.rise_max: 4 is less than rise; write 5 or more",
        ),
        (r#"{"pool": {}}"#, "pool: unknown key; did you mean \"pools\"?"),
    ] {
        let faults = told(text);
        assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{text}: {faults:?}");
    }
}

/// An example with every key.
#[test]
fn every_key_of_the_issue_is_valid() {
    let config = read(
        r#"{
      "load_balancer": { "load_balancer_port": "8000", "bind": "0.0.0.0", "served_by_header": false },
      "servers": {
        "queue_capacity": 1000,
        "algorithm": "dynamic",
        "list": [ { "name": "a", "address": "127.0.0.1:9001", "weight": 1, "backup": false }, { "name": "b", "address": "unix:/run/b.sock" } ],
        "health_check": { "enabled": true, "path": "/health", "interval": "2s", "timeout": "1s", "rise": 2, "fall": 3, "expect_status": "200-399", "host": null },
        "load_report": { "path": "/queue/status", "interval": "500ms" },
        "ejection": { "consecutive_failures": 5, "base_time": "10s", "max_time": "120s", "max_percent": 50, "error_margin_percent": 30 }
      },
      "threadpool": { "min_workers": 1, "max_workers": 50, "queue_capacity": 100, "queue_timeout": "5s" },
      "timeouts": { "connect": "2s", "response": "30s", "client_head": "10s", "client_body": "30s", "keep_alive": "60s", "drain": "30s" },
      "limits": { "head": "16KiB", "headers": 100, "uri": "8KiB", "body": null, "connections": null },
      "retries": { "attempts": 1, "budget_percent": 20, "budget_min": 3 },
      "admin": { "socket": "evenkeel.sock", "bind": "127.0.0.1:9301" },
      "log": { "level": "info" }
    }"#,
    )
    .unwrap();
    assert_eq!(config.servers.list.len(), 2);
    assert!(matches!(&config.servers.health_check.probe, Probe::Http(http) if http.is_strict));
    assert_eq!(Config { servers: Config::default().servers, ..config }, Config::default());
}

/// A valid text, and the expected value of one part of it.
fn check_read<T: PartialEq + std::fmt::Debug>(text: &str, part: fn(&Config) -> T, expected: T) {
    let config = read(text).unwrap_or_else(|faults| panic!("{text}: {}", faults[0]));
    assert_eq!(part(&config), expected, "{text}");
}

#[test]
fn values_are_read_in_all_their_forms() {
    let port = |config: &Config| config.listen.address().unwrap().to_string();
    check_read(r#"{"load_balancer":{"load_balancer_port":9000}}"#, port, "0.0.0.0:9000".into());
    check_read(r#"{"load_balancer":{"load_balancer_port":"9000"}}"#, port, "0.0.0.0:9000".into());
    check_read(r#"{"load_balancer":{"load_balancer_port":0,"bind":"[::1]"}}"#, port, "[::1]:0".into());
    let drain = |config: &Config| config.timeouts.drain.as_millis();
    check_read(r#"{"timeouts":{"drain":"1m 30s"}}"#, drain, 90_000);
    check_read(r#"{"timeouts":{"drain":"0s"}}"#, drain, 0);
    let body = |config: &Config| config.limits.body;
    check_read(r#"{"limits":{"body":"64KB"}}"#, body, Some(64_000));
    check_read(r#"{"limits":{"body":0}}"#, body, Some(0));
    check_read(r#"{"limits":{"body":null}}"#, body, None);
    let statuses = |config: &Config| match &config.servers.health_check.probe {
        Probe::Http(http) => http.expect_status.clone(),
        other => panic!("{other:?}"),
    };
    check_read(
        r#"{"servers":{"health_check":{"expect_status":"200-399, 404"}}}"#,
        statuses,
        vec![(200, 399), (404, 404)],
    );
    check_read(r#"{"servers":{"health_check":{"expect_status":204}}}"#, statuses, vec![(204, 204)]);
    let timeout = |config: &Config| config.servers.health_check.timeout.as_millis();
    check_read(r#"{"servers":{"health_check":{"interval":"200ms"}}}"#, timeout, 200);
    let uri = |config: &Config| config.limits.head.uri;
    check_read(r#"{"limits":{"head":"4KiB"}}"#, uri, 4096);
    let workers = |config: &Config| config.threadpool.bounds.max;
    check_read(r#"{"threadpool":{"max_workers":2e3}}"#, workers, 2000);
    let access = |config: &Config| config.log.access.clone().map(|access| access.to);
    check_read(r#"{"log":{"access":"stdout"}}"#, access, Some(AccessTarget::Stdout));
    check_read(r#"{"log":{"access":"a.log"}}"#, access, Some(AccessTarget::File("a.log".into())));
    let unix = |path: &str| Some(AccessTarget::Syslog(SyslogPlace::Unix(path.into())));
    check_read(r#"{"log":{"access":"syslog"}}"#, access, unix("/dev/log"));
    check_read(r#"{"log":{"access":"syslog:/run/log"}}"#, access, unix("/run/log"));
    let udp = Some(AccessTarget::Syslog(SyslogPlace::Udp("logs.example:514".to_owned())));
    check_read(r#"{"log":{"access":"syslog://logs.example:514"}}"#, access, udp);
    check_read(r#"{"log":{"access":"syslog.log"}}"#, access, Some(AccessTarget::File("syslog.log".into())));
    let format = |config: &Config| config.log.access.clone().map(|access| access.format);
    let line = |text| Some(Format::Template(Template::parse(text).unwrap()));
    let braces = r#"{"log":{"access":"stdout","access_format":"{{x}} {status}"}}"#;
    check_read(braces, format, line("{{x}} {status}"));
    let alone = Config::needs_no_servers;
    check_read("{}", alone, false);
    check_read(r#"{"routes":[{"respond":{"status":204}}]}"#, alone, true);
    check_read(r#"{"routes":[{"path":"/a","respond":{"status":204}},{"pool":"default"}]}"#, alone, false);
    let secure = r#"{"port":1,"tls":{"certificates":[{"certificate":"a.pem"}]}}"#;
    let plain = r#"{"port":2,"redirect_to_https":true}"#;
    check_read(&format!(r#"{{"load_balancer":{{"listeners":[{plain}]}}}}"#), alone, true);
    check_read(&format!(r#"{{"load_balancer":{{"listeners":[{plain},{secure}]}}}}"#), alone, false);
    let filter = |config: &Config| config.log.access.clone().map(|access| access.filter.sample);
    check_read(r#"{"log":{"access":"stdout","access_sample":0.01}}"#, filter, Some(0.01));
    let level = |config: &Config| config.log.level;
    check_read(r#"{"log":{"level":"off"}}"#, level, log::LevelFilter::Off);
    let proxy = |config: &Config| config.listen.listeners[0].proxy_protocol.as_ref().map(Vec::len);
    check_read(r#"{"load_balancer":{"proxy_protocol":["10.0.0.0/8","::1"]}}"#, proxy, Some(2));
    check_read(r#"{"load_balancer":{"proxy_protocol":null}}"#, proxy, None);
    let no_admin = |config: &Config| config.admin.bind.is_none() && config.admin.socket.is_none();
    check_read(r#"{"admin":{"bind":null,"socket":null}}"#, no_admin, true);
}

#[test]
fn a_server_without_a_name_is_named_after_its_address() {
    let list =
        r#"{"servers":{"list":[{"address":"127.0.0.1:9001"},{"address":"unix:/run/b.sock","backup":true}]}}"#;
    let names =
        |config: &Config| config.servers.list.iter().map(|server| server.name.clone()).collect::<Vec<_>>();
    check_read(list, names, vec!["127.0.0.1:9001".to_owned(), "unix:run-b.sock".to_owned()]);
    let server = parse_server(r#"{"address":"localhost:1","weight":7}"#, Resolve::First).unwrap();
    assert_eq!((server.name.as_str(), server.weight.0), ("localhost:1", 7));
    assert!(parse_server(r#"{"address":"localhost"}"#, Resolve::First).is_err());
    assert!(parse_server("[]", Resolve::First).is_err());
    // A client of the API must not read the environment and files of the balancer.
    let faults = parse_server(r#"{"address":"${HOME}:1"}"#, Resolve::First).unwrap_err();
    assert!(faults[0].advice.contains("variables are for the file alone"), "{}", faults[0]);
}

#[test]
fn relative_paths_start_beside_the_file() {
    let config =
        parse(r#"{"log":{"access":"a.log"},"admin":{"socket":"/run/x"}}"#, Path::new("/etc/ek")).unwrap();
    assert_eq!(
        config.log.access.clone().map(|access| access.to),
        Some(AccessTarget::File("/etc/ek/a.log".into()))
    );
    assert_eq!(config.admin.socket, Some("/run/x".into()));
    assert_eq!(parse("{}", Path::new("/etc/ek")).unwrap().admin.socket, Some("/etc/ek/evenkeel.sock".into()));
    let deep = format!("/{}", "x".repeat(120));
    let socket = parse("{}", Path::new(&deep)).unwrap().admin.socket.unwrap();
    assert!(socket.starts_with(std::env::temp_dir()), "{socket:?}");
    assert!(
        parse(r#"{"admin":{"socket":"a"}}"#, Path::new(&deep)).unwrap_err()[0].advice.contains("at most 107")
    );
}

/// A text with one fault: its path, and a part of the advice.
fn check_fault(text: &str, path: &str, advice: &str) {
    let said = told(text);
    assert_eq!(said.len(), 1, "{text}: {said:#?}");
    assert!(said[0].starts_with(&format!("{path}: ")), "{text}: {} is not at {path}", said[0]);
    assert!(said[0].contains(advice), "{text}: {} does not say {advice}", said[0]);
}

#[test]
fn unknown_and_repeated_fields_are_faults() {
    for (text, path, advice) in [
        (r#"{"treadpool":{}}"#, "treadpool", "did you mean \"threadpool\"?"),
        (r#"{"threadpool":{"max_worker":3}}"#, "threadpool.max_worker", "did you mean \"max_workers\"?"),
        (r#"{"max_workers":3}"#, "max_workers", "did you mean threadpool.max_workers?"),
        (r#"{"load_balancer":{"port":1}}"#, "load_balancer.port", "did you mean \"load_balancer_port\"?"),
        (
            r#"{"load_balancer_port":1}"#,
            "load_balancer_port",
            "did you mean load_balancer.load_balancer_port?",
        ),
        (r#"{"servers":{"routes":[]}}"#, "servers.routes", "did you mean \"routes\" at the top level?"),
        (
            r#"{"retries":{"colour":1}}"#,
            "retries.colour",
            "known here: attempts, budget_percent, budget_min, wait_for_server, on_status",
        ),
        (r#"{"threadpool":{"queue_patience":"1s"}}"#, "threadpool.queue_patience", "queue_max_wait"),
        (r#"{"limits":{"fields":9}}"#, "limits.fields", "headers"),
        (r#"{"log":{"level":"info","level":"info"}}"#, "log.level", "written twice"),
        (r#"{"servers":{"list":[{"address":"a:1","wait":2}]}}"#, "servers.list[0].wait", "unknown key"),
        (r#"{"a\u001bb":1}"#, r"a\u{1b}b", "unknown key"),
    ] {
        check_fault(text, path, advice);
    }
}

#[test]
fn values_of_the_wrong_type_are_faults() {
    for (text, path, advice) in [
        ("[]", "", "expected an object, found a list"),
        (r#"{"servers":null}"#, "servers", "expected an object, found null"),
        (r#"{"servers":{"list":{}}}"#, "servers.list", "expected a list, found an object"),
        (r#"{"servers":{"list":[3]}}"#, "servers.list[0]", "expected an object, found 3"),
        (r#"{"threadpool":{"max_workers":"50"}}"#, "threadpool.max_workers", "write 50 without quotes"),
        (r#"{"threadpool":{"max_workers":null}}"#, "threadpool.max_workers", "expected a number, found null"),
        (r#"{"load_balancer":{"trace":"true"}}"#, "load_balancer.trace", "write true without quotes"),
        (r#"{"load_balancer":{"trace":1}}"#, "load_balancer.trace", "write true or false"),
        (r#"{"timeouts":{"drain":5}}"#, "timeouts.drain", "write \"5s\" or \"5ms\""),
        (r#"{"timeouts":{"drain":"5"}}"#, "timeouts.drain", "write \"5s\" or \"5ms\""),
        (r#"{"timeouts":{"drain":"soon"}}"#, "timeouts.drain", "such as \"5s\""),
        (r#"{"limits":{"head":"16K"}}"#, "limits.head", "\"16KiB\""),
        (r#"{"limits":{"body":true}}"#, "limits.body", "or null"),
        (r#"{"log":{"level":"information"}}"#, "log.level", "write one of \"off\""),
        (r#"{"log":{"level":"inf"}}"#, "log.level", "did you mean \"info\"?"),
        (r#"{"log":{"access":""}}"#, "log.access", "not a valid path"),
        (r#"{"log":{"access":"syslog://here"}}"#, "log.access", "no host and port"),
        (r#"{"log":{"access":"syslog:udp:127.0.0.1:514"}}"#, "log.access", "syslog://HOST:PORT"),
        (r#"{"log":{"access":"syslog:127.0.0.1:514"}}"#, "log.access", "syslog://HOST:PORT"),
        (r#"{"log":{"access_sample":2}}"#, "log.access_sample", "write 0 to 1"),
        (r#"{"log":{"access_format":"xml"}}"#, "log.access_format", "\"combined\""),
        (r#"{"log":{"access_format":"${STATUS} {status}"}}"#, "log.access_format", "STATUS"),
        (r#"{"log":{"access_format":7}}"#, "log.access_format", "expected a string, found 7"),
        (r#"{"log":{"access_format":"{stat}"}}"#, "log.access_format", "{stat}, which is not a field"),
        (r#"{"servers":{"algorithm":"roundrobin"}}"#, "servers.algorithm", "did you mean \"round_robin\"?"),
        (r#"{"admin":{"token":5}}"#, "admin.token", "expected a string, found 5"),
    ] {
        check_fault(text, path, advice);
    }
}

#[test]
fn what_other_programs_write_is_reported_how_to_write_it_here() {
    for (text, path, advice) in [
        (r#"{"servers":[{"address":"a:1"}]}"#, "servers", r#"found a list; write { "list": [ ... ] }"#),
        (r#"{"load_balancer":8000}"#, "load_balancer", r#"write { "load_balancer_port": 8000 }"#),
        (r#"{"servers":{"list":["a:1"]}}"#, "servers.list[0]", r#"write { "address": "a:1" }"#),
        (r#"{"servers":{"list":{"a":1}}}"#, "servers.list", r#"write [ { "address": "host:port" } ]"#),
        (
            r#"{"servers":{"list":[{"host":"127.0.0.1","port":9001}]}}"#,
            "servers.list[0].host",
            r#"host and port are one string; write "address": "127.0.0.1:9001""#,
        ),
        (r#"{"servers":{"list":[{"port":"80","ip":"::1"}]}}"#, "servers.list[0].port", "one string"),
        (r#"{"servers":{"list":[{"url":"a:1"}]}}"#, "servers.list[0].url", r#"write "address": "a:1""#),
        (r#"{"servers":{"list":[{"address":"a:1","port":1}]}}"#, "servers.list[0].port", "one string"),
        (r#"{"servers":{"list":[{"address":"http://a:1"}]}}"#, "servers.list[0].address", r#"write "a:1""#),
        (r#"{"servers":{"list":[{"address":"{$A}:1"}]}}"#, "servers.list[0].address", "placeholder"),
        (
            r#"{"load_balancer":{"load_balancer_port":"$PORT"}}"#,
            "load_balancer.load_balancer_port",
            "write ${NAME}",
        ),
        (
            r#"{"load_balancer":{"load_balancer_port":"0.0.0.0:80"}}"#,
            "load_balancer.load_balancer_port",
            "the port alone",
        ),
        (r#"{"servers":"a:1"}"#, "servers", r#"write { "list": [ ... ] }"#),
        (r#"{"servers":{"list":[{"address":":80"}]}}"#, "servers.list[0].address", r#"write "127.0.0.1:80""#),
        (r#"{"admin":{"token":"${EVENKEEL_NO_TOKEN}"}}"#, "admin.token", "EVENKEEL_NO_TOKEN is not set"),
        (r#"{"admin":{"token":"{env.TOKEN}"}}"#, "admin.token", "placeholder"),
        (r#"{"admin":{"token":"$TOKEN"}}"#, "admin.token", "placeholder"),
        (r#"{"log":{"access":"{env.LOGS}/a.log"}}"#, "log.access", "placeholder"),
    ] {
        check_fault(text, path, advice);
    }
    for (name, ours) in [
        ("least_conn", "least_connections"),
        ("leastconn", "least_connections"),
        ("LEAST_REQUEST", "least_connections"),
        ("ROUND_ROBIN", "round_robin"),
        ("roundrobin", "round_robin"),
        ("rr", "round_robin"),
        ("wrr", "round_robin"),
        ("static-rr", "round_robin"),
        ("source", "ip_hash"),
        ("hash", "ip_hash"),
        ("client_ip_hash", "ip_hash"),
        ("RING_HASH", "ip_hash"),
        ("random", "random_two"),
        ("RANDOM", "random_two"),
        ("p2c", "random_two"),
        ("power_of_two", "random_two"),
        ("random two least_conn", "random_two"),
        ("ewma", "dynamic"),
        ("least_time", "dynamic"),
    ] {
        let text = format!(r#"{{"servers":{{"algorithm":"{name}"}}}}"#);
        check_fault(&text, "servers.algorithm", &format!("did you mean \"{ours}\"?"));
    }
}

#[test]
fn a_fault_of_the_machine_stands_at_the_place_of_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.json");
    std::fs::write(&file, "{\n \"log\": { \"access\": \"x/a.log\" }\n}").unwrap();
    let fault = fault_at(Some(&file), "log.access", "is not there".to_owned());
    assert_eq!((fault.line, fault.column, fault.path.as_str()), (Some(2), Some(21), "log.access"));
    assert_eq!(fault_at(Some(&file), "admin.bind", String::new()).line, None);
    assert_eq!(fault_at(None, "admin.bind", String::new()).file, None);
}

#[test]
fn values_out_of_bounds_are_faults() {
    for (text, path, advice) in [
        (
            r#"{"load_balancer":{"load_balancer_port":70000}}"#,
            "load_balancer.load_balancer_port",
            "0 to 65535",
        ),
        (r#"{"load_balancer":{"load_balancer_port":"x"}}"#, "load_balancer.load_balancer_port", "0 to 65535"),
        (r#"{"load_balancer":{"load_balancer_port":-1}}"#, "load_balancer.load_balancer_port", "too small"),
        (r#"{"load_balancer":{"bind":"localhost"}}"#, "load_balancer.bind", "127.0.0.1"),
        (r#"{"load_balancer":{"bind":"1.2.3.4:80"}}"#, "load_balancer.bind", "goes to load_balancer_port"),
        (r#"{"load_balancer":{"via":"a b"}}"#, "load_balancer.via", "not a valid name"),
        (
            r#"{"load_balancer":{"trusted_proxies":["10.0.0.1/8"]}}"#,
            "load_balancer.trusted_proxies[0]",
            "10.0.0.0/8",
        ),
        (
            r#"{"servers":{"list":[{"address":"a:1","weight":1001}]}}"#,
            "servers.list[0].weight",
            "1001 is too large; write 0 to 1000",
        ),
        (
            r#"{"servers":{"list":[{"address":"a:1","weight":1.5}]}}"#,
            "servers.list[0].weight",
            "not a whole number",
        ),
        (
            r#"{"servers":{"list":[{"address":"a:1","name":"a b"}]}}"#,
            "servers.list[0].name",
            "without spaces",
        ),
        (r#"{"servers":{"list":[{"address":"a:1","name":""}]}}"#, "servers.list[0].name", "1 to 64"),
        (r#"{"servers":{"list":[{"address":"a"}]}}"#, "servers.list[0].address", "no port"),
        (r#"{"servers":{"list":[{"name":"a"}]}}"#, "servers.list[0].address", "is missing"),
        (r#"{"servers":{"health_check":{"path":"health"}}}"#, "servers.health_check.path", "begins with /"),
        (r#"{"servers":{"health_check":{"path":"/a b"}}}"#, "servers.health_check.path", "visible ASCII"),
        (
            r#"{"servers":{"health_check":{"expect_status":"99"}}}"#,
            "servers.health_check.expect_status",
            "100 to 599",
        ),
        (
            r#"{"servers":{"health_check":{"expect_status":"399-200"}}}"#,
            "servers.health_check.expect_status",
            "100 to 599",
        ),
        (r#"{"servers":{"health_check":{"host":"a/b"}}}"#, "servers.health_check.host", "not a valid host"),
        (r#"{"servers":{"ejection":{"max_percent":101}}}"#, "servers.ejection.max_percent", "write 0 to 100"),
        (r#"{"limits":{"headers":257}}"#, "limits.headers", "write 1 to 256"),
        (r#"{"timeouts":{"connect":"0s"}}"#, "timeouts.connect", "write 1ms to 24h"),
        (r#"{"timeouts":{"connect":"2days"}}"#, "timeouts.connect", "write 1ms to 24h"),
        (r#"{"limits":{"head":1}}"#, "limits.head", "write 512B to 1MiB"),
        (r#"{"admin":{"bind":"localhost:9301"}}"#, "admin.bind", "127.0.0.1:9301"),
    ] {
        check_fault(text, path, advice);
    }
}

#[test]
fn contradictions_are_faults() {
    for (text, path, advice) in [
        (
            r#"{"servers":{"list":[{"address":"a:1"},{"address":"a:1"}]}}"#,
            "servers.list[1].address",
            "keep one",
        ),
        (
            r#"{"servers":{"list":[{"address":"a:1"},{"address":"a:2","name":"a:1"}]}}"#,
            "servers.list[1].name",
            "another name",
        ),
        (r#"{"threadpool":{"min_workers":60}}"#, "threadpool.min_workers", "threadpool.max_workers (50)"),
        (r#"{"threadpool":{"min_workers":3,"max_workers":2}}"#, "threadpool.min_workers", "1 to 2 here"),
        (r#"{"threadpool":{"min_workers":60,"max_workers":0}}"#, "threadpool.max_workers", "0 is too small"),
        (r#"{"threadpool":{"queue_timeout":"1ms"}}"#, "threadpool.queue_timeout", "queue_timeout (1ms)"),
        (r#"{"servers":{"ejection":{"max_time":"1s"}}}"#, "servers.ejection.max_time", "base_time (2s)"),
        (
            r#"{"servers":{"list":[{"name":"a","address":"a:1"},{"name":"a","address":"a:2"}]}}"#,
            "servers.list[1].name",
            "servers.list[0] too",
        ),
        (
            r#"{"servers":{"list":[{"name":"a","address":"a:1"},{"name":"b","address":"a:1"}]}}"#,
            "servers.list[1].address",
            "servers.list[0] too",
        ),
        (
            r#"{"servers":{"list":[{"address":"localhost:8000"}]}}"#,
            "servers.list[0].address",
            "the balancer itself",
        ),
        (r#"{"admin":{"bind":"127.0.0.1:8000"}}"#, "admin.bind", "load_balancer_port"),
        (
            r#"{"load_balancer":{"load_balancer_port":9301}}"#,
            "load_balancer.load_balancer_port",
            "9301 is the port of the admin API (admin.bind",
        ),
        (r#"{"admin":{"bind":"0.0.0.0:9301"}}"#, "admin.bind", "write an admin.token"),
        (r#"{"admin":{"socket":null}}"#, "admin.socket", "null for admin.bind"),
    ] {
        check_fault(text, path, advice);
    }
}

#[test]
fn what_only_looks_wrong_is_a_warning() {
    for (text, path) in [
        (
            r#"{"servers":{"health_check":{"interval":"200ms","timeout":"1s"}}}"#,
            "servers.health_check.timeout",
        ),
        (r#"{"limits":{"uri":"32KiB"}}"#, "limits.uri"),
        (r#"{"limits":{"connections":5,"connections_per_address":6}}"#, "limits.connections_per_address"),
        (r#"{"admin":{"token":"short"}}"#, "admin.token"),
        (r#"{"admin":{"token":"change-me-change-me"}}"#, "admin.token"),
        (r#"{"servers":{"list":[{"address":"0.0.0.0:9001"}]}}"#, "servers.list[0].address"),
        (r#"{"servers":{"list":[{"address":"[::]:9001"}]}}"#, "servers.list[0].address"),
        (r#"{"servers":{"list":[{"address":"a:443"}]}}"#, "servers.list[0].address"),
        (r#"{"servers":{"tls":true,"list":[{"address":"a:80"}]}}"#, "servers.list[0].address"),
        (
            r#"{"servers":{"list":[{"address":"a:1","weight":0},{"address":"b:1","weight":0}]}}"#,
            "servers.list",
        ),
        (
            r#"{"servers":{"health_check":{"type":"exec","command":["/c","{ip}"]}}}"#,
            "servers.health_check.command",
        ),
        (r#"{"allow":[]}"#, "allow"),
        (r#"{"allow":["10.0.0.0/8","192.168.0.0/16"],"deny":["0.0.0.0/0"]}"#, "deny"),
    ] {
        let warnings = read(text).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{text}");
        assert_eq!(warnings[0].path, path);
        assert_eq!(warnings[0].line, Some(1));
    }
    for text in [
        r#"{"allow":["10.0.0.0/8"],"deny":["10.1.0.0/16"]}"#,
        r#"{"servers":{"list":[{"address":"a:1","weight":0},{"address":"b:1"}]}}"#,
        r#"{"servers":{"health_check":{"type":"exec","command":["/c","{host}","{\"a\": 1}"]}}}"#,
    ] {
        assert!(read(text).unwrap().warnings.is_empty(), "{text}");
    }
}

#[test]
fn probes_that_say_what_they_expect_are_strict() {
    for (keys, is_strict) in [
        ("", false),
        (r#""method": "HEAD""#, false),
        (r#""expect_body": null"#, false),
        (r#""path": "/up""#, true),
        (r#""expect_status": 200"#, true),
        (r#""expect_body": "ok""#, true),
    ] {
        let config = read(&format!(r#"{{"servers": {{"health_check": {{{keys}}}}}}}"#)).unwrap();
        let Probe::Http(http) = config.servers.health_check.probe else { panic!("{keys}") };
        assert_eq!(http.is_strict, is_strict, "{keys}");
    }
}

#[test]
fn a_change_is_taken_or_every_fault_is_reported() {
    let taken = |text: &str| parse_change(text).unwrap();
    assert_eq!(taken(r#"{"weight": 0}"#), Change { mode: None, weight: Some(Weight(0)) });
    let both = Change { mode: Some(Mode::Maint), weight: Some(Weight(1000)) };
    assert_eq!(taken(r#"{"weight": 1000, "state": "maint"}"#), both);
    let check = |text: &str, expected: &[(&str, &str)]| {
        let faults = parse_change(text).unwrap_err();
        assert_eq!(faults.len(), expected.len(), "{text}: {faults:?}");
        for (path, says) in expected {
            let found = faults.iter().any(|fault| fault.path == *path && fault.advice.contains(says));
            assert!(found, "{text}: {path}: {says}: {faults:?}");
        }
    };
    for text in ["{}", "", " \n"] {
        check(text, &[("", "nothing to change; write \"weight\" or \"state\"")]);
    }
    check("[]", &[("", "expected an object, found a list; write { \"state\": \"drain\" }")]);
    check("// nothing", &[("", "the text has nothing but comments")]);
    for key in ["mode", "status", "enabled", "drain"] {
        let states = "write \"state\": \"ready\", \"drain\" or \"maint\"";
        check(&format!("{{\"{key}\": \"drain\"}}"), &[(key, states)]);
    }
    for (word, meant) in [("up", "ready"), ("Enabled", "ready"), ("down", "maint"), ("offline", "maint")] {
        check(
            &format!("{{\"state\": \"{word}\"}}"),
            &[("state", &format!("is not a state; write \"{meant}\""))],
        );
    }
    check(r#"{"state": "drained"}"#, &[("state", "did you mean \"drain\"? Write one of \"ready\"")]);
    check(r#"{"weight": 1001}"#, &[("weight", "write 0 to 1000")]);
    check(r#"{"weight": "5"}"#, &[("weight", "without quotes")]);
    check(r#"{"weight": 5, "weight": 7}"#, &[("weight", "twice")]);
    check(r#"{"state": "drain", "state": "ready"}"#, &[("state", "twice")]);
    check(
        r#"{"state": "up", "wieght": 1}"#,
        &[("state", "write \"ready\""), ("wieght", "did you mean \"weight\"")],
    );
    check(
        r#"{"address": "a:1", "colour": 1}"#,
        &[("address", "DELETE"), ("colour", "known here: state, weight")],
    );
}

#[test]
fn the_balancer_s_own_addresses_are_no_servers() {
    let check = |address: &str, says: Option<&str>| {
        let text = format!(
            r#"{{"load_balancer":{{"load_balancer_port":8000}},"admin":{{"bind":"127.0.0.1:9301","socket":"a.sock"}},
                "servers":{{"list":[{{"name":"x","address":"{address}"}}]}}}}"#
        );
        let found = parse(&text, Path::new("/run/evenkeel")).err().map(|faults| faults[0].to_string());
        match (&found, says) {
            (Some(found), Some(says)) => assert!(found.contains(says), "{address}: {found}"),
            (found, says) => assert_eq!(found.as_deref(), says, "{address}"),
        }
    };
    check("127.0.0.1:8000", Some("balancer itself"));
    check("[::ffff:127.0.0.1]:8000", Some("balancer itself"));
    check("127.0.0.1:9301", Some("admin port"));
    check("localhost:9301", Some("admin port"));
    check("unix:/run/evenkeel/a.sock", Some("admin socket"));
    check("unix:/run//evenkeel/./a.sock", Some("admin socket"));
    check("unix:/proc/self/fd/7", Some("descriptor"));
    check("127.0.0.1:9001", None);
    check("unix:/run/evenkeel/b.sock", None);
}

#[test]
fn every_fault_is_reported_at_once_with_its_place() {
    let text = r#"{
  "load_balancer": { "load_balancer_port": "x" },
  "servers": {
    "list": [
      { "address": "a:1", "weight": 1.5 },
      { "adress": "a:2" }
    ]
  },
  "timeouts": { "drain": 5, "conect": "1s" },
  "admin": { "socket": null }
}"#;
    let faults = read(text).unwrap_err();
    let places: Vec<_> = faults.iter().map(|fault| (fault.path.as_str(), fault.line, fault.column)).collect();
    assert_eq!(
        places,
        [
            ("load_balancer.load_balancer_port", Some(2), Some(44)),
            ("servers.list[0].weight", Some(5), Some(37)),
            ("servers.list[1].address", Some(6), Some(7)),
            ("servers.list[1].adress", Some(6), Some(9)),
            ("timeouts.drain", Some(9), Some(26)),
            ("timeouts.conect", Some(9), Some(29)),
            ("admin.socket", Some(10), Some(24)),
        ]
    );
    let said = faults[1].to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "5:37: servers.list[0].weight: 1.5 is not a whole number; write 0 to 1000",
            "    5 |       { \"address\": \"a:1\", \"weight\": 1.5 },",
            "      |                                     ^",
        ]
    );
}

#[test]
fn the_number_of_faults_told_is_bounded() {
    let text = format!("[{}]", vec!["{}"; 5000].join(","));
    let faults = read(&format!(r#"{{"servers":{{"list":{text}}}}}"#)).unwrap_err();
    assert_eq!(faults.len(), 201);
    assert!(faults[200].advice.contains("4800 more"), "{}", faults[200]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, advice: &str| {
        let faults = load(&folder.path().join(name)).unwrap_err();
        assert!(faults[0].to_string().contains(advice), "{}", faults[0]);
    };
    check("absent.json", "no such file");
    check("", "this is a folder");
    std::fs::write(folder.path().join("binary.json"), [0xff, 0xfe]).unwrap();
    check("binary.json", "UTF-8");
    std::fs::write(folder.path().join("large.json"), vec![b' '; document::FILE_MAX as usize + 1]).unwrap();
    check("large.json", "larger than 4MiB");
    std::fs::write(folder.path().join("good.json"), SEED).unwrap();
    let config = load(&folder.path().join("good.json")).unwrap();
    assert_eq!(config.file, Some(folder.path().join("good.json")));
}

/// An entry of a list of keys of the document: ``- **`key`** (kind; default; bounds): text``.
pub(in crate::state::config) struct Entry {
    pub(in crate::state::config) key: String,
    kind: String,
    default: Option<serde_json::Value>,
    bounds: String,
    pub(in crate::state::config) text: String,
}

pub(in crate::state::config) fn entries() -> Vec<Entry> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in DOCUMENT.lines() {
        let more = line.strip_prefix("  ").filter(|_| is_open);
        is_open = line.starts_with("- **`") || more.is_some();
        match (more, lines.last_mut()) {
            (Some(more), Some(entry)) => *entry += &format!(" {more}"),
            _ if is_open => lines.push(line.to_owned()),
            _ => {}
        }
    }
    lines.iter().map(|line| entry(line)).collect()
}

fn entry(line: &str) -> Entry {
    let (head, text) = line.split_once("): ").expect(line);
    let (key, of_key) = head.trim_start_matches("- **`").split_once("`** (").expect(line);
    let parts: Vec<&str> = of_key.split("; ").collect();
    let code = |text: &str| text.strip_prefix("default `")?.strip_suffix('`').map(str::to_owned);
    let default = parts.get(1).and_then(|part| code(part));
    let default = default.map(|text| serde_json::from_str(&text).expect(&text));
    let has_default = |part: &&&str| part.starts_with("default ") || **part == "required";
    let bounds = parts[1..].iter().find(|part| !has_default(part)).copied().unwrap_or_default();
    Entry {
        key: key.to_owned(),
        kind: parts[0].to_owned(),
        default,
        bounds: bounds.to_owned(),
        text: text.to_owned(),
    }
}

/// The key that an object of this name must have.
fn required(part: &str, of_listener: bool) -> Option<(&'static str, serde_json::Value)> {
    match part {
        "list[]" => Some(("address", json!("host:1"))),
        "listeners[]" => Some(("port", json!(8000))),
        "tls" if of_listener => Some(("certificates", json!([{ "certificate": "a.pem" }]))),
        "certificates[]" => Some(("certificate", json!("a.pem"))),
        "client_auth" => Some(("ca", json!("ca.pem"))),
        "redirect" => Some(("target", json!("/"))),
        "mirror" => Some(("pool", json!("default"))),
        "split" => Some(("pools", json!({ "default": 1 }))),
        "forward_auth" => Some(("pool", json!("default"))),
        "sticky" => Some(("cookie", json!("server"))),
        "agent_check" => Some(("port", json!(8081))),
        "tracing" => Some(("endpoint", json!("http://localhost:4318"))),
        "rate_limit" | "concurrency_limit" => Some(("requests", json!(1))),
        _ => None,
    }
}

/// A file with one key, and with those that its objects must have; with those alone without a value.
pub(super) fn file_with(key: &str, value: Option<serde_json::Value>) -> String {
    let mut parts = key.rsplit('.');
    let leaf = parts.next().unwrap();
    let mut tree = value.map_or(json!({}), |value| json!({ leaf: value }));
    for part in parts {
        if let Some((key, value)) = required(part, key.starts_with("load_balancer.")) {
            tree.as_object_mut().unwrap().entry(key).or_insert(value);
        }
        tree = match part.strip_suffix("[]") {
            Some(part) => json!({ part: [tree] }),
            None => json!({ part: tree }),
        };
    }
    tree.to_string()
}

/// Every key that the reader knows.
pub(super) fn keys_of_the_reader() -> BTreeSet<String> {
    let source = Source::new(None, r#"{"servers": {"list": [{}]}, "error_pages": {"pages": [{}]}}"#);
    let mut reader = Reader::default();
    refine::config(&mut reader, &tree::parse(&source, 0).unwrap(), Path::new(""));
    reader.schema().clone()
}

#[test]
fn the_document_and_the_schema_have_the_same_keys() {
    let headings = DOCUMENT.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'));
    let headings = headings.filter(|heading| !heading.ends_with("[]")).map(str::to_owned);
    let documented: BTreeSet<String> = entries().into_iter().map(|entry| entry.key).chain(headings).collect();
    // A route has the guards of the top level, which are documented once.
    let is_guard = |key: &str| guards::KEYS.contains(&key.split('.').next().unwrap_or_default());
    let of_route = |key: &String| key.strip_prefix("routes[].").is_some_and(is_guard);
    let known: BTreeSet<String> = keys_of_the_reader().into_iter().filter(|key| !of_route(key)).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_document_has_the_true_defaults() {
    for Entry { key, default, .. } in entries() {
        // A file of passwords is read with the configuration.
        let Some(default) = default.filter(|_| key != "basic_auth.realm") else { continue };
        let file = |value| read(&file_with(&key, value)).unwrap_or_else(|faults| panic!("{}", faults[0]));
        let mut config = file(Some(default));
        // An empty list is a default that is worth a warning.
        config.warnings.clear();
        let of_parts = [
            "routes[]",
            "load_balancer.listeners[]",
            "servers.tls.",
            "servers.sticky.",
            "servers.agent_check.",
            "servers.hedge.",
            "tracing.",
            "rate_limit.",
            "concurrency_limit.",
            "forward_auth.",
            "compression.",
            "error_pages.",
        ];
        if of_parts.iter().any(|part| key.starts_with(part)) {
            let mut other = file(None);
            other.warnings.clear();
            assert_eq!(config, other, "{key}");
            continue;
        }
        if let Probe::Http(http) = &mut config.servers.health_check.probe {
            http.is_strict = false;
        }
        config.servers.load_report.enabled =
            config.servers.load_report.enabled.filter(|_| !key.ends_with("load_report.path"));
        if let Some(server) = config.servers.list.pop() {
            assert_eq!((server.weight.0, server.backup), (1, false));
        }
        assert_eq!(config, Config::default(), "{key}");
    }
}

/// Keys that are not valid alone: another key or a file must be there, or one must not.
const NEED_ANOTHER: &[&str] = &[
    "load_balancer.listeners[].redirect_except",
    "servers.tls.key",
    "servers.tls.crl",
    "servers.sticky.learn",
    "servers.sticky.secret",
];

#[test]
fn the_examples_in_the_entries_of_the_document_are_valid() {
    let (mut count, mut invalid) = (0, Vec::new());
    // Routes have a test of their own, and `include` reads files.
    let is_checked = |key: &str| !key.starts_with("routes[]") && key != "include" && key != "$schema";
    for Entry { key, text, .. } in entries() {
        let key = &*key;
        let leaf = key.rsplit('.').next().unwrap();
        let codes = text.split('`').skip(1).step_by(2);
        for code in codes.filter(|code| is_checked(key) && code.starts_with(&format!("\"{leaf}\": "))) {
            // The document may name what this machine does not have.
            let code =
                code.replace("${ZONE}", "eu").replace("${file:/run/secrets/admin-token}", "0123456789abcdef");
            let example: serde_json::Value = serde_json::from_str(&format!("{{ {code} }}")).expect(&text);
            let file = file_with(key, Some(example[leaf].clone()));
            if let Err(faults) = read(&file) {
                invalid.push((key.to_owned(), faults[0].to_string()));
            }
            count += 1;
        }
    }
    invalid.retain(|(key, _)| !NEED_ANOTHER.contains(&&**key));
    assert!(invalid.is_empty(), "{invalid:#?}");
    assert!(count > 80, "only {count} were found");
}

#[test]
fn the_document_has_the_true_bounds() {
    let mut checked = 0;
    for Entry { key, kind, bounds, .. } in entries().into_iter().filter(|entry| entry.bounds.contains(" to "))
    {
        let excess = match kind.split(' ').next().unwrap() {
            "duration" => json!("99999999h"),
            "size" => json!("9000TiB"),
            "number" => json!(1_000_000_000_000_u64),
            _ => continue,
        };
        let said = told(&file_with(&key, Some(excess)));
        assert!(said[0].contains(&format!("is too large; write {bounds}")), "{key}: {}", said[0]);
        checked += 1;
    }
    assert!(checked > 30);
}

#[test]
fn the_examples_of_the_document_are_valid() {
    let example = DOCUMENT.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let config = read(example).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let user = format!("ann:{}", bcrypt::hash("open", 4).unwrap());
    let pages = [("sorry.html", ""), ("maintenance.html", "")];
    for (name, text) in pages.into_iter().chain([("office.txt", "10.0.0.0/8"), ("users.htpasswd", &*user)]) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    for name in ["conf.d", "sites"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for rest in DOCUMENT.split("```json").skip(2) {
        let example = rest.split("```").next().unwrap();
        parse(example, folder.path()).unwrap_or_else(|faults| panic!("{}", faults[0]));
    }
    assert_eq!(config.servers.list.len(), 3);
    assert!(config.warnings.is_empty());
}

/// Texts that look like a configuration: its keys and values of every type, nested at random.
fn any_tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        "[ -~é\\u{0}-\\u{1f}]{0,12}".prop_map(|text| json!(text)),
        "[0-9]{1,21}(ms|s|h|KiB|TiB|-599|,200|/8|:80)?".prop_map(|text| json!(text)),
    ];
    let keys: Vec<String> = entries()
        .iter()
        .flat_map(|row| row.key.split('.').map(|part| part.replace("[]", "")).collect::<Vec<_>>())
        .collect();
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let key = prop_oneof![9 => prop::sample::select(keys.clone()), 1 => ".{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
            prop::collection::hash_map(key, inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

/// Nothing panics, and every fault can be shown and has a position inside the text.
fn check_text(text: &str) {
    if let Err(faults) = read(text) {
        assert!(!faults.is_empty());
        for fault in faults {
            assert!(!fault.to_string().is_empty());
            assert!(fault.line.unwrap_or(1) <= text.lines().count() + 1);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,200}") {
        check_text(&text);
    }

    #[test]
    fn any_text_like_json_is_read_without_a_panic(text in r#"[\[\]{}:,"\\0-9a-eé\n -]{0,60}"#) {
        check_text(&text);
    }

    #[test]
    fn any_tree_is_read_without_a_panic(tree in any_tree(), cut in 0.0..1.5) {
        let text = serde_json::to_string_pretty(&tree).unwrap();
        check_text(&text);
        let cut = text.chars().count() as f64 * cut;
        check_text(&text.chars().take(cut as usize).collect::<String>());
    }
}
