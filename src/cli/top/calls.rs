//! The calls of the admin API, in a thread of their own: keys work however slow the balancer responds.

use super::super::admin::Client;
use super::super::view::Status;
use super::app::History;
use crate::sample::{AdminApi, Unmet};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde_json::{Value, json};
use std::{io, thread};

/// Calls that may wait; keys that are pressed while so many do have no effect.
const CALLS: usize = 16;

/// What the balancer is asked for.
#[derive(Debug)]
pub(super) enum Call {
    /// Its status, and the samples after this number, if it still is this process.
    Ask { pid: u32, since: u64 },
    /// The mode of a server.
    Set { pool: String, name: String, mode: &'static str },
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum News {
    /// Of [`Call::Ask`]; or why there is none.
    Told(Result<Box<Told>, Unmet>),
    /// Of [`Call::Set`]: a sentence.
    Set(String),
}

/// A status, where it comes from, and new samples.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) place: String,
    pub(super) status: Status,
    pub(super) history: Option<History>,
}

/// The thread, which ends when this is dropped and its last call is over.
#[derive(Debug)]
pub(super) struct Calls {
    calls: Sender<Call>,
    news: Receiver<News>,
}

impl Calls {
    /// Starts the thread.
    pub(super) fn start(client: Client) -> io::Result<Self> {
        let ((calls, to_do), (tell, news)) = (bounded(CALLS), unbounded());
        let run = move || {
            for call in to_do {
                let news = match call {
                    Call::Ask { pid, since } => News::Told(ask(&client, pid, since).map(Box::new)),
                    Call::Set { pool, name, mode } => News::Set(set(&client, &pool, &name, mode)),
                };
                let _ = tell.send(news);
            }
        };
        thread::Builder::new().name("calls".to_owned()).spawn(run)?;
        Ok(Calls { calls, news })
    }

    /// Asks for something; never waits.
    pub(super) fn send(&self, call: Call) {
        let _ = self.calls.try_send(call);
    }

    /// What has come since the last look.
    pub(super) fn news(&self) -> impl Iterator<Item = News> {
        self.news.try_iter()
    }
}

/// The status, and what is new of the last minutes: all of it where another process responds than the one known.
pub(super) fn ask(client: &Client, pid: u32, since: u64) -> Result<Told, Unmet> {
    let (place, status) = client.status_and_place()?;
    let read = |error: serde_json::Error| {
        Unmet::Other(format!("the response of the admin API is not valid: {error}"))
    };
    let status: Status = serde_json::from_str(&status).map_err(read)?;
    let since = if status.instance.pid == pid { since } else { 0 };
    let (code, history) = client.call("GET", &format!("/api/v1/history?since={since}"), String::new())?;
    let history = (code == 200).then(|| serde_json::from_str(&history)).transpose().map_err(read)?;
    Ok(Told { place, status, history })
}

/// Sets the mode of a server; what to say of it.
fn set(client: &Client, pool: &str, name: &str, mode: &str) -> String {
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let path = format!("/api/v1/pools/{}/servers/{}", encoded(pool), encoded(name));
    match client.call("PATCH", &path, json!({ "state": mode }).to_string()) {
        Ok((200, _)) => format!("{name} was set to {mode}"),
        Ok((code, body)) => {
            let told: Value = serde_json::from_str(&body).unwrap_or_default();
            format!("{name} was not changed: {}", told["error"].as_str().unwrap_or(&code.to_string()))
        }
        Err(why) => format!("{name} was not changed: {why}"),
    }
}
