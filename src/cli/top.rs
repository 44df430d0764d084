//! `evenkeel top`: a running balancer, live, in the terminal. [`app`] is what it shows and what keys do, [`draw`] how it
//! looks, [`calls`] asks the admin API in a thread of its own; this file has the terminal.

mod app;
mod calls;
mod draw;

use super::admin::Which;
use super::{Failure, File, failed, running};
use crate::base::{signals, time};
use app::{Act, App};
use calls::{Call, Calls, News};
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGTERM};
use std::io::{self, IsTerminal, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

pub(super) const LONG_ABOUT: &str = "\
Watch a running balancer live: its traffic, workers, pools and servers.

Finds the balancer through the same configuration, as `evenkeel status` does,
and says which one it is. Servers can be sorted, filtered, drained and made
ready; a drain asks first.";

pub(super) const AFTER_HELP: &str = "\
Keys:
  up, down, j, k   choose a server          d  drain it (asks first)
  s                sort by another column   r  make it ready
  /                filter                   q  quit

Exit codes:
  0  ended with q or ctrl-C, or by a signal
  1  there is no terminal, or no balancer of this configuration responds
  2  the command line is wrong
  3  the configuration is not valid";

/// How often the balancer is asked, as often as it takes its own samples.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The longest wait for a key: how late a signal is noticed, and what the balancer has responded.
const KEY_WAIT: Duration = Duration::from_millis(100);
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
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return Err(failed(
            "top needs a terminal with a cursor, and TERM is dumb; `evenkeel status --watch` prints without one",
        ));
    }
    let client = running(&arguments.which, file)?;
    let mut app = App::default();
    app.hears(News::Told(Ok(Box::new(calls::ask(&client, 0, 0).map_err(failed)?))));
    let calls = Calls::start(client).map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let signals = signals::Watch::new(&[SIGTERM, SIGHUP], &[]).map_err(failed)?;
    let told = Arc::clone(&stop);
    thread::Builder::new().name("stop".to_owned()).spawn(move || end(&signals, &told)).map_err(failed)?;
    // From here on a panic restores the terminal, too.
    let mut terminal = ratatui::try_init().map_err(|error| failed(format!("the terminal: {error}")))?;
    let ended = watch(&mut terminal, &calls, &mut app, &stop);
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
    calls: &Calls,
    app: &mut App,
    stop: &AtomicBool,
) -> io::Result<()> {
    let (mut next, mut is_asked) = (time::now().after(ASK_EVERY), false);
    while !stop.load(Ordering::Relaxed) {
        for news in calls.news() {
            is_asked &= !matches!(news, News::Told(_));
            app.hears(news);
        }
        terminal.draw(|frame| draw::draw(frame, app))?;
        if event::poll(next.since(time::now()).min(KEY_WAIT))? {
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match app.press(key) {
                Act::Nothing => continue,
                Act::Quit => return Ok(()),
                Act::Set { pool, name, mode } => calls.send(Call::Set { pool, name, mode }),
            }
            next = time::now();
        }
        if time::now() >= next {
            next = time::now().after(ASK_EVERY);
            // One at a time: a slow balancer is not asked more than it responds.
            if !is_asked {
                is_asked = true;
                calls.send(Call::Ask { pid: app.status.instance.pid, since: app.history_from() });
            }
        }
    }
    Ok(())
}
