//! A headless Chromium, driven over its DevTools protocol: messages of JSON with a NUL behind each, over two pipes.

use super::{DEADLINE, until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use tempfile::TempDir;

/// Where a Chromium may be, besides what the environment names.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// The environment variable that names another one.
pub const NAMED_BY: &str = "CHROMIUM";

/// A browser with one page. Dropping it ends it.
pub struct Browser {
    child: Child,
    calls: File,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// Errors in the console of the page.
    pub errors: Vec<String>,
    _folder: TempDir,
}

/// The browser of this machine, if there is one.
pub fn installed() -> Option<PathBuf> {
    let named = env::var_os(NAMED_BY).map(PathBuf::from);
    let folders: Vec<_> = env::split_paths(&env::var_os("PATH")?).collect();
    let found = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    named.into_iter().chain(found).find(|path| path.is_file())
}

impl Browser {
    /// Starts it, with an empty page. `None` where it ends before it responds: what a package manager puts in the place of a
    /// program, a library that is missing, a limit of memory.
    pub fn start(program: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (calls, replies) = (folder.path().join("calls"), folder.path().join("replies"));
        assert!(Command::new("mkfifo").args([&calls, &replies]).status().unwrap().success());
        let script = "exec \"$0\" \"$@\" 3<\"$CALLS\" 4>\"$REPLIES\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(program).env("CALLS", &calls).env("REPLIES", &replies);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let calls = OpenOptions::new().write(true).open(calls).unwrap();
        let replies = File::open(replies).unwrap();
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(replies).split(0).map_while(Result::ok) {
                let _ = sender.send(serde_json::from_slice(&message).unwrap());
            }
        });
        let mut browser =
            Browser { child, calls, messages, session: None, last: 0, errors: Vec::new(), _folder: folder };
        let target = browser.try_call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method of the protocol; its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters).expect("the browser has ended")
    }

    /// The same; `None` where the browser has ended.
    fn try_call(&mut self, method: &str, parameters: Value) -> Option<Value> {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.calls.write_all(&bytes).ok()?;
        loop {
            let mut message = match self.messages.recv_timeout(DEADLINE * 4) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("{method}: no message of the browser"),
            };
            if message["id"] == self.last {
                assert_eq!(message["error"], Value::Null, "{method}");
                return Some(message["result"].take());
            }
            self.notice(&message);
        }
    }

    /// Keeps what a developer would see as an error in the console.
    fn notice(&mut self, message: &Value) {
        let parameters = &message["params"];
        let is_error = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => parameters["type"] == "error",
            Some("Log.entryAdded") => parameters["entry"]["level"] == "error",
            _ => false,
        };
        if is_error {
            self.errors.push(parameters.to_string());
        }
    }

    /// Opens a page.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.call("Runtime.evaluate", parameters);
        assert_eq!(result["exceptionDetails"], Value::Null, "{expression}");
        result["result"]["value"].take()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub fn wait(&mut self, expression: &str) {
        until(expression, || self.value(expression) == true);
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str, code: u32, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let key =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", key);
        }
    }

    /// Makes the page this wide and high, dark or light.
    pub fn resize(&mut self, width: u32, height: u32, is_dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Takes a picture of the page into this file.
    pub fn picture(&mut self, file: &Path) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let png = BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        fs::write(file, &png).unwrap();
        png
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
