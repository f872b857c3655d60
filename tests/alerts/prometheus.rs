//! A Prometheus of the test's own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::free_port;
use crate::support::PATIENCE;

/// How long an alert may take: several evaluations, and what makes its fault.
const FIRES_WITHIN: std::time::Duration = PATIENCE.saturating_mul(2);

/// Between two looks.
pub const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);

/// It ends with the value.
pub struct Prometheus {
    dir: TempDir,
    child: Child,
    port: u16,
    pub begun: Instant,
}

impl Prometheus {
    /// Scrapes `[api]` on that port with the token in the file, by the shipped rules.
    pub fn start(target: u16, token: &Path) -> Prometheus {
        let program = std::env::var("RINGBACK_PROMETHEUS").expect("RINGBACK_PROMETHEUS: see tests/alerts/run");
        let (dir, port) = (TempDir::new().unwrap(), free_port());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
        let rules = fs::read_to_string(shipped.join("ringback.rules.yml")).unwrap();
        let hasty: Vec<&str> = rules
            .lines()
            .map(|line| if line.starts_with("        for: ") { "        for: 1s" } else { line })
            .collect();
        fs::write(dir.path().join("ringback.rules.yml"), hasty.join("\n")).unwrap();
        let config = fs::read_to_string(shipped.join("prometheus.yml")).unwrap();
        let config = config
            .replace("15s", "500ms")
            .replace("credentials_file: token", &format!("credentials_file: {}", token.display()))
            .replace("gateway:8081", &format!("127.0.0.1:{target}"));
        let file = dir.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus starts");
        Prometheus { dir, child, port, begun: Instant::now() }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // HTTP/1.0: the answer is not in chunks, and ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    /// The result of an instant query; a query that is none fails the test.
    pub fn query(&self, query: &str) -> Value {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).unwrap_or_default();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].clone()
    }

    /// Waits until a query's first series has that value.
    pub fn until(&self, query: &str, wanted: f64) {
        let begun = Instant::now();
        loop {
            // It may be starting still.
            let ready =
                TcpStream::connect(("127.0.0.1", self.port)).is_ok() && self.get("/api/v1/status/buildinfo").is_some();
            let found = if ready { self.query(query)[0]["value"][1].clone() } else { Value::Null };
            if found.as_str().and_then(|text| text.parse().ok()) == Some(wanted) {
                return;
            }
            assert!(begun.elapsed() < FIRES_WITHIN, "{query} is {found}, not {wanted}\n{}", self.log());
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// The alerts that fire, and how many of each.
    pub fn firing(&self) -> BTreeMap<String, usize> {
        let answer = self.get("/api/v1/alerts").unwrap_or_default();
        let mut firing = BTreeMap::new();
        for alert in
            answer["data"]["alerts"].as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing")
        {
            *firing.entry(alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        firing
    }

    /// Waits until it fires.
    pub fn fires(&self, alert: &str) {
        self.fires_while(alert, || {});
    }

    /// Makes a fault again and again until the alert fires.
    pub fn fires_while(&self, alert: &str, mut fault: impl FnMut()) {
        let begun = Instant::now();
        while !self.firing().contains_key(alert) {
            assert!(
                begun.elapsed() < FIRES_WITHIN,
                "{alert} does not fire; these do: {:?}\n{}",
                self.firing(),
                self.log()
            );
            fault();
            std::thread::park_timeout(LOOK_EVERY);
        }
        println!("{alert} fires after {:.1?}", begun.elapsed());
    }

    /// What nobody has made does not fire.
    pub fn do_not_fire(&self, alerts: &[&str]) {
        let firing = self.firing();
        for alert in alerts {
            assert_eq!(firing.get(&format!("Ringback{alert}")), None, "{alert}");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
