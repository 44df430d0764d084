//! `evenkeel run`: the balancer, from a file or, in the simplest case, from the command line alone.

use super::{Failure, File, check, failed, find, logger, say};
use crate::app;
use crate::state::address::Address;
use crate::state::config::{self, Config, FILE};
use clap::Args;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Examples in the help.
pub(super) const AFTER_HELP: &str = "\
Without a file:
  evenkeel run --listen :8080 --to 127.0.0.1:9001 --to 127.0.0.1:9002
  evenkeel run --listen :8443 --to 127.0.0.1:9001 \\
               --tls-cert site.pem --tls-key site.key
  evenkeel run --listen http://:8080 --listen https://:8443 \\
               --tls-cert site.pem --tls-key site.key --to 127.0.0.1:9001
  evenkeel run --listen :8080 --to 127.0.0.1:9001 --print-config > config.json";

/// The arguments of `evenkeel run`.
#[derive(Clone, Debug, Default, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) file: File,
    /// Listen here, without a configuration file: PORT, :PORT, ADDRESS:PORT or unix:PATH; may be given several times,
    /// with http:// in front for clear text where there is a certificate, and https:// for TLS
    #[arg(long, value_name = "ADDRESS", requires = "to", conflicts_with = "file")]
    listen: Vec<String>,
    /// What other programs call it; the message names `--listen`
    #[arg(short, long, hide = true, value_name = "PORT")]
    port: Option<String>,
    /// A server, as HOST:PORT, https://HOST or unix:PATH; may be given several times
    #[arg(long, value_name = "ADDRESS", conflicts_with = "file")]
    to: Vec<String>,
    /// The certificate for clients, a PEM file with its chain; clients must use TLS. May be given several times, each with its key
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "to"])]
    tls_cert: Vec<PathBuf>,
    /// The private key of the certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Vec<PathBuf>,
    /// Print the equivalent configuration file instead of running
    #[arg(long, requires = "to")]
    print_config: bool,
}

/// Runs the balancer until a signal stops it, or prints its configuration.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    if let Some(port) = &arguments.port {
        let port = port.trim_start_matches(':');
        let sentence = format!(
            "there is no --port: write --listen :{port} together with --to HOST:PORT, or write the port into a file, \
             as \"load_balancer\": {{ \"load_balancer_port\": {port} }}"
        );
        return Err(Failure::Usage(sentence));
    }
    if arguments.to.is_empty() {
        let file = arguments.file.or(file)?;
        let config = find(file)?;
        let is_default = file.is_none() && config.file.is_none();
        let from_stdin = file.is_some() && config.file.is_none();
        let origin =
            if from_stdin { "the standard input".to_owned() } else { config.origin().display().to_string() };
        return balance(config, (!is_default).then_some(&*origin));
    }
    if file.is_some() {
        let sentence =
            "--config and --to exclude each other; write the servers into the file, or leave it out";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    for server in &arguments.to {
        check_server(server).map_err(|fault| Failure::Usage(format!("--to {server}: {fault}")))?;
    }
    let text = format!("{:#}", written(arguments)?);
    let config = config::parse(&text, Path::new("")).map_err(Failure::Configuration)?;
    if arguments.print_config {
        say(text);
        return Ok(0);
    }
    balance(config, Some("the options --listen and --to"))
}

/// Runs the balancer with the configuration from there, or with the defaults.
fn balance(config: Config, origin: Option<&str>) -> Result<u8, Failure> {
    logger::start(config.log.level, config.log.format);
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    match origin {
        Some(origin) => log::info!("evenkeel {version} starts as process {pid}; configuration: {origin}"),
        None => log::info!(
            "evenkeel {version} starts as process {pid}; there is no {FILE} here: running with the defaults"
        ),
    }
    for warning in &config.warnings {
        log::warn!("{}: {}", warning.path, warning.advice);
    }
    for exposed in app::preflight::exposed(&config) {
        log::warn!("{}: {}", exposed.key, exposed.advice);
    }
    let started = app::start(config.clone());
    let started = started.map_err(|error| failed(check::obstacles(&config).unwrap_or(error.to_string())))?;
    started.run().map_err(failed)?;
    Ok(0)
}

/// The configuration as a file has it.
fn written(arguments: &Arguments) -> Result<Value, Failure> {
    let (servers, to_tls) = servers(&arguments.to)?;
    let places = places(arguments)?;
    let load_balancer = match &places[..] {
        [Place { tls: false, bind: None, port }] if !port.starts_with("unix:") => {
            json!({ "load_balancer_port": port })
        }
        [Place { tls: false, bind: Some(bind), port }] => {
            json!({ "load_balancer_port": port, "bind": bind })
        }
        _ => json!({ "listeners": listeners(&places, arguments) }),
    };
    let servers = match to_tls {
        true => json!({ "tls": true, "list": servers }),
        false => json!({ "list": servers }),
    };
    Ok(json!({ "load_balancer": load_balancer, "servers": servers }))
}

/// Where to listen: an address, if one is given, and a port or the path of a Unix socket.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    tls: bool,
    bind: Option<String>,
    port: String,
}

/// All places of `--listen`. One without a scheme has TLS if there is a certificate.
fn places(arguments: &Arguments) -> Result<Vec<Place>, Failure> {
    let usage = |sentence: String| Err(Failure::Usage(sentence));
    let (certificates, keys) = (arguments.tls_cert.len(), arguments.tls_key.len());
    if certificates != keys {
        return usage(format!(
            "there are {certificates} --tls-cert and {keys} --tls-key; write the key of each certificate behind it"
        ));
    }
    let written = match arguments.listen.is_empty() {
        true => &[":8000".to_owned()],
        false => &arguments.listen[..],
    };
    let mut places: Vec<Place> = Vec::new();
    for text in written {
        let place = place(text, certificates > 0)?;
        if places.iter().any(|other| (&other.bind, &other.port) == (&place.bind, &place.port)) {
            return usage(format!("--listen {text}: this address is there twice; leave one of them out"));
        }
        if place.tls && certificates == 0 {
            return usage(format!(
                "--listen {text}: TLS needs a certificate; write --tls-cert FILE --tls-key FILE, too"
            ));
        }
        places.push(place);
    }
    if certificates > 0 && places.iter().all(|place| !place.tls) {
        return usage(
            "--tls-cert has no effect while each --listen is http://; write https:// for one".to_owned(),
        );
    }
    Ok(places)
}

/// The listeners as a file has them. The first of each kind has a name for the log and the metrics, others have their address.
fn listeners(places: &[Place], arguments: &Arguments) -> Vec<Value> {
    let pairs = arguments.tls_cert.iter().zip(&arguments.tls_key);
    let certificates: Vec<_> = pairs.map(|(cert, key)| json!({ "certificate": cert, "key": key })).collect();
    let listener = |(at, place): (usize, &Place)| {
        let mut listener = json!({});
        if places[..at].iter().all(|other| other.tls != place.tls) {
            listener["name"] = json!(if place.tls { "https" } else { "http" });
        }
        listener["port"] = json!(place.port);
        if let Some(bind) = &place.bind {
            listener["bind"] = json!(bind);
        }
        if place.tls {
            listener["tls"] = json!({ "certificates": certificates });
        }
        listener
    };
    places.iter().enumerate().map(listener).collect()
}

/// The servers as a file has them, and whether they speak TLS: all of them, or none.
fn servers(to: &[String]) -> Result<(Vec<Value>, bool), Failure> {
    let secure = to.iter().filter(|server| of_tls(server).is_some()).count();
    if secure != 0 && secure != to.len() {
        let sentence = "some of the servers of --to speak TLS (https://) and some do not; write them into a file, in two pools";
        return Err(Failure::Usage(sentence.to_owned()));
    }
    let servers = to.iter().map(|server| json!({ "address": address(server) }));
    Ok((servers.collect(), secure != 0))
}

/// One place of `--listen`.
fn place(text: &str, has_certificate: bool) -> Result<Place, Failure> {
    let (tls, rest) = match (of_tls(text), after(text, "http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => (has_certificate, text),
    };
    if rest.starts_with("unix:") {
        return Ok(Place { tls, bind: None, port: rest.to_owned() });
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (bind, port) = rest.rsplit_once(':').unwrap_or(("", rest));
    if port.parse::<u16>().is_err() {
        let sentence = format!(
            "--listen {text}: {port:?} is not a valid port; write :8080, 127.0.0.1:8080 or unix:PATH"
        );
        return Err(Failure::Usage(sentence));
    }
    let bind = bind.trim_start_matches('[').trim_end_matches(']');
    if !matches!(bind, "" | "*" | "localhost") && bind.parse::<IpAddr>().is_err() {
        let sentence = format!(
            "--listen {text}: {bind:?} is not an IP address of this machine; write :{port} for all of them, or \
             127.0.0.1:{port}"
        );
        return Err(Failure::Usage(sentence));
    }
    let bind = match bind {
        "" | "*" => None,
        "localhost" => Some("127.0.0.1".to_owned()),
        other => Some(other.to_owned()),
    };
    Ok(Place { tls, bind, port: port.to_owned() })
}

/// Whether a server can be reached so; the error says what to write.
fn check_server(server: &str) -> Result<(), String> {
    if let Some(rest) = of_tls(server).or_else(|| after(server, "http://"))
        && let Some((_, path)) = rest.split_once('/').filter(|(_, path)| !path.is_empty())
    {
        return Err(format!(
            "a server has no path; write the address alone here, and into a file \"rewrite\": {{ \"path\": \"/{path}{{path}}\" }}"
        ));
    }
    address(server).parse::<Address>().map(drop)
}

/// Other programs write a server as a URL.
fn address(server: &str) -> String {
    let (rest, port) = match (of_tls(server), after(server, "http://")) {
        (Some(rest), _) => (rest, 443),
        (None, Some(rest)) => (rest, 80),
        (None, None) => return server.to_owned(),
    };
    let authority = rest.trim_end_matches('/');
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port { authority.to_owned() } else { format!("{authority}:{port}") }
}

/// What follows `https://`.
fn of_tls(server: &str) -> Option<&str> {
    after(server, "https://")
}

fn after<'s>(server: &'s str, scheme: &str) -> Option<&'s str> {
    let (start, rest) = server.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_and_a_port() {
        let check = |text: &str, bind: Option<&str>, port: &str| {
            let found = place(text, false).map_err(|_| ()).unwrap();
            assert_eq!((found.bind.as_deref(), &*found.port), (bind, port), "{text}");
        };
        check(":8080", None, "8080");
        check("8080", None, "8080");
        check("*:80", None, "80");
        check("127.0.0.1:8080", Some("127.0.0.1"), "8080");
        check("localhost:8080", Some("127.0.0.1"), "8080");
        check("[::1]:8080", Some("::1"), "8080");
        check("unix:/run/a.sock", None, "unix:/run/a.sock");
        check("http://localhost:8080/", Some("127.0.0.1"), "8080");
        for (text, expected) in [
            ("example.com", "is not a valid port"),
            (":99999", "is not a valid port"),
            ("example.com:80", "is not an IP address of this machine; write :80"),
            ("https://example.com:443", "is not an IP address of this machine; write :443"),
            ("tcp://:80", "is not an IP address"),
        ] {
            let Err(Failure::Usage(told)) = place(text, false) else { panic!("{text}") };
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn servers_may_be_urls_and_all_of_them_of_tls() {
        let check = |to: &[&str], expected: Option<(&[&str], bool)>| {
            let to: Vec<String> = to.iter().map(|server| (*server).to_owned()).collect();
            let found = servers(&to).ok();
            let found = found.map(|(servers, tls)| {
                (servers.iter().map(|server| server["address"].as_str().unwrap().to_owned()).collect(), tls)
            });
            let expected: Option<(Vec<String>, bool)> = expected
                .map(|(servers, tls)| (servers.iter().map(|server| (*server).to_owned()).collect(), tls));
            assert_eq!(found, expected, "{to:?}");
        };
        check(&["a:1", "http://b", "http://[::1]/"], Some((&["a:1", "b:80", "[::1]:80"], false)));
        check(&["https://a", "HTTPS://b:8443/"], Some((&["a:443", "b:8443"], true)));
        check(&["https://a", "b:1"], None);
        assert!(check_server("https://a/x").unwrap_err().contains("/x{path}"));
        assert!(check_server("http://a/").is_ok() && check_server("a:1,b:1").is_err());
    }

    #[test]
    fn the_written_file_is_valid_and_says_the_same() {
        let check = |listen: &str, address: &str| {
            let to = vec!["127.0.0.1:9001".to_owned(), "http://127.0.0.1:9002/".to_owned()];
            let arguments = Arguments { listen: vec![listen.to_owned()], to, ..Arguments::default() };
            let text = written(&arguments).map_err(|_| ()).unwrap().to_string();
            let config = config::parse(&text, Path::new("")).unwrap();
            let servers: Vec<String> =
                config.servers.list.iter().map(|server| server.address.to_string()).collect();
            assert_eq!(servers, ["127.0.0.1:9001", "127.0.0.1:9002"]);
            let listeners: Vec<String> =
                config.listen.listeners.iter().map(|listener| listener.place.to_string()).collect();
            assert_eq!(listeners, [address], "{listen}");
        };
        check(":8080", "0.0.0.0:8080");
        check("[::1]:8080", "[::1]:8080");
        check("unix:/tmp/evenkeel-run.sock", "unix:/tmp/evenkeel-run.sock");
    }

    fn arguments(listen: &[&str], certificates: usize) -> Arguments {
        Arguments {
            listen: listen.iter().map(|text| (*text).to_owned()).collect(),
            to: vec!["127.0.0.1:9001".to_owned()],
            tls_cert: (0..certificates).map(|at| format!("{at}.pem").into()).collect(),
            tls_key: (0..certificates).map(|at| format!("{at}.key").into()).collect(),
            ..Arguments::default()
        }
    }

    #[test]
    fn several_places_have_tls_or_not() {
        let check = |listen: &[&str], certificates: usize, expected: &[(&str, &str, usize)]| {
            let text = written(&arguments(listen, certificates)).map_err(|_| ()).unwrap().to_string();
            let config = config::parse(&text, Path::new("")).unwrap();
            let found = config.listen.listeners.iter().map(|listener| {
                let certificates = listener.tls.as_ref().map_or(0, |tls| tls.certificates.len());
                (listener.name.clone(), listener.place.to_string(), certificates)
            });
            let found: Vec<_> = found.collect();
            let found: Vec<_> =
                found.iter().map(|(name, place, certificates)| (&**name, &**place, *certificates)).collect();
            assert_eq!(found, expected, "{listen:?}");
        };
        check(&["[::]:8443"], 1, &[("https", "[::]:8443", 1)]);
        check(&["unix:/a"], 0, &[("http", "unix:/a", 0)]);
        let both = [("http", "0.0.0.0:80", 0), ("https", "0.0.0.0:443", 2)];
        check(&["http://:80", "https://:443"], 2, &both);
        check(&["http://:80", "443"], 2, &both);
        let three =
            [("http", "0.0.0.0:80", 0), ("127.0.0.1:81", "127.0.0.1:81", 0), ("unix:b", "unix:/b", 0)];
        check(&[":80", "127.0.0.1:81", "unix:/b"], 0, &three);
    }

    #[test]
    fn places_and_certificates_that_do_not_fit_are_told() {
        let check = |listen: &[&str], certificates: usize, expected: &str| {
            let Err(Failure::Usage(told)) = written(&arguments(listen, certificates)) else {
                panic!("{listen:?}")
            };
            assert!(told.contains(expected), "{told}");
        };
        check(&["https://:443"], 0, "write --tls-cert FILE --tls-key FILE");
        check(&["http://:80"], 1, "no effect while each --listen is http://");
        check(&[":80", "http://*:80"], 0, "is there twice");
        let mut one_key = arguments(&[":443"], 2);
        one_key.tls_key.pop();
        assert!(
            matches!(written(&one_key), Err(Failure::Usage(told)) if told.contains("2 --tls-cert and 1 --tls-key"))
        );
    }
}
