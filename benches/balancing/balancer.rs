//! The balancers: finds them, writes their configuration, starts and stops them.

use evenkeel::state::config::{self, Config};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The time that a balancer has to accept its first connection.
const START: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Dynamic,
    LeastConnections,
    Nginx,
    HaproxyLeast,
    HaproxyRandom,
    Caddy,
}

/// A running balancer.
pub struct Balancer {
    pub address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // nginx's workers end when their master is asked to end, not when it is killed.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Dynamic,
        Kind::LeastConnections,
        Kind::Nginx,
        Kind::HaproxyLeast,
        Kind::HaproxyRandom,
        Kind::Caddy,
    ];

    pub fn is_evenkeel(self) -> bool {
        self.servers(None).is_some()
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Dynamic => "evenkeel dynamic",
            Kind::LeastConnections => "evenkeel least_connections",
            Kind::Nginx => "nginx least_conn",
            Kind::HaproxyLeast => "haproxy leastconn",
            Kind::HaproxyRandom => "haproxy random(2)",
            Kind::Caddy => "caddy least_conn",
        }
    }

    /// Its program: as given (nginx, HAProxy, Caddy), or on the PATH.
    pub fn program(self, [nginx, haproxy, caddy]: [&Option<PathBuf>; 3]) -> Option<PathBuf> {
        let (given, name) = match self {
            Kind::Dynamic | Kind::LeastConnections => {
                return Some(env!("CARGO_BIN_EXE_evenkeel").into());
            }
            Kind::Nginx => (nginx, "nginx"),
            Kind::HaproxyLeast | Kind::HaproxyRandom => (haproxy, "haproxy"),
            Kind::Caddy => (caddy, "caddy"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
        let found = || folders.map(|folder| folder.join(name)).find(|program| program.is_file());
        given.as_ref().and_then(|given| fs::canonicalize(given).ok()).or_else(found)
    }

    /// What the output says of its configuration: what an operator would set for health.
    pub fn about(self) -> &'static str {
        match self {
            Kind::Dynamic => "all defaults",
            Kind::LeastConnections => "algorithm least_connections",
            Kind::Nginx => {
                "max_fails=3 fail_timeout=10s, proxy_next_upstream with http_500, http_502, http_503, http_504"
            }
            Kind::HaproxyLeast | Kind::HaproxyRandom => {
                "option httpchk, check inter 2s fall 3 rise 2, observe layer7 error-limit 10 on-error mark-down, redispatch"
            }
            Kind::Caddy => {
                "health_uri with health_interval 2s, max_fails 3, fail_duration 10s, unhealthy_status 5xx"
            }
        }
    }

    /// Evenkeel's settings of `servers` for it; `None` of another balancer.
    fn servers(self, limit: Option<u32>) -> Option<Value> {
        let mut servers = match self {
            Kind::Dynamic => json!({ "algorithm": "dynamic" }),
            Kind::LeastConnections => json!({ "algorithm": "least_connections" }),
            Kind::Nginx | Kind::HaproxyLeast | Kind::HaproxyRandom | Kind::Caddy => return None,
        };
        if let Some(limit) = limit {
            servers["max_in_flight"] = limit.into();
        }
        Some(servers)
    }

    /// Evenkeel's configuration for it, as its simulation takes it; `None` of another balancer, and where this build does
    /// not know a setting.
    pub fn config(self, limit: Option<u32>) -> Option<Config> {
        let text = json!({ "servers": self.servers(limit)? }).to_string();
        config::parse(&text, Path::new("/")).ok()
    }

    /// The configuration, each with its own defaults for what is neither about the choice nor about health.
    fn text(self, folder: &Path, address: SocketAddr, setup: &Setup<'_>) -> String {
        let all = |line: &dyn Fn(usize, &SocketAddr) -> String| {
            setup.servers.iter().enumerate().fold(String::new(), |mut text, (number, server)| {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}", line(number, server));
                text
            })
        };
        let limit = |name: &str| setup.limit.map(|limit| format!(" {name}{limit}")).unwrap_or_default();
        match self {
            Kind::Dynamic | Kind::LeastConnections => {
                let servers = self.servers(setup.limit).unwrap_or_default();
                evenkeel(servers, folder, address, setup)
            }
            Kind::Nginx => format!(
                "user root;\ndaemon off;\nworker_processes 2;\npid {folder}/pid;\nerror_log {folder}/error crit;\n\
                 events {{ worker_connections 8192; }}\nhttp {{ access_log off; client_body_temp_path {folder}/b; \
                 proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; \
                 scgi_temp_path {folder}/s;\nupstream all {{ zone all 1m; least_conn;\n{}keepalive 600; }}\nserver {{ \
                 listen {address} backlog=4096; location / {{ proxy_pass http://all; proxy_http_version 1.1; \
                 proxy_set_header Connection \"\"; proxy_next_upstream error timeout http_500 http_502 http_503 http_504; \
                 }} }} }}\n",
                all(&|_, server| format!(
                    "server {server} max_fails=3 fail_timeout=10s{};",
                    limit("max_conns=")
                )),
                folder = folder.display()
            ),
            Kind::HaproxyLeast | Kind::HaproxyRandom => {
                let balance = if self == Kind::HaproxyLeast { "leastconn" } else { "random(2)" };
                let limit = limit("maxconn ");
                haproxy(
                    balance,
                    address,
                    &all(&|number, server| {
                        format!(
                            "server s{number} {server} check inter 2s fall 3 rise 2 observe layer7 error-limit 10 on-error mark-down{limit}"
                        )
                    }),
                )
            }
            Kind::Caddy => format!(
                "{{\nadmin off\nauto_https off\n}}\nhttp://:{} {{\nbind 127.0.0.1\nreverse_proxy {{\n{}lb_policy \
                 least_conn\nlb_try_duration 1s\nhealth_uri /\nhealth_interval 2s\nmax_fails 3\nfail_duration \
                 10s\nunhealthy_status 5xx\n{}}}\n}}\n",
                address.port(),
                all(&|_, server| format!("to {server}")),
                setup.limit.map(|limit| format!("unhealthy_request_count {limit}\n")).unwrap_or_default()
            ),
        }
    }
}

/// What every balancer is told of its servers.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub servers: &'a [SocketAddr],
    /// The most requests at once with each.
    pub limit: Option<u32>,
    /// They have load reports.
    pub has_reports: bool,
}

fn haproxy(balance: &str, address: SocketAddr, servers: &str) -> String {
    format!(
        "global\nnbthread 2\nmaxconn 8000\ndefaults\nmode http\nhttp-reuse always\ntimeout connect 5s\ntimeout client \
         60s\ntimeout server 60s\ntimeout queue 1s\nretries 3\noption redispatch\nfrontend front\nbind {address}\n\
         default_backend all\nbackend all\noption httpchk GET /\nbalance {balance}\n{servers}"
    )
}

fn evenkeel(mut settings: Value, folder: &Path, address: SocketAddr, setup: &Setup<'_>) -> String {
    settings["list"] = setup.servers.iter().map(|server| json!({ "address": server.to_string() })).collect();
    if setup.has_reports {
        settings["load_report"] = json!({ "enabled": true });
    }
    json!({
        "load_balancer": { "load_balancer_port": address.port(), "bind": "127.0.0.1" },
        "servers": settings,
        "admin": { "socket": folder.join("admin.sock"), "bind": null },
        "log": { "level": "warn" },
    })
    .to_string()
}

impl Balancer {
    /// Starts it in front of these servers.
    pub fn start(kind: Kind, program: &Path, setup: &Setup<'_>) -> Result<Balancer, String> {
        let cannot = |error: std::io::Error| format!("{} did not start: {error}", kind.name());
        let folder = tempfile::tempdir().map_err(cannot)?;
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).map_err(cannot)?;
        let file = folder.path().join("configuration");
        fs::write(&file, kind.text(folder.path(), address, setup)).map_err(cannot)?;
        let mut command = Command::new(program);
        match kind {
            Kind::Dynamic | Kind::LeastConnections => command.arg("run").arg("-c").arg(&file),
            Kind::Nginx => command.arg("-p").arg(folder.path()).arg("-c").arg(&file),
            Kind::HaproxyLeast | Kind::HaproxyRandom => command.arg("-db").arg("-f").arg(&file),
            Kind::Caddy => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file),
        };
        let log = File::create(folder.path().join("output")).map_err(cannot)?;
        let outputs = (log.try_clone().map_err(cannot)?, log);
        command.current_dir(folder.path()).env("HOME", folder.path()).stdin(Stdio::null());
        let child = command.stdout(outputs.0).stderr(outputs.1).spawn().map_err(cannot)?;
        let mut balancer = Balancer { address, child, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = !matches!(balancer.child.try_wait(), Ok(None));
            if ended || begun.elapsed() > START {
                let told = fs::read_to_string(balancer._folder.path().join("output")).unwrap_or_default();
                return Err(format!("{} did not start: {}", kind.name(), told.trim()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(balancer)
    }
}
