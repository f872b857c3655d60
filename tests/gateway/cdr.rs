//! Call records on the running program: every place that `[cdr]` names has the same ones, whole and in order, whatever
//! becomes of a disk, of a database or of the gateway.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Browser, Gateway, PATIENCE, fill, is_root, output};
use crate::uas::Uas;

/// A gateway's folder.
struct Folder {
    dir: TempDir,
    uas: Uas,
}

impl Folder {
    fn new(ports: u16, cdr: &str) -> Folder {
        let (dir, uas) = (TempDir::new().unwrap(), Uas::udp());
        fs::create_dir(dir.path().join("dialplans")).unwrap();
        fs::write(dir.path().join("dialplans/plan.toml"), include_str!("../../dialplans/demo.toml")).unwrap();
        let config = format!(
            "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\nrtp_address = \"127.0.0.1\"\n\
             rtp_ports = \"{ports}-{}\"\n[auth]\nopen = true\n[control]\nsocket = \"control.sock\"\n\
             [trunk.testphone]\naddress = \"{}\"\noptions = 0\n[cdr]\n{cdr}\n",
            ports + 99,
            uas.address
        );
        fs::write(dir.path().join("ringback.toml"), config).unwrap();
        Folder { dir, uas }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("ringback.toml")
    }

    fn start(&self) -> Gateway {
        Gateway::managed(&self.file(), &[("RUST_LOG", "trace")])
    }

    fn place(&self, kind: &str) -> Value {
        place(&self.file(), kind)
    }

    fn wait(&self, kind: &str, what: &str, is: impl Fn(&Value) -> bool) {
        wait(&self.file(), kind, what, is);
    }

    fn wait_written(&self, kind: &str) {
        wait_written(&self.file(), kind);
    }
}

/// What the gateway of this configuration says of the place of that kind.
pub fn place(config: &Path, kind: &str) -> Value {
    let (_, out, error) = output(&["--config", config.to_str().unwrap(), "status"]);
    let status: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("no status: {out} {error}"));
    let place = status["cdr"].as_array().unwrap().iter().find(|place| place["sink"] == kind);
    place.unwrap_or_else(|| panic!("no {kind}: {status}")).clone()
}

pub fn wait(config: &Path, kind: &str, what: &str, is: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    while !is(&place(config, kind)) {
        assert!(begun.elapsed() < PATIENCE, "{kind} is not {what}: {}", place(config, kind));
    }
}

pub fn wait_written(config: &Path, kind: &str) {
    wait(config, kind, "written", |place| place["waiting"] == 0 && place["failing_since"].is_null());
}

/// A call that the dial plan refuses; its id in the records is the gateway's own affair.
pub fn refused(browser: &mut Browser, name: &str) {
    browser.call(name, "99999999");
    browser.expect("ended");
}

/// The records of a file, each line whole.
pub fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("half a line: {line}"))).collect()
}

/// The records of a database, in the order in which they were written.
pub fn rows(file: &Path) -> Vec<Value> {
    let connection = Connection::open(file).unwrap();
    let mut select = connection.prepare("SELECT record FROM cdr ORDER BY rowid").unwrap();
    let rows = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| serde_json::from_str(&row.unwrap()).unwrap()).collect()
}

#[test]
fn sqlite_has_the_rows_that_the_json_lines_have_and_a_restart_loses_none() {
    let folder = Folder::new(24_300, "file = \"cdr.jsonl\"\nsqlite = \"cdr.sqlite\"");
    for run in 0..2 {
        let mut gateway = folder.start();
        let mut alice = Browser::of(&gateway, "alice");
        alice.call("answered", "600");
        alice.expect("answered");
        folder.uas.request("ACK");
        alice.send(&json!({"type": "hangup", "call": "answered"}));
        alice.expect("ended");
        (0..5).for_each(|call| refused(&mut alice, &format!("r{call}")));
        folder.wait_written("sqlite");
        let mode = fs::metadata(folder.path("cdr.sqlite")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o007, 0, "numbers are nobody else's business: {mode:o}");
        gateway.terminate();
        assert!(gateway.wait().success());
        assert_eq!(lines(&folder.path("cdr.jsonl")).len(), 6 * (run + 1));
    }
    let (lines, rows) = (lines(&folder.path("cdr.jsonl")), rows(&folder.path("cdr.sqlite")));
    assert_eq!(lines, rows);
    let connection = Connection::open(folder.path("cdr.sqlite")).unwrap();
    let select =
        "SELECT user_name, dialled, number, trunk, trunks, cause, ended_by, q850, started_ms, talk_ms, codec_b, rule
        FROM cdr WHERE call = ?1";
    for record in &lines {
        let call = record["call"].as_str().unwrap();
        connection
            .query_row(select, [call], |row| {
                let text = |at: usize| row.get::<_, Option<String>>(at).unwrap().map_or(Value::Null, Value::from);
                let number = |at: usize| row.get::<_, Option<i64>>(at).unwrap().map_or(Value::Null, Value::from);
                let same = [(0, "user"), (1, "dialled"), (2, "number"), (5, "cause"), (6, "by"), (11, "rule")];
                same.iter().for_each(|(at, name)| assert_eq!(&text(*at), &record[*name], "{name}"));
                assert_eq!((&number(7), &number(8)), (&record["q850"], &record["start"]));
                assert_eq!(text(10), record["codecs"]["b"]);
                let answered = record["answer"].as_i64();
                assert_eq!(number(9).as_i64(), answered.map(|answer| record["end"].as_i64().unwrap() - answer));
                if answered.is_some() {
                    assert_eq!((text(3), text(4)), ("testphone".into(), "testphone=answered".into()));
                }
                Ok(())
            })
            .unwrap();
    }
}

/// On a small disk of its own, which only the gateway sees.
#[test]
fn a_disk_that_is_full_costs_no_record_and_what_waits_is_written_when_there_is_room() {
    let folder = Folder::new(24_400, "file = \"small/cdr.jsonl\"\nsqlite = \"small/cdr.sqlite\"");
    let gateway = Gateway::on_a_small_disk(&folder.file(), &folder.path("small"));
    let seen = |name: &str| gateway.sees(&folder.path(name));
    let mut alice = Browser::of(&gateway, "alice");
    refused(&mut alice, "first");
    folder.wait_written("sqlite");
    folder.wait_written("file");
    fill(&seen("small/filler"));
    let mut calls = 1;
    let is_failing = |kind: &str| !folder.place(kind)["failing_since"].is_null();
    while !(is_failing("file") && is_failing("sqlite")) {
        refused(&mut alice, &format!("c{calls}"));
        calls += 1;
        assert!(calls < 1000, "the disk is not full");
    }
    gateway.logged(|line| line.contains("CDRs cannot be written") && line.contains("sqlite"));
    for _ in 0..10 {
        refused(&mut alice, &format!("c{calls}"));
        calls += 1;
    }
    fs::remove_file(seen("small/filler")).unwrap();
    folder.wait_written("sqlite");
    folder.wait_written("file");
    let written = lines(&seen("small/cdr.jsonl"));
    assert_eq!(written.len(), calls);
    // The database is read from a copy: SQLite would look for what is beside it under another name.
    for name in ["cdr.sqlite", "cdr.sqlite-wal"] {
        fs::copy(seen(&format!("small/{name}")), folder.path(name)).unwrap();
    }
    assert_eq!(rows(&folder.path("cdr.sqlite")), written);
    assert_eq!((&folder.place("file")["lost"], &folder.place("sqlite")["lost"]), (&json!(0), &json!(0)));
}

/// A PostgreSQL server of Debian's, in a folder of its own.
pub struct Server {
    dir: TempDir,
    port: u16,
    /// Who it runs as: it refuses to be root.
    owner: Option<(u32, u32)>,
    child: Option<Child>,
}

const PASSWORD: &str = "canary-password-of-the-database";

impl Server {
    pub fn new() -> Server {
        let dir = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let owner = is_root().then(postgres_user);
        let server = Server { dir, port, owner, child: None };
        fs::set_permissions(server.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (name, text) in [("password", PASSWORD), ("cert.pem", certificate.as_str()), ("key.pem", key.as_str())] {
            fs::write(server.path(name), text).unwrap();
            fs::set_permissions(server.path(name), fs::Permissions::from_mode(0o600)).unwrap();
            server.give(&server.path(name));
        }
        fs::create_dir(server.path("run")).unwrap();
        server.give(&server.path("run"));
        fs::create_dir(server.path("data")).unwrap();
        server.give(&server.path("data"));
        let mut initdb = server.program("initdb");
        initdb.args(["--no-sync", "--username=ringback", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
        initdb.arg(format!("--pwfile={}", server.path("password").display())).arg(server.path("data"));
        let made = initdb.output().expect("initdb starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.owner {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut versions = fs::read_dir("/usr/lib/postgresql").expect("the Debian package postgresql");
        let mut command = Command::new(versions.next().unwrap().unwrap().path().join("bin").join(name));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    pub fn start(&mut self) {
        let set = |command: &mut Command, name: &str, value: String| {
            command.args(["-c", &format!("{name}={value}")]);
        };
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.path("data"));
        set(&mut server, "port", self.port.to_string());
        set(&mut server, "listen_addresses", "127.0.0.1".to_owned());
        set(&mut server, "unix_socket_directories", self.path("run").display().to_string());
        set(&mut server, "ssl", "on".to_owned());
        set(&mut server, "ssl_cert_file", self.path("cert.pem").display().to_string());
        set(&mut server, "ssl_key_file", self.path("key.pem").display().to_string());
        self.child = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("PostgreSQL starts"));
        let begun = Instant::now();
        while self.ask("SELECT 1") != Some("1".to_owned()) {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not answer");
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            nix::sys::signal::kill(pid, Signal::SIGINT).unwrap(); // fast: whoever is connected is thrown out
            child.wait().unwrap();
        }
    }

    fn ask(&self, query: &str) -> Option<String> {
        let asked = Command::new("psql")
            .args(["-X", "-A", "-t", "-U", "ringback", "-d", "postgres", "-c", query])
            .args(["-p", &self.port.to_string(), "-h", self.path("run").to_str().unwrap()])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("the Debian package postgresql-client");
        asked.status.success().then(|| String::from_utf8(asked.stdout).unwrap().trim_end().to_owned())
    }

    /// What `[cdr]` needs for it.
    pub fn keys(&self) -> String {
        format!(
            "postgres = \"postgres://ringback@127.0.0.1:{}/postgres\"\npostgres_password_file = \"{}\"\npostgres_ca = \"{}\"\n",
            self.port,
            self.path("password").display(),
            self.path("cert.pem").display()
        )
    }

    pub fn records(&self) -> Vec<Value> {
        let text = self.ask("SELECT record FROM cdr ORDER BY xmin::text::bigint, ctid").expect("an answer");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find(|line| line.starts_with("postgres:")).expect("the Debian package postgresql");
    let mut fields = user.split(':').skip(2).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

#[test]
fn a_database_that_is_gone_and_comes_back_has_every_row_also_when_the_gateway_was_restarted_meanwhile() {
    let mut server = Server::new();
    let folder = Folder::new(24_500, &format!("file = \"cdr.jsonl\"\n{}waiting = \"waiting\"", server.keys()));
    // It is not there yet: the gateway starts all the same.
    let mut gateway = folder.start();
    let mut alice = Browser::of(&gateway, "alice");
    (0..3).for_each(|call| refused(&mut alice, &format!("b{call}")));
    folder.wait("postgres", "failing", |place| !place["failing_since"].is_null() && place["waiting"] == 3);
    server.start();
    folder.wait_written("postgres");
    assert_eq!(server.records(), lines(&folder.path("cdr.jsonl")));
    let safe =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'ringback'";
    assert_eq!(server.ask(safe).as_deref(), Some("t"), "its certificate was verified");

    server.stop();
    (0..20).for_each(|call| refused(&mut alice, &format!("g{call}")));
    folder.wait("postgres", "failing", |place| !place["failing_since"].is_null() && place["waiting"] == 20);
    server.start();
    folder.wait_written("postgres");
    assert_eq!(server.records(), lines(&folder.path("cdr.jsonl")));

    server.stop();
    (0..5).for_each(|call| refused(&mut alice, &format!("a{call}")));
    gateway.terminate();
    assert!(gateway.wait().success());
    assert_eq!(lines(&folder.path("waiting/postgres.jsonl")).len(), 5);
    let log = gateway.whole_log();
    assert!(log.contains("CDRs cannot be written"), "the log says little:\n{log}");
    for (place, text) in [("log", log), ("waiting", fs::read_to_string(folder.path("waiting/postgres.jsonl")).unwrap())]
    {
        assert_eq!(text.lines().find(|line| line.contains(PASSWORD)), None, "in the {place}");
    }
    server.start();
    let next = folder.start();
    folder.wait_written("postgres");
    let all = lines(&folder.path("cdr.jsonl"));
    assert_eq!((all.len(), server.records()), (28, all));
    assert!(!folder.path("waiting/postgres.jsonl").exists());
    let columns =
        "SELECT count(*) FROM cdr WHERE user_name = 'alice' AND dialled = '99999999' AND cause = record->>'cause'
        AND talk_ms IS NULL AND started = to_timestamp(started_ms / 1000.0)";
    assert_eq!(server.ask(columns).as_deref(), Some("28"));
    drop(next);
}
