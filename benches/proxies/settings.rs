//! The configuration of each proxy, as its users would write it for two processors.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How long HAProxy keeps a request that waits for a server at its limit. Its queue has no limit of its own, so this
/// limits both the queue and the time to its 503.
pub const HAPROXY_QUEUE: Duration = Duration::from_millis(250);

/// The set-up of the proxies for a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Client connections: each may keep one to the servers.
    pub connections: usize,
    /// Evenkeel's `threadpool.max_workers`.
    pub max_workers: usize,
    /// Evenkeel's `threadpool.queue_capacity`.
    pub queue_capacity: usize,
    /// Whether Evenkeel's health checks are enabled.
    pub health_check: bool,
    /// Requests in flight that a server may have; for Evenkeel, its number of workers.
    pub limit: Option<usize>,
    /// Routes by host and path, all to the same servers; the requests are for the last one.
    pub routes: usize,
    /// Clients speak TLS. All proxies have the same certificate.
    pub tls: bool,
    /// The last server is the only one of a second pool, to which [`SECOND_POOL_PATH`] is routed.
    pub second_pool: bool,
}

/// What is routed to the second pool.
pub const SECOND_POOL_PATH: &str = "/delay50ms";

impl Setup {
    /// The servers of the default pool, and that of the second one.
    fn pools<'a>(&self, origins: &'a [SocketAddr]) -> (&'a [SocketAddr], Option<SocketAddr>) {
        match origins.split_last() {
            Some((last, others)) if self.second_pool => (others, Some(*last)),
            _ => (origins, None),
        }
    }
}

/// The name in the certificate.
pub const HOST: &str = "localhost";

/// The host of a route.
pub fn host(route: usize) -> String {
    format!("host{route}.example.com")
}

/// The files of the certificate, in the folder of a proxy.
pub const CERTIFICATE: &str = "site.pem";
const KEY: &str = "site.key";

/// Writes a certificate (ECDSA P-256, as most sites have) and its key, and both in one file for HAProxy.
pub fn write_certificate(folder: &Path) -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed([HOST.to_string()]).map_err(io::Error::other)?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    fs::write(folder.join("both.pem"), format!("{certificate}{key}"))?;
    fs::write(folder.join(CERTIFICATE), certificate)?;
    fs::write(folder.join(KEY), key)
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            connections: 1000,
            max_workers: 16,
            queue_capacity: 2000,
            health_check: false,
            limit: None,
            routes: 0,
            tls: false,
            second_pool: false,
        }
    }
}

/// Evenkeel: all defaults except the worker pool, with keys that earlier builds know as well; only where servers have a
/// limit is there one that they do not.
pub fn evenkeel(
    folder: &Path,
    address: SocketAddr,
    origins: &[SocketAddr],
    admin: SocketAddr,
    setup: Setup,
) -> String {
    let (origins, second) = setup.pools(origins);
    let server = |origin: &SocketAddr| serde_json::json!({ "address": origin.to_string() });
    let mut servers = serde_json::json!({
        "list": origins.iter().map(server).collect::<Vec<_>>(),
        "health_check": { "enabled": setup.health_check, "path": "/small" },
    });
    if let Some(limit) = setup.limit {
        servers["max_in_flight"] = limit.into();
        servers["queue_capacity"] = setup.queue_capacity.into();
    }
    let load_balancer = match setup.tls {
        false => {
            serde_json::json!({ "load_balancer_port": address.port().to_string(), "bind": "127.0.0.1" })
        }
        true => {
            let tls = serde_json::json!({ "certificates": [{ "certificate": CERTIFICATE, "key": KEY }] });
            let listener = serde_json::json!({ "name": "https", "port": address.port(), "tls": tls });
            serde_json::json!({ "bind": "127.0.0.1", "listeners": [listener] })
        }
    };
    let mut file = serde_json::json!({
        "load_balancer": load_balancer,
        "servers": servers,
        "threadpool": {
            "min_workers": 1,
            "max_workers": setup.max_workers,
            "queue_capacity": setup.queue_capacity,
        },
        "admin": { "socket": folder.join("admin.sock"), "bind": admin.to_string() },
        "log": { "level": "warn" },
    });
    if setup.routes > 0 {
        let route = |route| serde_json::json!({ "host": host(route), "path": "/small", "pool": "default" });
        // Earlier builds do not know the key.
        file["routes"] = (0..setup.routes).map(route).collect();
    }
    if let Some(origin) = second {
        let health_check = serde_json::json!({ "enabled": setup.health_check });
        file["pools"] =
            serde_json::json!({ "second": { "list": [server(&origin)], "health_check": health_check } });
        let second = serde_json::json!({ "path": SECOND_POOL_PATH, "pool": "second" });
        file["routes"] = serde_json::json!([second, { "path": "/*", "pool": "default" }]);
    }
    file.to_string()
}

/// Two workers; every client connection may keep one to the origin; bodies are streamed, as in the others. A limit
/// (`max_conns`) is counted over both workers only with a zone. The open source version has no queue behind it: the
/// client gets 502 at once.
pub fn nginx(folder: &Path, address: SocketAddr, origins: &[SocketAddr], setup: Setup) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let folder = folder.display();
    let limit = setup.limit.map_or(String::new(), |limit| format!(" max_conns={limit} max_fails=0"));
    let (origins, second) = setup.pools(origins);
    // Without a limit the workers share no state, which saves a lock.
    let mut servers = setup.limit.map_or(String::new(), |_| "    zone origin 1m;\n".to_string());
    for origin in origins {
        let _ = writeln!(servers, "    server {origin}{limit};");
    }
    let keepalive = setup.connections.max(2 * origins.len());
    let proxied = "proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_request_buffering off;
      proxy_max_temp_file_size 0;";
    let (second_pool, second_location) = second.map_or_else(Default::default, |origin| {
        let pool = format!(
            "  upstream second {{
    server {origin};
    keepalive {keepalive};
    keepalive_requests 100000000;
  }}
"
        );
        let location = format!(
            "
    location {SECOND_POOL_PATH} {{
      proxy_pass http://second;
      {proxied}
    }}"
        );
        (pool, location)
    });
    let (map, pool) = match setup.routes {
        0 => (String::new(), "origin"),
        routes => (nginx_map(routes), "$pool"),
    };
    let tls = match setup.tls {
        false => String::new(),
        true => format!(
            "
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {KEY};
    ssl_session_cache shared:tls:10m;"
        ),
    };
    let ssl = if setup.tls { " ssl" } else { "" };
    format!(
        "{user}
daemon off;
worker_processes 2;
worker_rlimit_nofile {descriptors};
pid {folder}/pid;
error_log {folder}/error crit;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_max_body_size 0;
  upstream origin {{
{servers}    keepalive {keepalive};
    keepalive_requests 100000000;
  }}
{second_pool}{map}  server {{
    listen {address}{ssl} reuseport backlog=4096;{tls}
    location / {{
      proxy_pass http://{pool};
      {proxied}
    }}{second_location}
  }}
}}
",
        descriptors = descriptors(),
    )
}

/// A map from host and path to the pool, with tables as large as its manual advises for so many.
fn nginx_map(routes: usize) -> String {
    let mut map = format!(
        "  map_hash_max_size {};\n  map_hash_bucket_size 128;\n  map $host$uri $pool {{\n    default missing;\n",
        (routes * 4).max(2048)
    );
    for route in 0..routes {
        let _ = writeln!(map, "    {}/small origin;", host(route));
    }
    map + "  }\n"
}

/// Two threads; idle connections are shared by all clients, and kept until descriptors are really scarce (by default it
/// closes them from a quarter of the limit on). A limit (`maxconn`) has a queue behind it.
pub fn haproxy(
    folder: &Path,
    address: SocketAddr,
    origins: &[SocketAddr],
    setup: Setup,
) -> io::Result<String> {
    // Each connection takes two descriptors, and HAProxy does not start without enough of them.
    let maxconn = (descriptors().saturating_sub(400) / 2).min(20_000);
    let limit = setup.limit.map_or(String::new(), |limit| format!(" maxconn {limit}"));
    let (origins, second) = setup.pools(origins);
    let mut servers = String::new();
    for (number, origin) in origins.iter().enumerate() {
        let _ = writeln!(servers, "  server origin{number} {origin}{limit}");
    }
    let route = match setup.routes {
        0 => "default_backend origin".to_string(),
        routes => {
            let line = |route| format!("{}/small origin\n", host(route));
            fs::write(folder.join("routes.map"), (0..routes).map(line).collect::<String>())?;
            "use_backend %[base,map_str(routes.map)]".to_string()
        }
    };
    let (rule, backend) = second.map_or_else(Default::default, |origin| {
        let rule = format!("use_backend second if {{ path {SECOND_POOL_PATH} }}\n  ");
        (rule, format!("backend second\n  server second {origin}\n"))
    });
    let tls = if setup.tls { " ssl crt both.pem" } else { "" };
    Ok(format!(
        "global
  nbthread 2
  maxconn {maxconn}
  maxpipes 128
  tune.pool-low-fd-ratio 80
  tune.pool-high-fd-ratio 90
defaults
  mode http
  http-reuse always
  option splice-auto
  timeout connect 5s
  timeout client 300s
  timeout server 60s
  timeout queue {queue}ms
  timeout http-keep-alive 300s
frontend front
  bind {address}{tls}
  maxconn {maxconn}
  option forwardfor
  {rule}{route}
backend origin
{servers}{backend}",
        queue = HAPROXY_QUEUE.as_millis(),
    ))
}

fn descriptors() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(65_536)
}
