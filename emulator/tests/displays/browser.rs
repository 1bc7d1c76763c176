//! The page in a headless browser, driven by its debugging protocol.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::{DEADLINE, Running};

const NAMES: [&str; 4] = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    session: String,
    next: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser with `url` open; `None`: the host has none.
    fn open(url: &str) -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let start = |name: &str| {
            let mut command = Command::new(name);
            command.args(["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]);
            command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()
        };
        let mut child = NAMES.into_iter().find_map(start)?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_prefix("DevTools listening on ").map(str::to_owned)
        })?;
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.strip_prefix("ws://")?.split('/').next()?;
        let stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let socket = tungstenite::client(&address, stream).unwrap().0;
        let mut browser = Self { child, socket, session: String::new(), next: 0, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": url }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == json!(self.next) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    fn evaluate(&mut self, script: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": script, "returnByValue": true }));
        result["result"]["value"].clone()
    }

    fn until(&mut self, script: &str) {
        let begun = Instant::now();
        while self.evaluate(script) != json!(true) {
            let state = self.evaluate("JSON.stringify(window.retrograde)");
            assert!(begun.elapsed() < DEADLINE, "{script}: {state}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn key(&mut self, code: &str, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "code": code, "key": key }));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many pixels of the canvas are not black.
const LIT: &str = "(() => { const c = document.querySelector('canvas'); \
    const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer); \
    return d.filter((p) => (p & 0xffffff) !== 0).length; })()";

#[test]
fn the_page_works_in_a_browser() {
    let running = Running::start(&["-display", "web"]);
    let Some(mut browser) = Browser::open(&running.place) else {
        emulator::guests::skip("a headless Chromium", "is not installed");
        return;
    };
    browser.until(&format!("{LIT} > 2000"));
    assert_eq!(browser.evaluate("window.retrograde.state"), json!("running"));
    let before = browser.evaluate(LIT).as_u64().unwrap();
    browser.until("document.activeElement === document.querySelector('canvas')");
    browser.key("KeyH", "h");
    browser.key("Enter", "Enter");
    browser.until(&format!("Math.abs({LIT} - {before}) > 500"));
    // The power buttons.
    browser.evaluate("document.getElementById('pause').click()");
    browser.until("window.retrograde.state === 'paused'");
    browser.evaluate("document.getElementById('pause').click()");
    browser.until("window.retrograde.state === 'running'");
    if let Some(path) = std::env::var_os("RETROGRADE_PICTURES") {
        let picture = browser.call("Page.captureScreenshot", json!({}));
        std::fs::write(path, picture["data"].as_str().unwrap()).unwrap();
    }
    drop(browser);
    running.quits();
}
