//! A real browser, driven as people's tests drive it: Chromium behind chromedriver (W3C WebDriver).
//!
//! A [`Browser`] has a profile of its own, asks nobody on the network for anything of its own accord, and is gone on
//! drop. It shows a page as wide as asked, in the dark or in the light, runs scripts in it and tells what it
//! complained of. [`page`] has what any page should stand: nothing cut off, nothing too pale to be read.

#![expect(
    clippy::disallowed_methods,
    reason = "a test's own files are no data of pefo's"
)]

pub mod page;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::Child;
use crate::skip::{self, Skip};
use crate::{place, wait};

const BROWSER: &str = "/usr/bin/chromium";
const DRIVER: &str = "/usr/bin/chromedriver";
const LIMIT: Duration = Duration::from_secs(60);

/// Which colours the reader's system asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A running browser with one window.
#[derive(Debug)]
pub struct Browser {
    session: String,
    _driver: Child,
    directory: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Errors
    /// The skip `no-chromium` where it is not installed; Ubuntu has it as a snap only.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Result<Self, Skip> {
        skip::require_path(
            Path::new(BROWSER),
            "no-chromium",
            "chromium; on Ubuntu there is but a snap",
        )?;
        skip::require_path(
            Path::new(DRIVER),
            "no-chromium",
            "chromium-driver; on Ubuntu there is but a snap",
        )?;
        let directory = place::directory("browser");
        let log = directory.path().join("driver.log");
        let driver = start_driver(&log);
        let says = || {
            let text = std::fs::read_to_string(&log).ok()?;
            let (_, rest) = text.split_once("started successfully on port ")?;
            rest.split_once('.')?.0.parse::<u16>().ok()
        };
        let Some(port) = wait::within(LIMIT, says) else {
            panic!(
                "chromedriver does not say its port: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        };
        let mut arguments = vec![
            "--headless".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            // It ends with the driver, however that ends.
            "--remote-debugging-pipe".to_owned(),
            format!(
                "--user-data-dir={}",
                directory.path().join("profile").display()
            ),
        ];
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        let mut browser = Self {
            session: format!("http://127.0.0.1:{port}/session"),
            _driver: driver,
            directory,
        };
        let options = json!({ "binary": BROWSER, "args": arguments });
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let begun = browser.post("", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        let Some(id) = begun["sessionId"].as_str() else {
            panic!("no session was begun: {begun}");
        };
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    /// Opens the page in a file.
    ///
    /// # Panics
    /// Where the browser does not.
    pub fn open(&self, path: &Path) {
        self.post(
            "/url",
            &json!({ "url": format!("file://{}", path.display()) }),
        );
    }

    /// Shows what is open as on a screen of so many pixels, in these colours.
    ///
    /// # Panics
    /// Where the browser does not.
    pub fn look(&self, width: u32, height: u32, scheme: Scheme) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.tell("Emulation.setDeviceMetricsOverride", &metrics);
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.tell("Emulation.setEmulatedMedia", &features);
    }

    /// Runs the body of a function in the page and gives what it returns.
    ///
    /// # Panics
    /// Where it throws.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What the browser has logged since it was last asked: errors of scripts, loads that failed or were forbidden.
    ///
    /// # Panics
    /// Where the browser does not tell.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// The DevTools protocol, where WebDriver has no word for it.
    fn tell(&self, command: &str, parameters: &Value) {
        self.post(
            "/goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        );
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let mut curl = Command::new("curl");
        // From a file: scripts are long, and command lines are not.
        let asked = self.directory.path().join("request.json");
        write(&asked, &body.to_string());
        curl.args([
            "-sS",
            "-m",
            "120",
            "-H",
            "Content-Type: application/json",
            "--data-binary",
        ])
        .arg(format!("@{}", asked.display()))
        .arg(&url);
        let said = match curl.output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => panic!("curl: {error}"),
        };
        let mut answer: Value = match serde_json::from_str(&said) {
            Ok(answer) => answer,
            Err(error) => panic!("{url}: {error}: {said}"),
        };
        let value = answer["value"].take();
        if let Some(error) = value.get("error").and_then(Value::as_str) {
            panic!("{url}: {error}: {}", value["message"]);
        }
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes its browser; it is killed after that.
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "20", "-X", "DELETE", &self.session])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        drop(curl.status());
    }
}

fn start_driver(log: &Path) -> Child {
    write(log, "");
    let said = match std::fs::File::options().append(true).open(log) {
        Ok(said) => said,
        Err(error) => panic!("open {}: {error}", log.display()),
    };
    let mut command = Command::new(DRIVER);
    command.arg("--port=0").stdout(said).stderr(Stdio::null());
    Child::spawn(&mut command)
}

fn write(path: &Path, text: &str) {
    if let Err(error) = std::fs::write(path, text) {
        panic!("write {}: {error}", path.display());
    }
}
