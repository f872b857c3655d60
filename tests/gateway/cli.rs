//! What the command line says, and with which exit code.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use tempfile::TempDir;

use crate::support::output;

const AUTH: &str = "[auth]\nopen = true\n";
const PLAN: &str = include_str!("../../dialplans/demo.toml");

/// A folder with a configuration and a plan.
fn folder(config: &str, plan: &str) -> (TempDir, String) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/plan.toml"), plan).unwrap();
    let file = dir.path().join("ringback.toml");
    fs::write(&file, config).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (dir, file)
}

fn trunk(address: &str) -> String {
    format!(
        "[sip]\nudp = [\"127.0.0.1:0\"]\n[media]\nbrowser = \"127.0.0.1:0\"\n{AUTH}[trunk.testphone]\naddress = \"{address}\"\n"
    )
}

#[test]
fn help_and_version_say_what_there_is() {
    let (code, out, _) = output(&["--help"]);
    assert_eq!(code, Some(0));
    for word in ["run", "schema", "openapi", "dashboard", "--config"] {
        assert!(out.contains(word), "{word} is not in the help:\n{out}");
    }
    for command in "check route calls call trace trunks users limits hangup reload drain doctor token status".split(' ')
    {
        let (code, help, _) = output(&[command, "--help"]);
        assert!(code == Some(0) && help.contains("--json"), "{command}:\n{help}");
        assert!(out.contains(&format!("  {command} ")), "{command} is not in the help:\n{out}");
    }
    assert_eq!(output(&["--version"]), (Some(0), format!("ringback {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (code, _, err) = output(&["dance"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("dance"), "{err}");
}

#[test]
fn bench_becomes_the_driver_beside_the_program_with_all_arguments() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("ringback");
    fs::copy(env!("CARGO_BIN_EXE_ringback"), &program).unwrap();
    let run = |arguments: &[&str]| {
        let run = std::process::Command::new(&program).arg("bench").args(arguments).env("PATH", "").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (run.status.code(), text(&run.stdout), text(&run.stderr))
    };
    let (code, _, err) = run(&["--calls", "4"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("cargo build --release -p ringback-bench"), "{err}");
    let driver = folder.path().join("ringback-bench");
    fs::write(&driver, "#!/bin/sh\necho \"$@\"\nexit 3\n").unwrap();
    fs::set_permissions(&driver, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run(&["--calls", "4", "--help"]), (Some(3), "--calls 4 --help\n".into(), String::new()));
}

#[test]
fn the_embedded_default_passes_its_own_check() {
    let (code, out, err) = output(&["check"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("good"), "{out}");
}

#[test]
fn a_route_is_explained() {
    let (code, out, err) = output(&["route", "alice", "600"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("testphone"), "{out}");
    let (code, out, _) = output(&["route", "alice", "+442079460000"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("403") || out.contains("404"), "{out}");
    let (code, out, _) = output(&["route", "alice", "600", "--json"]);
    assert_eq!(code, Some(0));
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
}

#[test]
fn a_bad_configuration_is_told_with_file_line_and_remedy() {
    let table = [
        ("[http]\nlisten = \"8080\"\n", "ringback.toml:2:10"),
        ("[http]\nlissten = \"127.0.0.1:8080\"\n", "ringback.toml:2:1: unknown field `lissten`"),
        ("[trunk.testphone]\naddress = \"127.0.0.1:5070\"\n", "there is no [auth] section"),
    ];
    for (config, expected) in table {
        let (_dir, file) = folder(config, PLAN);
        for command in ["check", "run"] {
            let (code, _, err) = output(&["--config", &file, command]);
            assert_eq!(code, Some(1), "{config}");
            assert!(err.contains(expected), "{config}: {err}");
        }
    }
    let (code, _, err) = output(&["--config", "/nowhere/ringback.toml", "run"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/nowhere/ringback.toml: cannot be read"), "{err}");
}

#[test]
fn a_bad_dial_plan_is_told_with_file_and_line() {
    let broken = PLAN.replacen("[plan]", "[plan]\ncolour = \"red\"", 1);
    let (_dir, file) = folder(&trunk("127.0.0.1:5070"), &broken);
    let (code, _, err) = output(&["--config", &file, "check"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("plan.toml:") && err.contains("colour"), "{err}");
}

#[test]
fn a_plan_with_an_unknown_trunk_is_refused() {
    let (_dir, file) = folder(AUTH, PLAN);
    let (code, _, err) = output(&["--config", &file, "run"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("plan.toml:") && err.contains("testphone"), "{err}");
}

#[test]
fn a_port_in_use_is_told_with_the_key_to_change() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = output(&["run", "--listen", &address]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&address) && err.contains("[http] listen"), "{err}");

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, config) in [
        (
            "[sip] udp",
            trunk("127.0.0.1:5070").replacen("udp = [\"127.0.0.1:0\"]", &format!("udp = [\"{address}\"]"), 1),
        ),
        (
            "[media] browser",
            trunk("127.0.0.1:5070").replacen("browser = \"127.0.0.1:0\"", &format!("browser = \"{address}\""), 1),
        ),
    ] {
        let (_dir, file) = folder(&config, PLAN);
        let (code, _, err) = output(&["--config", &file, "run", "--listen", "127.0.0.1:0"]);
        assert_eq!(code, Some(1));
        assert!(err.contains(&address) && err.contains(key), "{key}: {err}");
    }
}

/// The command line cannot open to the world what the configuration may not.
#[test]
fn without_tokens_it_listens_on_loopback_only() {
    let (_dir, file) = folder(&trunk("127.0.0.1:5070"), PLAN);
    for arguments in [&["run", "--listen", "0.0.0.0:0"][..], &["--config", &file, "run", "--listen", "[::]:0"]] {
        let (code, _, err) = output(arguments);
        assert_eq!(code, Some(1));
        assert!(err.contains("without tokens") && err.contains("loopback"), "{err}");
    }
}
