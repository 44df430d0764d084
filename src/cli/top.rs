//! `evenkeel top`: a running balancer, live, in the terminal. [`app`] is what it shows and what keys do, [`draw`] how it
//! looks; this file has the terminal and the calls of the admin API.

mod app;
mod draw;

use super::admin::{Client, Which};
use super::{Failure, File, failed, find};
use crate::base::{signals, time};
use crate::sample::{AdminApi, Unmet};
use app::{Act, App};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGTERM};
use std::io::{self, IsTerminal, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub(super) const LONG_ABOUT: &str = "\
Watch a running balancer live: its traffic, workers, pools and servers.

Finds the balancer through the same configuration, as `evenkeel status` does, and says which one it
is. Servers can be sorted, filtered, drained and made ready; a drain asks first.";

pub(super) const AFTER_HELP: &str = "\
Keys:
  up, down, j, k   choose a server          d  drain it (asks first)
  s                sort by another column   r  make it ready
  /                filter                   q  quit

Exit codes:
  0  ended with q or ctrl-C, or by a signal
  1  there is no terminal, or no balancer of this configuration responds at the start
  2  the command line is wrong
  3  the configuration is not valid";

/// How often the balancer is asked, as often as it takes its own samples.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The longest wait for a key: how late a signal is noticed.
const KEY_WAIT: Duration = Duration::from_millis(200);
/// What the wait for a key may take after a signal, with a slow drawing.
const STOP_WAIT: Duration = Duration::from_millis(500);

/// The arguments of `evenkeel top`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) file: File,
}

/// Shows the balancer until a key or a signal ends it.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(failed("top needs a terminal; `evenkeel status --watch` prints without one"));
    }
    let config = find(file)?;
    let client = Client::of(&config, arguments.which.admin.as_ref())?;
    let mut app = App::default();
    ask(&client, &mut app).map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let signals = signals::Watch::new(&[SIGTERM, SIGHUP], &[]).map_err(failed)?;
    let told = Arc::clone(&stop);
    thread::Builder::new().name("stop".to_owned()).spawn(move || end(&signals, &told)).map_err(failed)?;
    // From here on a panic restores the terminal, too.
    let mut terminal = ratatui::try_init().map_err(|error| failed(format!("the terminal: {error}")))?;
    let ended = watch(&mut terminal, &client, &mut app, &stop);
    ratatui::restore();
    ended.map_err(|error| failed(format!("the terminal: {error}")))?;
    Ok(0)
}

/// Ends the program at the first signal. A wait for keys does not return any more once the terminal is gone.
fn end(signals: &signals::Watch, stop: &AtomicBool) {
    if signals.wait().is_some() {
        stop.store(true, Ordering::Relaxed);
        let _ = crossbeam_channel::after(STOP_WAIT).recv();
        let _ = ratatui::try_restore();
        std::process::exit(0);
    }
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    client: &Client,
    app: &mut App,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut next = time::now().after(ASK_EVERY);
    while !stop.load(Ordering::Relaxed) {
        terminal.draw(|frame| draw::draw(frame, app))?;
        if event::poll(next.since(time::now()).min(KEY_WAIT))? {
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match app.press(key) {
                Act::Nothing => continue,
                Act::Quit => return Ok(()),
                Act::Set { pool, name, mode } => app.message = Some(set(client, &pool, &name, mode)),
            }
            next = time::now();
        }
        if time::now() >= next {
            next = time::now().after(ASK_EVERY);
            if let Err(why) = ask(client, app) {
                app.message = Some(why.to_string());
            }
        }
    }
    Ok(())
}

/// Asks for the status and for what is new of the last minutes.
fn ask(client: &Client, app: &mut App) -> Result<(), Unmet> {
    let (place, status) = client.status_and_place()?;
    let read = |error: serde_json::Error| {
        Unmet::Other(format!("the response of the admin API is not valid: {error}"))
    };
    app.told(place, serde_json::from_str(&status).map_err(read)?);
    let path = format!("/api/v1/history?since={}", app.history_from());
    let (code, history) = client.call("GET", &path, String::new())?;
    if code == 200 {
        app.adds(serde_json::from_str(&history).map_err(read)?);
    }
    Ok(())
}

/// Sets the mode of a server; what to say of it.
fn set(client: &Client, pool: &str, name: &str, mode: &str) -> String {
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let path = format!("/api/v1/pools/{}/servers/{}", encoded(pool), encoded(name));
    match client.call("PATCH", &path, json!({ "state": mode }).to_string()) {
        Ok((200, _)) => format!("{name} was set to {mode}"),
        Ok((code, body)) => {
            let told: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            format!("{name} was not changed: {}", told["error"].as_str().unwrap_or(&code.to_string()))
        }
        Err(why) => format!("{name} was not changed: {why}"),
    }
}
