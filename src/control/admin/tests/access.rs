//! Who may do what: browsers, tokens, the socket and the port.

use super::*;

#[test]
fn changes_that_a_browser_was_led_to_are_rejected() {
    let fixture = Fixture::new();
    const JSON: &str = "Content-Type: application/json";
    let delete = |fields: &[&str]| fixture.call("DELETE /api/v1/servers/a", fields, "");
    fixture.call("POST /api/v1/servers", &[], "{}").check(415, "application/json");
    fixture.call("PATCH /api/v1/servers/a", &[], "{}").check(415, "application/json");
    fixture.call("DELETE /api/v1/servers/a", &[], "{}").check(415, "application/json");
    delete(&[JSON, JSON]).check(400, "Content-Type is there twice");
    delete(&[JSON, "Host: 127.0.0.1:9301", "Origin: http://127.0.0.1:3000"]).check(403, "other web sites");
    delete(&[JSON, "Origin: null"]).check(403, "other web sites");
    delete(&[JSON, "Sec-Fetch-Site: cross-site"]).check(403, "other web sites");
    delete(&[JSON, "Host: evil.example", "Origin: http://evil.example"]).check(403, "Host");
    assert_eq!(delete(&[JSON, "Host: a", "Host: b"]).status, 400);
    fixture.call("GET /api/v1/status", &["Host: evil.example"], "").check(403, "Host");
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(fixture.call(&format!("GET {path}"), &["Host: lb.example"], "").status, 200);
    }
    assert!(fixture.table.find("a").is_some());
    let own = [
        "content-type: Application/JSON; charset=utf-8",
        "Host: 127.0.0.1:9301",
        "Origin: http://127.0.0.1:9301",
    ];
    assert_eq!(delete(&own).status, 200);
}

#[test]
fn a_token_is_asked_for_everywhere_but_at_the_probes() {
    let fixture = Fixture::of(r#"{"admin":{"token":"0123456789abcdef"}}"#);
    for path in ["/", "/metrics", "/api/v1/status", "/api/v1/servers/a", "/nothing"] {
        for fields in
            [&[][..], &["Authorization: Bearer 0123456789abcdeX"], &["Authorization: Basic 0123456789abcdef"]]
        {
            let rejected = fixture.call(&format!("GET {path}"), fields, "");
            assert_eq!(rejected.status, 401, "{path}");
            assert!(rejected.fields["www-authenticate"].starts_with("Bearer"));
        }
        assert_ne!(
            fixture.call(&format!("GET {path}"), &["authorization: bearer 0123456789abcdef"], "").status,
            401
        );
    }
    assert_eq!((fixture.get("/live").status, fixture.get("/ready").status), (200, 200));
    let fields = ["Authorization: Bearer 0123456789abcdef", "Host: lb.example"];
    assert_eq!(
        fixture.call("GET /api/v1/status", &fields, "").status,
        200,
        "any name is accepted with the token"
    );
}

#[test]
fn an_open_balancer_without_a_token_is_changed_from_the_socket_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config::parse("{}", folder.path()).unwrap();
    config.admin.bind = Some("0.0.0.0:9301".parse().unwrap());
    let fixture = Fixture::with(config, folder);
    let body = r#"{"address":"127.0.0.1:9001"}"#;
    let json = "Content-Type: application/json";
    let published =
        |line, body| Fixture::call_on(Fixture::connect_at(&fixture.published), line, &[json], body);
    published("POST /api/v1/servers", body).check(403, "admin.token");
    assert_eq!(published("GET /api/v1/status", "").status, 200);
    assert_eq!(fixture.call("POST /api/v1/servers", &[json], body).status, 201);
}
