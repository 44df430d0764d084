//! Examples of values, for messages about a value of another type and about a required key that is missing.

/// Objects by their key, whatever they stand in.
const OBJECTS: &[(&str, &str)] = &[
    ("", "{ \"servers\": { \"list\": [ { \"address\": \"10.0.0.1:8080\" } ] } }"),
    ("load_balancer", "{ \"load_balancer_port\": 8000 }"),
    ("tls", "{ \"certificates\": [ { \"certificate\": \"site.pem\", \"key\": \"site.key\" } ] }"),
    ("client_auth", "{ \"ca\": \"clients.pem\", \"mode\": \"require\" }"),
    ("certificates[]", "{ \"certificate\": \"site.pem\", \"key\": \"site.key\" }"),
    ("listeners[]", "{ \"name\": \"https\", \"port\": 8443 }"),
    ("routes[]", "{ \"path\": \"/v1/*\", \"pool\": \"api\" }"),
    ("redirect", "{ \"status\": 301, \"target\": \"https://{host}{uri}\" }"),
    ("respond", "{ \"status\": 200, \"body\": \"...\" }"),
    ("rewrite", "{ \"strip_prefix\": \"/v1\" }"),
    ("split", "{ \"pools\": { \"stable\": 95, \"canary\": 5 } }"),
    ("mirror", "{ \"pool\": \"shadow\", \"percent\": 10 }"),
    ("request_headers", "{ \"set\": { \"X-Env\": \"staging\" } }"),
    ("response_headers", "{ \"set\": { \"X-Env\": \"staging\" } }"),
    ("rate_limit", "{ \"requests\": 100, \"per\": \"1s\" }"),
    ("concurrency_limit", "{ \"requests\": 10 }"),
    ("basic_auth", "{ \"file\": \"users.htpasswd\" }"),
    ("forward_auth", "{ \"pool\": \"auth\", \"path\": \"/check\" }"),
    ("error_pages", "{ \"pages\": [ { \"status\": \"500-599\", \"file\": \"sorry.html\" } ] }"),
    ("pages[]", "{ \"status\": \"500-599\", \"file\": \"sorry.html\" }"),
    ("compression", "{ \"codings\": [ \"zstd\", \"gzip\" ] }"),
    ("health_check", "{ \"path\": \"/health\", \"interval\": \"2s\" }"),
    ("agent_check", "{ \"port\": 9777 }"),
    ("ejection", "{ \"consecutive_failures\": 5 }"),
    ("hash", "{ \"by\": \"client\" }"),
    ("sticky", "{ \"cookie\": \"session\" }"),
    ("expect", "{ \"status\": \"200-399\" }"),
    ("pool", "{ \"idle\": 100, \"idle_time\": \"30s\" }"),
    ("threadpool", "{ \"min_workers\": 1, \"max_workers\": 50 }"),
    ("timeouts", "{ \"connect\": \"2s\", \"response\": \"30s\" }"),
    ("limits", "{ \"body\": \"10MiB\" }"),
    ("retries", "{ \"attempts\": 1 }"),
    ("log", "{ \"level\": \"info\", \"access\": \"access.log\" }"),
    ("admin", "{ \"bind\": \"127.0.0.1:9301\" }"),
    ("tracing", "{ \"endpoint\": \"http://127.0.0.1:4318/v1/traces\" }"),
];

/// Values of required keys.
const VALUES: &[(&str, &str)] = &[
    ("address", "\"10.0.0.1:8080\""),
    ("port", "8443"),
    ("certificate", "\"site.pem\""),
    ("ca", "\"ca.pem\""),
    ("target", "\"https://{host}{uri}\""),
    ("pool", "\"api\""),
    ("requests", "100"),
    ("status", "\"500-599\""),
    ("endpoint", "\"http://127.0.0.1:4318/v1/traces\""),
];

/// Lists by their key.
const LISTS: &[(&str, &str)] = &[
    ("methods", "[ \"GET\" ]"),
    ("client", "[ \"10.0.0.0/8\" ]"),
    ("allow", "[ \"10.0.0.0/8\" ]"),
    ("deny", "[ \"10.0.0.0/8\" ]"),
    ("trusted_proxies", "[ \"10.0.0.0/8\" ]"),
    ("proxy_protocol", "[ \"10.0.0.0/8\" ]"),
];

/// An object for this place, such as `routes[].rate_limit`.
pub(super) fn object(place: &str) -> Option<&'static str> {
    of(OBJECTS, place)
}

/// A value of the key at this place.
pub(super) fn value(place: &str) -> Option<&'static str> {
    match place.strip_suffix(".file") {
        Some(object) if object.ends_with("basic_auth") => Some("\"users.htpasswd\""),
        Some(object) if object.ends_with("pages[]") => Some("\"sorry.html\""),
        _ => of(VALUES, place),
    }
}

/// A list for this place.
pub(super) fn list(place: &str) -> Option<&'static str> {
    of(LISTS, place)
}

fn of(table: &[(&str, &'static str)], place: &str) -> Option<&'static str> {
    let key = place.rsplit('.').next().unwrap_or_default();
    table.iter().find(|(known, _)| *known == key).map(|(_, example)| *example)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// A file with the example at its place.
    fn file(key: &str, example: &str) -> String {
        let pools =
            "\"pools\": { \"api\": {}, \"auth\": {}, \"stable\": {}, \"canary\": {}, \"shadow\": {} }";
        match key {
            "" => example.to_owned(),
            "tls" => {
                format!(r#"{{ "load_balancer": {{ "listeners": [ {{ "port": 1, "tls": {example} }} ] }} }}"#)
            }
            "listeners[]" => format!(r#"{{ "load_balancer": {{ "listeners": [ {example} ] }} }}"#),
            "certificates[]" => file("tls", &format!("{{ \"certificates\": [ {example} ] }}")),
            "client_auth" => file(
                "tls",
                &format!(r#"{{ "certificates": [ {{ "certificate": "a" }} ], "client_auth": {example} }}"#),
            ),
            "routes[]" => format!("{{ \"routes\": [ {example} ], {pools} }}"),
            "pages[]" => file("error_pages", &format!("{{ \"pages\": [ {example} ] }}")),
            "redirect" | "respond" | "rewrite" | "split" | "mirror" | "request_headers"
            | "response_headers" => {
                format!("{{ \"routes\": [ {{ \"path\": \"/v1/*\", \"{key}\": {example} }} ], {pools} }}")
            }
            "health_check" | "agent_check" | "ejection" | "hash" | "sticky" | "expect" | "pool" => {
                format!(r#"{{ "servers": {{ "{key}": {example} }} }}"#)
            }
            "proxy_protocol" | "trusted_proxies" => {
                format!(r#"{{ "load_balancer": {{ "{key}": {example} }} }}"#)
            }
            "methods" | "client" => format!("{{ \"routes\": [ {{ \"{key}\": {example} }} ] }}"),
            _ => format!("{{ \"{key}\": {example}, {pools} }}"),
        }
    }

    #[test]
    fn what_is_advised_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sorry.html"), "sorry").unwrap();
        std::fs::write(
            folder.path().join("users.htpasswd"),
            "a:$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe",
        )
        .unwrap();
        for (key, example) in OBJECTS.iter().chain(LISTS) {
            let text = file(key, example);
            if let Err(faults) = parse(&text, folder.path()) {
                panic!("{key}: {}\n{text}", faults[0]);
            }
        }
    }

    #[test]
    fn a_place_finds_its_example() {
        assert_eq!(object("routes[].rate_limit"), object("rate_limit"));
        assert!(object("nothing").is_none());
        assert_eq!(value("servers.list[].address"), Some("\"10.0.0.1:8080\""));
        assert_eq!(value("basic_auth.file"), Some("\"users.htpasswd\""));
    }
}
