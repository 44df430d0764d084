//! The sockets of the API, panics, stops and upgrades.

use super::*;

#[test]
fn both_ways_survive_the_loss_of_the_socket_s_file() {
    let fixture = Fixture::new();
    let mut old = fixture.connect();
    // What was connected goes on, and is never idle for so long that it is closed for that.
    let mut asks_old = || {
        old.get_mut().write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(reply(&mut old, false).status, 200);
    };
    // A connection without a first request has less time than one between two requests.
    asks_old();
    std::fs::remove_file(&fixture.socket).unwrap();
    let published = Fixture::call_on(Fixture::connect_at(&fixture.published), "GET /api/v1/status", &[], "");
    assert_eq!(published.status, 200);
    let deadline = time::now().after(LONGEST_WAIT);
    while !fixture.socket.exists() {
        assert!(time::now() < deadline, "the file does not come back");
        asks_old();
        let _ = crossbeam_channel::after(Duration::from_millis(20)).recv();
    }
    assert_eq!(fixture.get("/live").status, 200);
    asks_old();
}

#[test]
fn a_panic_costs_one_request() {
    let fixture = Fixture::new();
    fixture.proxy.panicking.store(true, Ordering::SeqCst);
    for _ in 0..2 * bounds().helpers {
        fixture.get("/api/v1/status").check(500, "The log has the details");
    }
    fixture.proxy.panicking.store(false, Ordering::SeqCst);
    assert_eq!(fixture.get("/api/v1/status").status, 200);
}

#[test]
fn a_stop_removes_the_socket_and_another_start_finds_its_place() {
    let mut fixture = Fixture::new();
    let idle = fixture.connect();
    fixture.stop();
    assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().count(), 0, "nothing is left");
    drop(idle);
    let config = config::parse("{}", fixture.folder.path()).unwrap();
    let next = Fixture::with(config, tempfile::tempdir().unwrap());
    assert_eq!(next.get("/live").status, 200);
}

#[test]
fn no_second_balancer_takes_a_living_one_s_socket() {
    let fixture = Fixture::new();
    let view = View {
        published: Arc::default(),
        table: Arc::clone(&fixture.table),
        events: Arc::default(),
        history: Arc::default(),
        stats: Arc::clone(&fixture.stats),
        workers: Arc::clone(&fixture.proxy) as Arc<dyn Workers>,
        instance: Instance::default(),
        started: time::now(),
        registered: Arc::new(|_| ()),
        forgotten: Arc::new(|_| ()),
        changed: Arc::new(|| ()),
        reload: Reload::new(|| Ok(Reloaded::default()), || Ok(Reloaded::default())),
        reloads: Arc::default(),
        upgrading: Arc::new(Upgrading::new(None)),
        takes_over: false,
    };
    assert!(open(view).err().unwrap().contains("another process listens"));
    assert_eq!(fixture.get("/live").status, 200);
}

#[test]
fn during_an_upgrade_nothing_else_is_changed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/api/v1/upgrade").json(), serde_json::json!({"state": "none"}));
    assert_eq!(fixture.change("POST /api/v1/upgrade", "{}").status, 202);
    assert_eq!(fixture.get("/api/v1/upgrade").json(), serde_json::json!({"state": "running"}));
    fixture.change("POST /api/v1/upgrade", "{}").check(409, "going on already");
    let server = r#"{"name": "late", "address": "127.0.0.1:1"}"#;
    fixture.change("POST /api/v1/servers", server).check(503, "An upgrade is going on");
    assert!(fixture.table.find("late").is_none());
}
