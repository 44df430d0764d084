//! The schema of `load_balancer.listeners`: where clients connect, each place with its TLS and what comes before it.

use super::reader::{Reader, Section};
use super::refine::SOCKET_PATH_MAX;
use super::routes::path_of_condition;
use super::tree::{Node, Value};
use super::{
    Certificate, ClientAuth, Config, HostCertificate, Listener, Network, Place, TlsToClients, TlsVersion,
    elsewhere, networks, rules,
};
use crate::base::text::is_plain;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the listener of `load_balancer_port`.
pub(super) const DEFAULT_NAME: &str = "default";
/// The port of https, where no listener here has TLS.
const HTTPS_PORT: u16 = 443;
/// A handshake may take as long as any wait on a client.
const HANDSHAKE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);

/// Reads the listeners of the section `load_balancer`: that of `load_balancer_port` first, then the listed ones. The
/// port's default is for a file that lists none.
pub(super) fn listeners(s: &mut Section<'_, '_>, folder: &Path) -> Vec<Listener> {
    let has_port = s.has("load_balancer_port");
    let port = s.get("load_balancer_port", 8000, rules::port);
    let bind = s.get("bind", IpAddr::V4(Ipv4Addr::UNSPECIFIED), rules::bind);
    let senders = networks::list_or_null(s, "proxy_protocol", folder);
    let listed = s.objects_like("listeners", "[ { \"name\": \"https\", \"port\": 8443 } ]", |section, at| {
        listener(section, at, bind, senders.as_ref(), folder)
    });
    let mut all = Vec::new();
    if has_port || listed.is_empty() {
        let mut first = Listener::plain(SocketAddr::new(bind, port));
        first.proxy_protocol = senders;
        all.push(first);
    }
    all.extend(listed);
    let secure_port = all.iter().filter(|listener| listener.tls.is_some()).find_map(|l| l.place.port());
    for listener in &mut all {
        // 0 stands for "the port of https here"; no listener can be redirected to it.
        if listener.redirect_to_https == Some(0) {
            listener.redirect_to_https = Some(secure_port.unwrap_or(HTTPS_PORT));
        }
    }
    all
}

fn listener(
    s: &mut Section<'_, '_>,
    at: usize,
    default_bind: IpAddr,
    senders: Option<&Vec<Network>>,
    folder: &Path,
) -> Option<Listener> {
    elsewhere::listener(s);
    let name = s.maybe("name", None, rules::server_name);
    let has_bind = s.has("bind");
    let bind = s.get("bind", default_bind, rules::bind);
    let port = s.required("port", port_or_path(folder));
    let tls = s.optional("tls", |section| tls(section, folder));
    let own_senders = s.has("proxy_protocol");
    let own = networks::list_or_null(s, "proxy_protocol", folder);
    let redirect_to_https = s.get("redirect_to_https", None, redirect);
    let redirect_except = s.values("redirect_except", path_of_condition).unwrap_or_default();
    if !redirect_except.is_empty() && redirect_to_https.is_none() {
        let advice = "has no effect without \"redirect_to_https\": true; write that too, or leave it out";
        s.fault("redirect_except", advice.to_owned());
    }
    let place = match port? {
        PortOrPath::Port(port) => Place::Tcp(SocketAddr::new(bind, port)),
        PortOrPath::Path(path) => Place::Unix(path),
    };
    if has_bind && matches!(place, Place::Unix(_)) {
        s.fault("bind", "a Unix socket has no address; leave bind out, or write a port".to_owned());
    }
    // What senders are inherited are networks, and a Unix socket has none.
    let inherited = senders.filter(|_| matches!(place, Place::Tcp(_))).cloned();
    let proxy_protocol = if own_senders { own } else { inherited };
    let name = name.unwrap_or_else(|| place.to_string().replace("unix:/", "unix:").replace('/', "-"));
    if let Err(fault) = rules::check_name(&name) {
        s.fault(
            "name",
            format!("a listener without a name has its address as its name, and \"{place}\" {fault}"),
        );
    }
    Some(Listener { name, place, tls, proxy_protocol, redirect_to_https, redirect_except, listed: Some(at) })
}

enum PortOrPath {
    Port(u16),
    Path(PathBuf),
}

/// A port, or `unix:/path`.
fn port_or_path(folder: &Path) -> impl Fn(&Node) -> Result<PortOrPath, String> {
    move |node| match &node.value {
        Value::Text(text) if text.starts_with("unix:") => {
            let path = text.strip_prefix("unix:").unwrap_or_default();
            match path.is_empty() || !path.chars().all(is_plain) {
                true => Err(format!("{node} is not a valid path; write one such as \"unix:/run/web.sock\"")),
                false => Ok(PortOrPath::Path(folder.join(path))),
            }
        }
        Value::Text(text) if text.starts_with(['/', '.']) => {
            Err(format!("{node} is not a valid port; a Unix socket is written \"unix:{text}\""))
        }
        Value::Text(text) if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
            Err(format!("{node} has an address; write the port alone here, and the address as \"bind\""))
        }
        Value::List(_) => {
            Err(format!("expected a number, found {node}; write a listener of its own for each port"))
        }
        _ => rules::port(node).map(PortOrPath::Port),
    }
}

/// `true`, `false`, or the port to name; 0 stands for the port of https here.
fn redirect(node: &Node) -> Result<Option<u16>, String> {
    match node.unquoted().as_ref().unwrap_or(&node.value) {
        Value::Flag(flag) => Ok(flag.then_some(0)),
        Value::Whole(1..=65535) => rules::port(node).map(Some),
        _ => Err(format!("{node} is neither true, false nor a port; write true, or the port of https")),
    }
}

fn tls(s: &mut Section<'_, '_>, folder: &Path) -> TlsToClients {
    let example = "[ { \"certificate\": \"site.pem\", \"key\": \"site.key\" } ]";
    let given = s.has("certificates");
    let certificates = s.objects_like("certificates", example, |section, _| certificate(section, folder));
    let of_all = s.optional("client_auth", |section| client_auth(section, folder)).flatten();
    let certificates = certificates
        .into_iter()
        .map(|(files, own)| HostCertificate { files, client_auth: own.unwrap_or_else(|| of_all.clone()) });
    let certificates = certificates.collect();
    if s.is_there() && (!given || s.is_empty_list("certificates")) {
        s.fault("certificates", format!("is missing; write \"certificates\": {example}"));
    }
    TlsToClients {
        certificates,
        min_version: s.get("min_version", TlsVersion::Tls12, version),
        client_auth: of_all,
        alpn: s
            .values("alpn", protocol)
            .unwrap_or_else(|| ["http/1.1", "http/1.0"].map(str::to_owned).to_vec()),
        refuses_unknown_names: s
            .get("unknown_name", false, |node| rules::word(node, &[("default", false), ("refuse", true)])),
        handshake_timeout: s.maybe("handshake_timeout", None, rules::duration(HANDSHAKE)),
    }
}

/// The files, and the client_auth of their own: `None` where they have that of the listener.
fn certificate(s: &mut Section<'_, '_>, folder: &Path) -> Option<(Certificate, Option<Option<ClientAuth>>)> {
    let own = s.section_or_null("client_auth", |section| client_auth(section, folder));
    let certificate = s.required("certificate", rules::path(folder));
    let key = s.get("key", None, |node| rules::path(folder)(node).map(Some));
    let certificate = certificate?;
    // One file with both, as HAProxy has them.
    Some((Certificate { key: key.unwrap_or_else(|| certificate.clone()), certificate }, own))
}

fn client_auth(s: &mut Section<'_, '_>, folder: &Path) -> Option<ClientAuth> {
    let ca = s.required("ca", rules::path(folder));
    let crl = s.maybe("crl", None, rules::path(folder));
    let require = s.get("mode", true, client_auth_mode);
    Some(ClientAuth { ca: ca?, crl, require })
}

/// Other programs have `on`, `optional` and `require_and_verify`.
fn client_auth_mode(node: &Node) -> Result<bool, String> {
    let written = match &node.value {
        Value::Text(text) => text.as_str(),
        Value::Flag(true) => "on",
        Value::Flag(false) => "off",
        _ => "",
    };
    match written.to_ascii_lowercase().as_str() {
        "on" | "required" | "verify" => Err(format!("{node} is not known; write \"require\"")),
        "optional" | "optional_no_ca" | "verify_if_given" | "verifyclientcertifgiven" => {
            Err(format!("{node} is not known; write \"request\""))
        }
        "off" | "none" | "no" | "noclientcert" => {
            Err(format!("{node} is not known; leave \"client_auth\" out for that"))
        }
        _ => rules::word(node, &[("require", true), ("request", false)]),
    }
}

pub(super) fn version(node: &Node) -> Result<TlsVersion, String> {
    match &node.value {
        Value::Text(text) if text == "1.2" => Ok(TlsVersion::Tls12),
        Value::Text(text) if text == "1.3" => Ok(TlsVersion::Tls13),
        Value::Text(text) if matches!(text.as_str(), "1.0" | "1.1") => {
            Err(format!("{node} is not supported, because it is not safe; write \"1.2\" or \"1.3\""))
        }
        _ => Err(format!("{node} is not a TLS version; write \"1.2\" or \"1.3\"")),
    }
}

fn protocol(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::Text(text) if matches!(text.as_str(), "http/1.1" | "http/1.0") => Ok(text.clone()),
        Value::Text(text) if text == "h2" => Err("HTTP/2 is not supported; write \"http/1.1\"".to_owned()),
        _ => Err(format!("{node} is not a protocol that is supported; write \"http/1.1\"")),
    }
}

/// Listeners that cannot be together, and what has no effect.
pub(super) fn contradictions(config: &Config, reader: &mut Reader) {
    let all = &config.listen.listeners;
    for (at, listener) in all.iter().enumerate() {
        let before = &all[..at];
        let same_name = before.iter().find(|other| other.name == listener.name);
        // A name that is not given is the address, which is reported below.
        let is_named = reader.is_given(&format!("{}.name", listener.key()));
        if let Some(other) = same_name.filter(|other| is_named || !other.place.conflicts(&listener.place)) {
            let advice =
                format!("{:?} is the name of {} too; write another name", listener.name, other.key());
            reader.contradiction(&[&format!("{}.name", listener.key()), &listener.key()], advice);
        }
        if let Some(other) = before.iter().find(|other| other.place.conflicts(&listener.place)) {
            let advice = format!("{} takes {} already; write another port", other.key(), listener.place);
            reader.contradiction(&[&listener.port_key()], advice);
        }
        if let Place::Unix(path) = &listener.place {
            let bytes = path.as_os_str().len();
            if bytes > SOCKET_PATH_MAX {
                let advice = format!(
                    "{} has {bytes} bytes; write a path of at most {SOCKET_PATH_MAX}, for a Unix socket holds no more",
                    path.display()
                );
                reader.contradiction(&[&listener.port_key()], advice);
            }
            if config.admin.socket.as_ref() == Some(path) {
                let advice = format!("{} is also admin.socket; write another path", path.display());
                reader.contradiction(&[&listener.port_key(), "admin.socket"], advice);
            }
        }
        redirects(config, listener, reader);
    }
    routes_of_redirects(config, reader);
}

/// Routes that get no request, because every listener that they are limited to redirects all of them.
fn routes_of_redirects(config: &Config, reader: &mut Reader) {
    let redirects_all = |name: &str| {
        let mut listeners = config.listen.listeners.iter();
        listeners.find(|listener| listener.name == name).is_some_and(|listener| {
            listener.redirect_to_https.is_some() && listener.redirect_except.is_empty()
        })
    };
    for (at, spec) in config.routes.iter().enumerate() {
        let names = spec.rules.first().map_or(&[][..], |rule| &rule.listeners);
        if let Some(name) = names.first().filter(|_| names.iter().all(|name| redirects_all(name))) {
            let advice = format!(
                "listener {name:?} redirects every request to https, so this route gets none; write the route's path into \
                 \"redirect_except\" of the listener, or leave the route out"
            );
            reader.warning(&[&format!("routes[{at}].listener")], advice);
        }
    }
}

fn redirects(config: &Config, listener: &Listener, reader: &mut Reader) {
    let Some(to) = listener.redirect_to_https else { return };
    let key = format!("{}.redirect_to_https", listener.key());
    if listener.tls.is_some() {
        let advice =
            "this listener has TLS itself, so the redirect would lead back to it; leave one of them out";
        return reader.contradiction(&[&key], advice.to_owned());
    }
    let mut ports = config.listen.listeners.iter().filter(|listener| listener.tls.is_some());
    if matches!(to, 301 | 302 | 303 | 307 | 308) && !ports.any(|secure| secure.place.port() == Some(to)) {
        let advice = format!(
            "{to} would be a port here; write true, which redirects with 301, and with 308 where the method is not GET or HEAD"
        );
        return reader.contradiction(&[&key], advice);
    }
    if listener.place.port() == Some(to) {
        let advice = format!("{to} is the port of this listener; write the port of https");
        return reader.contradiction(&[&key], advice);
    }
    if config.listen.listeners.iter().all(|listener| listener.tls.is_none()) {
        let advice = format!("no listener here has TLS; requests are redirected to port {to} of this host");
        reader.warning(&[&key], advice);
    }
}

#[cfg(test)]
mod tests {
    use crate::state::config::{Config, Place, parse};
    use serde_json::{Value, json};
    use std::path::Path;

    fn read(listeners: Value) -> Result<Config, String> {
        let text = json!({"load_balancer": {"listeners": listeners}}).to_string();
        let told = |faults: Vec<_>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        parse(&text, Path::new("/etc/e")).map_err(told)
    }

    fn check(listeners: Value, path: &str, advice: &str) {
        let faults = read(listeners).unwrap_err();
        assert!(faults.contains(path) && faults.contains(advice), "{faults}");
    }

    #[test]
    fn the_seeds_port_is_the_first_listener_and_may_be_left_out() {
        let config = parse("{}", Path::new("")).unwrap();
        assert_eq!(config.listen.listeners.len(), 1);
        assert_eq!(config.listen.listeners[0].name, "default");
        let both = json!({"load_balancer": {"load_balancer_port": "80", "listeners": [{"port": 81}]}});
        let both = parse(&both.to_string(), Path::new("")).unwrap();
        let ports: Vec<_> = both.listen.listeners.iter().map(|listener| listener.place.port()).collect();
        assert_eq!(ports, [Some(80), Some(81)]);
        let listed = read(json!([{"name": "web", "port": "8080", "bind": "::"}])).unwrap();
        assert_eq!(listed.listen.listeners.len(), 1, "the default port is not opened beside it");
        assert_eq!(listed.listen.listeners[0].place.to_string(), "[::]:8080");
    }

    #[test]
    fn a_listener_has_its_tls_and_its_paths() {
        let tls = json!({"certificates": [{"certificate": "a.pem", "key": "/k/a.key"}, {"certificate": "b.pem"}],
            "min_version": "1.3", "client_auth": {"ca": "ca.pem", "mode": "request"}, "handshake_timeout": "3s"});
        let config =
            read(json!([{"port": "unix:web.sock", "tls": tls}, {"port": 0, "redirect_to_https": true}]));
        let config = config.unwrap();
        let [socket, clear] = &config.listen.listeners[..] else { panic!("two listeners") };
        assert_eq!(socket.place, Place::Unix("/etc/e/web.sock".into()));
        assert_eq!(socket.name, "unix:etc-e-web.sock");
        let tls = socket.tls.as_ref().unwrap();
        let [first, second] = &tls.certificates[..] else { panic!("two certificates") };
        assert_eq!(first.files.key, Path::new("/k/a.key"));
        assert_eq!(second.files.key, Path::new("/etc/e/b.pem"), "one file with both");
        assert!(!first.client_auth.as_ref().unwrap().require);
        assert_eq!(clear.redirect_to_https, Some(443), "the listener with TLS has no port");
    }

    #[test]
    fn a_route_that_a_redirect_leaves_without_requests_is_a_warning() {
        let check = |except: Value, listeners: Value, warned: bool| {
            let mut http = json!({"name": "http", "port": 80, "redirect_to_https": true});
            if !except.is_null() {
                http["redirect_except"] = except;
            }
            let https =
                json!({"name": "https", "port": 443, "tls": {"certificates": [{"certificate": "a.pem"}]}});
            let text = json!({
                "load_balancer": {"listeners": [http, https]},
                "routes": [{"path": "/a/*", "listener": listeners, "respond": {"status": 204}}],
            })
            .to_string();
            let config = parse(&text, Path::new("/etc/e")).unwrap_or_else(|faults| panic!("{}", faults[0]));
            let mut told = config.warnings.iter().filter(|warning| warning.path == "routes[0].listener");
            assert_eq!(
                told.next().is_some_and(|found| found.advice.contains("\"redirect_except\"")),
                warned,
                "{text}"
            );
        };
        check(json!(null), json!("http"), true);
        check(json!(null), json!(["http"]), true);
        check(json!(["/a/*"]), json!("http"), false);
        check(json!(null), json!("https"), false);
        check(json!(null), json!(["http", "https"]), false);
    }

    #[test]
    fn redirects_lead_to_the_first_port_with_tls() {
        let tls = json!({"certificates": [{"certificate": "a.pem"}]});
        let config =
            read(json!([{"port": 80, "redirect_to_https": true}, {"port": 8443, "tls": tls}])).unwrap();
        assert_eq!(config.listen.listeners[0].redirect_to_https, Some(8443));
        let config = read(json!([{"port": 80, "redirect_to_https": 444}])).unwrap();
        assert_eq!(config.listen.listeners[0].redirect_to_https, Some(444));
        assert!(config.warnings[0].advice.contains("no listener here has TLS"), "{:?}", config.warnings);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let tls = || json!({"certificates": [{"certificate": "a.pem", "key": "a.key"}]});
        let with = |key: &str, value: Value| {
            let mut tls = tls();
            tls[key] = value;
            json!([{"port": 1, "tls": tls}])
        };
        let at = "load_balancer.listeners[0]";
        check(json!({}), "load_balancer.listeners", "write [ { \"name\": \"https\", \"port\": 8443 } ]");
        check(json!([{}]), &format!("{at}.port"), "is missing");
        check(json!([{"port": 70000}]), &format!("{at}.port"), "too large");
        check(json!([{"port": "unix:"}]), &format!("{at}.port"), "unix:/run/web.sock");
        check(json!([{"port": "unix:/a", "bind": "::1"}]), &format!("{at}.bind"), "no address");
        check(json!([{"port": 1, "prot": 1}]), &format!("{at}.prot"), "did you mean \"port\"");
        check(json!([{"port": 1, "tls": {}}]), &format!("{at}.tls.certificates"), "is missing");
        check(json!([{"port": 1, "tls": true}]), &format!("{at}.tls"), "expected an object");
        check(with("certificates", json!([])), &format!("{at}.tls.certificates"), "is missing");
        check(with("certificates", json!([{}])), "certificates[0].certificate", "is missing");
        check(with("certificates", json!([{"cert": "x"}])), "certificates[0].cert", "certificate");
        check(with("min_version", json!("1.1")), "tls.min_version", "not safe");
        check(with("min_version", json!(1.3)), "tls.min_version", "write \"1.2\" or \"1.3\"");
        check(with("alpn", json!(["h2"])), "tls.alpn[0]", "HTTP/2 is not supported");
        check(with("client_auth", json!({})), "tls.client_auth.ca", "is missing");
        check(
            with("client_auth", json!({"ca": "c", "mode": "requir"})),
            "client_auth.mode",
            "did you mean \"require\"",
        );
        check(with("handshake_timeout", json!(5)), "tls.handshake_timeout", "has no unit");
        check(
            json!([{"port": 1, "tls": tls(), "redirect_to_https": true}]),
            "redirect_to_https",
            "has TLS itself",
        );
        check(json!([{"port": 7, "redirect_to_https": 7}]), "redirect_to_https", "the port of this listener");
        check(json!([{"port": 7, "redirect_to_https": "yes"}]), "redirect_to_https", "write true");
        check(
            json!([{"name": "a", "port": 1}, {"name": "a", "port": 2}]),
            "listeners[1].name",
            "another name",
        );
        for (first, second) in
            [("0.0.0.0", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("::", "0.0.0.0"), ("::1", "::")]
        {
            let both = json!([{"port": 7, "bind": first}, {"port": 7, "bind": second}]);
            check(both, "listeners[1].port", "already");
        }
        assert!(read(json!([{"port": 7, "bind": "0.0.0.0"}, {"port": 7, "bind": "::1"}])).is_ok());
        assert!(read(json!([{"port": 0, "name": "a"}, {"port": 0, "name": "b"}])).is_ok());
        check(json!([{"port": format!("unix:/{}", "x".repeat(120))}]), "listeners[0].port", "at most 107");
        check(json!([{"port": "unix:/a"}, {"name": "b", "port": "unix:/a"}]), "listeners[1].port", "already");
        check(json!([{"port": "unix:evenkeel.sock"}]), "listeners[0].port", "also admin.socket");
    }
}
