//! nginx and HAProxy with a typical setup in front of HTTP/1.1 servers: as their manuals recommend, and otherwise with
//! their defaults.

use super::proxy::{Kind, Proxy};
use super::suite::{Setup, run};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// The time limit for a proxy to listen after its start.
const START: Duration = Duration::from_secs(10);

impl run::Proxy for Proxy {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Starts a peer in front of these servers. Its port was free a moment ago; if it is taken now, tries once more.
pub fn start(kind: Kind, servers: &[SocketAddr], setup: Setup) -> Result<Proxy, String> {
    let text = |folder: &Path, address| match kind {
        Kind::Nginx => Ok(nginx(folder, address, servers, setup)),
        _ => Ok(haproxy(address, servers, setup)),
    };
    let once = || Proxy::launch(kind, text, await_listener);
    once().or_else(|_| once()).or_else(|_| once())
}

/// It listens. No request is sent, so its origin is not affected.
fn await_listener(child: &mut Child, address: SocketAddr, begun: Instant) -> Result<(), String> {
    while begun.elapsed() < START {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended ({status})"));
        }
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("it did not listen within 10 seconds".to_string())
}

/// Streams bodies, keeps connections to the servers, and forwards upgrades, as in the manual's chapter on WebSocket.
fn nginx(folder: &Path, address: SocketAddr, servers: &[SocketAddr], setup: Setup) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let list: String = servers.iter().map(|server| format!("    server {server};\n")).collect();
    let waits = match setup {
        Setup::Plain => "",
        Setup::Hasty => {
            "client_header_timeout 1s; client_body_timeout 1s; proxy_read_timeout 1s; keepalive_timeout 1s;"
        }
    };
    let folder = folder.display();
    format!(
        "{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error crit;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {waits}
  map $http_upgrade $connection_upgrade {{
    default upgrade;
    '' '';
  }}
  upstream servers {{
{list}    keepalive 16;
  }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"
    )
}

fn haproxy(address: SocketAddr, servers: &[SocketAddr], setup: Setup) -> String {
    let list: String =
        servers.iter().enumerate().map(|(at, server)| format!("  server s{at} {server}\n")).collect();
    let wait = match setup {
        Setup::Plain => "60s",
        Setup::Hasty => "1s",
    };
    format!(
        "global
  maxconn 256
  nbthread 1
defaults
  mode http
  option forwardfor
  option redispatch
  timeout connect 5s
  timeout client {wait}
  timeout server {wait}
  timeout http-request {wait}
  timeout http-keep-alive {wait}
frontend front
  bind {address}
  default_backend servers
backend servers
  balance roundrobin
{list}"
    )
}
