//! The dashboard in a headless Chromium: what it shows, its buttons, narrow and dark, and no error in its console.
//! Skipped, with a line that says so, where no Chromium is installed or it cannot be run.

use crate::support::browser::{self, Browser, NAMED_BY};
use crate::support::port::Port;
use crate::support::{Client, Evenkeel, Origin, until};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A name that would be an element if it were taken for HTML.
const HOSTILE: &str = "<img-src=x>";

/// A browser, unless there is none on this machine.
fn chromium() -> Option<Browser> {
    let Some(program) = browser::installed() else {
        eprintln!("SKIPPED: no Chromium is installed; install one, or name it with {NAMED_BY}");
        return None;
    };
    let browser = Browser::start(&program);
    if browser.is_none() {
        eprintln!("SKIPPED: {} ends before it responds", program.display());
    }
    browser
}

fn balancer(origins: &[&Origin], admin: &Port, more: Value) -> Evenkeel {
    let place = json!({ "admin": { "socket": crate::support::balancer::ADMIN, "bind": admin.address().to_string() } });
    let hostile = json!({ "list": [{ "name": HOSTILE, "address": origins[0].address().to_string() }],
        "health_check": { "enabled": false } });
    let base = crate::support::balancer::with(place, json!({ "pools": { "second": hostile } }));
    Evenkeel::before(origins, crate::support::balancer::with(base, more))
}

/// A server of the default pool, as the API shows it.
fn server(balancer: &Evenkeel, name: &str) -> Value {
    let mut stream = UnixStream::connect(balancer.folder().join(crate::support::balancer::ADMIN)).unwrap();
    let head = format!("GET /api/v1/servers/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The button with this accessible name, as an expression.
fn button(label: &str) -> String {
    format!("document.querySelector('button[aria-label=\"{label}\"]')")
}

#[test]
fn the_dashboard_shows_the_balancer_and_its_buttons_change_it() {
    let Some(mut browser) = chromium() else { return };
    let (one, other, admin) = (Origin::responds("one"), Origin::responds("other"), Port::reserve());
    let balancer = balancer(&[&one, &other], &admin, json!({}));
    browser.resize(1280, 1000, false);
    browser.open(&format!("http://{}/", admin.address()));
    browser.wait("document.querySelectorAll('.pool tbody tr').length === 3");
    browser.wait("document.getElementById('live').textContent === 'live'");
    let names = "[...document.querySelectorAll('.name')].map((name) => name.textContent)";
    assert_eq!(browser.value(names), json!(["a", "b", HOSTILE]));
    assert_eq!(browser.value("document.querySelectorAll('main img').length"), 0, "a name is text");
    let mut client = Client::to(&balancer);
    until("the traffic is shown", || {
        (0..20).for_each(|_| assert_eq!(client.get("/").status, 200));
        browser.value("document.querySelector('#traffic .big').firstChild.textContent !== '0'") == true
    });

    // A drain asks first, and Escape is no.
    browser.value(&format!("{}.focus()", button("Drain: a")));
    browser.press("Enter", 13, "\r");
    browser.wait("document.getElementById('dialog').open");
    browser.press("Escape", 27, "");
    browser.wait("!document.getElementById('dialog').open");
    assert_eq!(server(&balancer, "a")["mode"], "ready");
    browser.value(&format!("{}.click()", button("Drain: a")));
    browser.wait("document.getElementById('dialog').open");
    browser.value("document.getElementById('dialog-ok').click()");
    browser.wait(&format!("{} !== null", button("Make ready: a")));
    until("it drains", || server(&balancer, "a")["mode"] == "drain");
    // A snapshot from before the change may have put the other button there for a moment.
    browser.wait(&format!("{0} !== null && ({0}.click(), true)", button("Make ready: a")));
    browser.wait(&format!("{} !== null", button("Drain: a")));
    until("it is ready", || server(&balancer, "a")["mode"] == "ready");

    // A weight that is not valid is explained; a valid one is set.
    browser.value(&format!("{}.click()", button("Weight of b: 1. Change it")));
    let set = |weight: &str| {
        format!(
            "document.getElementById('dialog-input').value = '{weight}'; document.getElementById('dialog-ok').click()"
        )
    };
    browser.value(&set("7"));
    browser.wait("!document.getElementById('dialog').open");
    until("it is set", || server(&balancer, "b")["weight"] == 7);
    browser.wait("document.getElementById('events').textContent.includes('server b was given weight 7')");

    browser.value("document.getElementById('filter').value = 'img'; document.getElementById('filter').dispatchEvent(new Event('input'))");
    assert_eq!(browser.value("document.querySelectorAll('.pool tbody tr:not([hidden])').length"), 1);
    browser.value("document.getElementById('filter').value = ''; document.getElementById('filter').dispatchEvent(new Event('input'))");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, width, is_dark) in
        [("light", 1280, false), ("dark", 1280, true), ("narrow", 400, false), ("narrow-dark", 400, true)]
    {
        browser.resize(width, 1000, is_dark);
        let wide = browser.value("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{name}: nothing beside the page, {wide}");
        let dark = browser.value("matchMedia('(prefers-color-scheme: dark)').matches");
        assert_eq!(dark, is_dark, "{name}");
        let png = browser.picture(&folder.join(format!("dashboard-{name}.png")));
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000, "{name}: {} bytes", png.len());
    }
    assert_eq!(browser.errors, Vec::<String>::new());
}

/// The colours of a theme, by their names.
fn colours(theme: &str) -> HashMap<&str, [f64; 3]> {
    let part = |hex: &str, at: usize| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
    let named = theme.split("--").filter_map(|each| each.split_once(": #"));
    let whole = named.filter_map(|(name, rest)| Some((name, rest.split_once(';')?.0)));
    let six = whole.filter(|(_, hex)| hex.len() == 6);
    six.map(|(name, hex)| (name, [part(hex, 0), part(hex, 2), part(hex, 4)])).collect()
}

/// WCAG 2.2 asks for 4.5 between text and what is behind it.
#[test]
fn states_can_be_read_in_both_themes() {
    let style = include_str!("../../src/control/admin/dashboard/style.css");
    let (light, dark) = style.split_once("prefers-color-scheme: dark").unwrap();
    let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
    let luminance = |of: [f64; 3]| 0.2126 * linear(of[0]) + 0.7152 * linear(of[1]) + 0.0722 * linear(of[2]);
    for theme in [light, dark.split_once("* {").unwrap().0] {
        let colours = colours(theme);
        for state in ["good", "warn", "bad", "info"] {
            let (text, back) = (luminance(colours[state]), luminance(colours[&*format!("{state}-soft")]));
            let contrast = (text.max(back) + 0.05) / (text.min(back) + 0.05);
            assert!(contrast >= 4.5, "{state}: {contrast:.2}");
        }
    }
}

#[test]
fn the_dashboard_asks_for_the_token_once() {
    let Some(mut browser) = chromium() else { return };
    let (origin, admin) = (Origin::responds("one"), Port::reserve());
    let balancer = balancer(&[&origin], &admin, json!({ "admin": { "token": "0123456789abcdef" } }));
    browser.open(&format!("http://{}/dashboard", admin.address()));
    browser.wait("document.getElementById('dialog')?.open === true");
    assert_eq!(browser.value("document.querySelectorAll('.pool').length"), 0);
    assert_eq!(browser.errors, Vec::<String>::new(), "no call before the token is known");
    let give = |token: &str| {
        format!(
            "document.getElementById('dialog-input').value = '{token}'; document.getElementById('dialog-ok').click()"
        )
    };
    browser.value(&give("wrong-wrong-wrong"));
    browser.wait("!document.getElementById('dialog-fault').hidden");
    let selected = "(field => field.selectionEnd - field.selectionStart)(document.activeElement)";
    assert_eq!(browser.value(selected), "wrong-wrong-wrong".len(), "what is typed next replaces it");
    browser.value(&give("0123456789abcdef"));
    browser.wait("document.getElementById('live').textContent === 'live'");
    browser.call("Page.reload", json!({}));
    browser.wait("document.getElementById('live')?.textContent === 'live'");
    assert_eq!(browser.value("document.getElementById('dialog').open"), false);

    // What is shown is marked as old once the balancer has gone.
    assert_eq!(browser.value("document.body.className"), "");
    drop(balancer);
    browser.wait("document.body.className === 'stale'");
    browser.wait("document.getElementById('live').textContent === 'no data'");
}

#[test]
fn the_dashboard_shows_the_tiers_of_a_pool_and_where_a_server_belongs() {
    let Some(mut browser) = chromium() else { return };
    let (origins, admin) = ([(); 4].map(|()| Origin::responds("ok")), Port::reserve());
    let address = |at: usize| origins[at].address().to_string();
    let web = format!("localhost:{}", origins[0].address().port());
    let list = json!([
        { "name": "web", "address": web, "resolve": "all", "zone": "eu-west-1a" },
        { "name": "far", "address": address(1), "zone": "eu-west-1b" },
        { "name": "later", "address": address(2), "priority": 1 },
        { "name": "spare", "address": address(3), "backup": true },
    ]);
    let _balancer = Evenkeel::start(json!({
        "load_balancer": { "zone": "eu-west-1a" }, "servers": { "list": list },
        "pools": { "flat": { "slow_start": "1h", "list": [
            { "name": "only", "address": address(1) }, { "name": "beside", "address": address(2) },
        ] } },
        "admin": { "socket": crate::support::balancer::ADMIN, "bind": admin.address().to_string() },
    }));
    browser.resize(1280, 1000, false);
    browser.open(&format!("http://{}/", admin.address()));
    browser.wait("document.querySelectorAll('.tiers li').length === 4");
    let tiers = "[...document.querySelectorAll('.tiers li b:first-child')].map((name) => name.textContent).filter((name) => !/^\\d/.test(name))";
    let names = ["priority 0, own zone", "priority 0, other zones", "priority 1", "backup"];
    assert_eq!(browser.value(tiers), json!(names));
    assert_eq!(browser.value("document.querySelectorAll('.tiers:not([hidden])').length"), 1);
    let tags = |name: &str| {
        format!(
            "[...document.querySelectorAll('.name')].find((one) => one.textContent.startsWith('{name}'))\
             ?.parentElement.querySelector('.tags').innerText.trim().split(/\\s*\\n\\s*/).join('; ')"
        )
    };
    browser.wait(&format!("{} === 'zone eu-west-1a; member of web'", tags("web@")));
    assert_eq!(browser.value(&tags("far")), "zone eu-west-1b");
    assert_eq!(browser.value(&tags("later")), "priority 1");
    assert_eq!(browser.value(&tags("spare")), "backup");
    let only = "[...document.querySelectorAll('.name')].find((one) => one.textContent === 'only')";
    browser.wait(&format!("{only}.closest('tr').querySelector('.state.up') !== null"));
    for state in ["maint", "ready"] {
        let settings = format!(
            "{{ method: 'PATCH', body: '{{\"state\": \"{state}\"}}', headers: {{ 'Content-Type': 'application/json' }} }}"
        );
        let call = format!(
            "fetch('api/v1/pools/flat/servers/only', {settings}).then((response) => response.status)"
        );
        browser.wait(&format!("{call}.then((status) => status === 200)"));
    }
    browser.wait(&format!("{} === 'slow start, 10 % of its share'", tags("only")));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, width, is_dark) in [("light", 1280, false), ("dark", 1280, true), ("narrow", 400, false)] {
        browser.resize(width, 1000, is_dark);
        let wide = browser.value("document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{name}: nothing beside the page, {wide}");
        browser.value("document.getElementById('pools').scrollIntoView()");
        browser.picture(&folder.join(format!("dashboard-tiers-{name}.png")));
    }
    assert_eq!(browser.errors, Vec::<String>::new());
}
