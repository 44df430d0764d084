//! Servers that come, change and go, and what is rejected of such changes.

use super::*;

#[test]
fn a_server_s_state_is_one_word_and_the_operator_s_comes_first() {
    let fixture = Fixture::new();
    let a = fixture.table.find("a").unwrap();
    let state = || fixture.get("/api/v1/servers/a").json()["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "starting");
    for (health, word) in
        [(Health::Up, "up"), (Health::Down, "down"), (Health::Ejected { until: Moment::NEVER }, "ejected")]
    {
        fixture.table.set_health(&a, health);
        assert_eq!(state(), word);
    }
    for (wish, word) in [("drain", "drain"), ("maint", "maint"), ("ready", "ejected")] {
        let changed = fixture.change("PATCH /api/v1/servers/a", &format!(r#"{{"state":"{wish}"}}"#));
        assert_eq!((changed.status, changed.json()["state"].as_str()), (200, Some(word)));
        assert_eq!(state(), word);
    }
    assert_eq!(*fixture.registered.lock(), ["a"; 3], "the health thread is told of each");
}

#[test]
fn servers_come_change_and_go() {
    let fixture = Fixture::new();
    let created = fixture.change("POST /api/v1/servers", r#"{"name":"c&d","address":"127.0.0.1:9003"}"#);
    assert_eq!((created.status, &*created.fields["location"]), (201, "/api/v1/servers/c%26d"));
    assert_eq!(created.json()["address"], "127.0.0.1:9003");
    let names = fixture.get("/api/v1/servers").json();
    let names: Vec<_> =
        names["servers"].as_array().unwrap().iter().map(|server| server["name"].clone()).collect();
    assert_eq!(names, ["a", "b", "c&d"]);
    let changed = fixture.change("PATCH /api/v1/servers/c%26d", r#"{"weight":0}"#);
    assert_eq!((changed.status, &changed.json()["weight"]), (200, &0.into()));
    let again = fixture.change("POST /api/v1/servers", r#"{"name":"c&d","address":"127.0.0.1:9003"}"#);
    assert_eq!((again.status, &again.json()["weight"]), (200, &0.into()), "the operator's weight stays");
    let again =
        fixture.change("POST /api/v1/servers", r#"{"name":"c&d","address":"127.0.0.1:9003","weight":9}"#);
    assert_eq!((again.status, &again.json()["weight"]), (200, &9.into()));
    assert_eq!(*fixture.registered.lock(), ["c&d"; 3]);
    let id = fixture.table.find("c&d").unwrap().id;
    let removed = fixture.change("DELETE /api/v1/servers/c%26d", "");
    assert_eq!((removed.status, &removed.json()["name"]), (200, &"c&d".into()));
    assert_eq!(*fixture.forgotten.lock(), [id]);
    for line in ["GET", "PATCH", "DELETE"] {
        let body = if line == "PATCH" { r#"{"weight":1}"# } else { "" };
        fixture.change(&format!("{line} /api/v1/servers/c%26d"), body).check(404, "no server named \"c&d\"");
    }
}

#[test]
fn each_pool_has_its_servers() {
    let fixture = Fixture::of(
        r#"{"servers":{"list":[{"name":"a","address":"127.0.0.1:9001"}]},
            "pools":{"api":{"algorithm":"round_robin","list":[{"name":"a","address":"127.0.0.1:9001"}]}}}"#,
    );
    let names = |path: &str| {
        let list = fixture.get(path).json();
        let name = |server: &Value| format!("{} {}", server["pool"], server["name"]).replace('"', "");
        list["servers"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("/api/v1/servers"), ["default a", "api a"]);
    assert_eq!(names("/api/v1/pools/default/servers"), ["default a"]);
    let added =
        fixture.change("POST /api/v1/pools/api/servers", r#"{"name":"b","address":"127.0.0.1:9002"}"#);
    assert_eq!((added.status, &*added.fields["location"]), (201, "/api/v1/pools/api/servers/b"));
    assert_eq!(names("/api/v1/pools/api/servers"), ["api a", "api b"]);
    let changed = fixture.change("PATCH /api/v1/pools/api/servers/a", r#"{"weight":7}"#);
    assert_eq!((changed.status, &changed.json()["weight"]), (200, &7.into()));
    assert_eq!(fixture.get("/api/v1/servers/a").json()["weight"], 1, "the other one is another server");
    assert_eq!(fixture.change("DELETE /api/v1/pools/api/servers/a", "").status, 200);
    assert_eq!(names("/api/v1/servers"), ["default a", "api b"]);
    let pools = fixture.get("/api/v1/pools").json();
    let pool = |at: usize| json!(["name", "algorithm", "servers"].map(|key| pools["pools"][at][key].clone()));
    assert_eq!(pool(0), json!(["default", "dynamic", 1]));
    assert_eq!(pool(1), json!(["api", "round_robin", 1]));
    fixture.change("GET /api/v1/pools/nope/servers", "").check(404, "no pool named \"nope\"");
    fixture.change("GET /api/v1/pools/api/servers/a", "").check(404, "no server named \"a\"");
}

#[test]
fn what_the_file_rejects_the_api_rejects() {
    let fixture = Fixture::new();
    let socket = fixture.socket.display().to_string();
    for (address, says) in [
        ("127.0.0.1:8000", "balancer itself"),
        ("localhost:8000", "balancer itself"),
        ("127.0.0.1:9301", "admin port"),
        (&*format!("unix:{socket}"), "admin socket"),
        (&format!("unix:/{socket}"), "admin socket"),
        (&format!("unix:{}", fixture.published.display()), "descriptor"),
        ("unix:/x\\nFORGED", "control character"),
        ("unix:/x\\u202e", "control character"),
        ("a\\u0000:80", "not allowed"),
    ] {
        let rejected =
            fixture.change("POST /api/v1/servers", &format!(r#"{{"name":"x","address":"{address}"}}"#));
        assert!(rejected.status == 400 && rejected.body.contains(says), "{address}: {rejected:?}");
    }
    fixture.change("PATCH /api/v1/servers/a", r#"{"weight":5,"weight":7}"#).check(400, "a fault");
    let added = fixture.change("POST /api/v1/servers", r#"{"name":"z","address":"127.0.0.1:9","weight":0}"#);
    assert_eq!((added.status, &added.json()["weight"]), (201, &0.into()));
    assert_eq!(fixture.call("DELETE /api/v1/servers/z", &[], "").status, 200, "no body, no type");
}

#[test]
fn what_contradicts_the_table_is_a_conflict() {
    let fixture = Fixture::new();
    for (body, says) in [
        (r#"{"name":"a","address":"127.0.0.1:9009"}"#, "name a is taken by the server at 127.0.0.1:9001"),
        (r#"{"name":"z","address":"127.0.0.1:9001"}"#, "address 127.0.0.1:9001 is taken by the server a"),
        (r#"{"name":"a","address":"127.0.0.1:9001","backup":true}"#, "backup: false"),
    ] {
        fixture.change("POST /api/v1/servers", body).check(409, says);
    }
    assert!(fixture.registered.lock().is_empty());
}

#[test]
fn every_fault_of_a_body_is_reported() {
    let fixture = Fixture::new();
    let body = r#"{"name":"x y","adress":"127.0.0.1:9001","weight":1001}"#;
    let rejected = fixture.change("POST /api/v1/servers", body);
    rejected.check(400, "4 faults");
    let said = rejected.json();
    let paths: HashSet<_> =
        said["faults"].as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    assert_eq!(paths, HashSet::from(["name", "adress", "address", "weight"]));
    assert!(rejected.body.contains("did you mean \\\"address\\\""), "{rejected:?}");
    fixture.change("POST /api/v1/servers", "").check(400, "fault");
    fixture.change("PATCH /api/v1/servers/a", r#"{"state":"up"}"#).check(400, "a fault");
}

#[test]
fn what_is_not_there_is_404_and_what_cannot_be_done_405() {
    let fixture = Fixture::new();
    for path in ["/api/v1", "/api/v1/nothing", "/api/v1/servers/", "/api/v1/servers/a/b"] {
        fixture.get(path).check(404, "nothing at this path");
    }
    fixture.get("/api/v1/servers/%zz").check(400, "percent-encoded");
    let text = fixture.get("/nothing");
    assert!(text.status == 404 && text.fields["content-type"].starts_with("text/plain"));
    for (line, allow) in [
        ("POST /live", "GET, HEAD"),
        ("DELETE /api/v1/servers", "GET, HEAD, POST"),
        ("PUT /api/v1/servers/a", "GET, HEAD, PATCH, DELETE"),
        ("OPTIONS /api/v1/status", "GET, HEAD"),
        ("get /ready", "GET, HEAD"),
    ] {
        let rejected = fixture.call(line, &[], "");
        assert_eq!((rejected.status, &*rejected.fields["allow"]), (405, allow), "{line}");
    }
}

#[test]
fn a_name_stands_for_its_members() {
    let fixture =
        Fixture::of(r#"{"servers":{"list":[{"name":"web","address":"web.test:80","resolve":"all"}]}}"#);
    let name = fixture.table.find("web").unwrap();
    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
    fixture.table.set_members(&name, &[at(1), at(2)]);
    let status = fixture.get("/api/v1/status").json();
    let servers = status["servers"].as_array().unwrap();
    let shown: Vec<_> = servers
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["address"].as_str().unwrap(), &one["member_of"]))
        .collect();
    assert_eq!(
        shown,
        [("web@10.0.0.1", "10.0.0.1:80", &json!("web")), ("web@10.0.0.2", "10.0.0.2:80", &json!("web"))]
    );
    assert_eq!(status["names"][0]["members"], json!(["web@10.0.0.1", "web@10.0.0.2"]));
    let metrics = fixture.get("/metrics").body;
    assert!(
        metrics.contains(
            "evenkeel_server_info{pool=\"default\",server=\"web@10.0.0.1\",address=\"10.0.0.1:80\""
        )
    );
    let reply = fixture.change("PATCH /api/v1/servers/web", r#"{"state": "drain", "weight": 7}"#);
    assert_eq!((reply.status, &reply.json()["mode"]), (200, &json!("drain")));
    fixture.table.set_members(&name, &[at(2), at(3)]);
    for member in ["web@10.0.0.2", "web@10.0.0.3"] {
        let one = fixture.get(&format!("/api/v1/servers/{member}")).json();
        assert_eq!(
            (&one["mode"], &one["weight"], &one["origin"]),
            (&json!("drain"), &json!(7), &json!("file"))
        );
    }
    let changes = fixture.get("/api/v1/changes").json();
    assert_eq!(
        changes["pools"]["default"].as_object().unwrap().len(),
        1,
        "one change of the name: {changes}"
    );
    assert_eq!(fixture.call("DELETE /api/v1/servers/web@10.0.0.2", &[], "").status, 409);
    assert_eq!(fixture.change("PATCH /api/v1/servers/web@10.0.0.2", r#"{"state": "ready"}"#).status, 200);
    assert_eq!(fixture.table.find("web@10.0.0.3").unwrap().mode().name(), "drain");
    assert_eq!(fixture.call("DELETE /api/v1/servers/web", &[], "").status, 200);
    assert_eq!(fixture.get("/api/v1/servers").json(), json!({ "servers": [], "names": [] }));
    let body = r#"{"name":"more","address":"more.test:80","resolve":"all"}"#;
    assert_eq!(fixture.change("POST /api/v1/servers", body).status, 201);
    assert_eq!(fixture.change("POST /api/v1/servers", body).status, 200, "again");
}
