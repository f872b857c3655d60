//! What the system gives: file descriptors, receive buffers, room on the disk.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::{Finding, Running};
use crate::config::{CdrLines, Config};
use crate::net::BIG_BUFFER;

/// Descriptors for all but calls and WebSockets: listeners, page loads, files.
const OTHERS: u64 = 512;
/// Free bytes below which it is spoken of, and below which records are soon lost.
const LITTLE: u64 = 1 << 30;
const NOTHING: u64 = 64 << 20;

pub(super) fn examine(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    let mut findings = vec![descriptors(config, running.and_then(|running| running.pid))];
    findings.extend(fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|text| buffers(&text)));
    findings.extend(files(config).into_iter().map(|(key, path)| disk(key, &path)));
    findings
}

/// A call has two sockets towards its trunk, a WebSocket one.
fn descriptors(config: &Config, pid: Option<i32>) -> Finding {
    let (calls, sockets) = (config.limits.calls as u64, config.limits.sockets as u64);
    let needed = calls * 2 + sockets + OTHERS;
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok();
    let whose = if pid.is_some() { "of the running gateway" } else { "of this shell" };
    let subject = "file descriptors";
    match limits.as_deref().and_then(most_files) {
        None => Finding::untested(subject, "their limit cannot be read"),
        Some(most) if most >= needed => {
            Finding::ok(subject, format!("the limit {whose} is {most}, {needed} may be needed"))
        }
        Some(most) => {
            let text = format!("the limit {whose} is {most}; {calls} calls and {sockets} WebSockets need {needed}");
            let remedy =
                format!("`LimitNOFILE={needed}` in the unit, `ulimit -n {needed}` in a shell; or lower [limits]");
            Finding::warn(subject, text, remedy)
        }
    }
}

/// The soft limit of `/proc/PID/limits`.
fn most_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The system doubles what it is asked for, and gives at most this.
fn buffers(rmem_max: &str) -> Option<Finding> {
    let most: usize = rmem_max.trim().parse().ok()?;
    let subject = "receive buffers";
    if most >= BIG_BUFFER {
        return Some(Finding::ok(subject, format!("net.core.rmem_max is {most}")));
    }
    let text = format!("net.core.rmem_max is {most}: a burst from many browsers may lose packets");
    Some(Finding::warn(subject, text, format!("`sysctl -w net.core.rmem_max={BIG_BUFFER}`, and in /etc/sysctl.d")))
}

/// What is written, by the key that names it.
fn files(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let lines = match &config.cdr.lines {
        Some(CdrLines::File(path)) => Some(("[cdr] file", path.clone())),
        Some(CdrLines::Stdout) | None => None,
    };
    let sqlite = config.cdr.sqlite.clone().map(|path| ("[cdr] sqlite", path));
    let waiting = config.cdr.waiting.clone().map(|path| ("[cdr] waiting", path));
    let store = config.store.clone().map(|path| ("[store] path", path));
    let journal = config.journal.clone().map(|path| ("[journal] file", path));
    let spool = config.spool.clone().map(|path| ("[events] spool", path));
    [lines, sqlite, waiting, store, journal, spool].into_iter().flatten().collect()
}

fn disk(key: &str, path: &Path) -> Finding {
    let subject = format!("{key} {}", path.display());
    let Some(there) = path.ancestors().map(beside).find(|path| path.exists()) else {
        return Finding::fail(subject, "there is no such place", format!("make its folder, or change {key}"));
    };
    if there != path && Some(there) != path.parent().map(beside) {
        let text = format!("its folder does not exist, only {} does", there.display());
        return Finding::fail(subject, text, format!("make the folder, or change {key}"));
    }
    if access(there, AccessFlags::W_OK).is_err() {
        let text = format!("{} may not be written by this user", there.display());
        return Finding::warn(
            subject,
            text,
            "it must be the gateway's; ask as that user (`sudo -u ringback ringback doctor`)",
        );
    }
    match statvfs(there) {
        Err(error) => Finding::untested(subject, format!("its disk says nothing: {error}")),
        Ok(disk) => room(subject, disk.blocks_available().saturating_mul(disk.fragment_size())),
    }
}

/// The path itself; the folder that is meant by an empty one.
fn beside(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn room(subject: String, free: u64) -> Finding {
    let text = format!("{} MiB free", free >> 20);
    let remedy = "make room, or move it to another disk: what cannot be written stands in the log alone";
    match free {
        ..NOTHING => Finding::fail(subject, text, remedy),
        NOTHING..LITTLE => Finding::warn(subject, text, remedy),
        _ => Finding::ok(subject, text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_limit_of_descriptors_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max cpu time              unlimited            unlimited            seconds\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(most_files(text), Some(1024));
        assert_eq!(
            most_files("Max open files            unlimited            unlimited            files"),
            Some(u64::MAX)
        );
        assert_eq!(most_files(""), None);
    }

    #[test]
    fn a_disk_that_fills_and_a_folder_that_is_not_there_are_told() {
        assert_eq!(room("x".into(), 5 << 30).verdict, Verdict::Ok);
        assert_eq!(room("x".into(), 500 << 20).verdict, Verdict::Warn);
        assert_eq!(room("x".into(), 5 << 20).verdict, Verdict::Fail);
        let folder = tempfile::tempdir().unwrap();
        assert_ne!(disk("[cdr] file", &folder.path().join("calls.jsonl")).verdict, Verdict::Untested);
        let found = disk("[cdr] file", &folder.path().join("no/calls.jsonl"));
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.text.contains("does not exist"), "{}", found.text);
        assert_eq!(buffers("212992\n").unwrap().verdict, Verdict::Warn);
        assert_eq!(buffers("8388608\n").unwrap().verdict, Verdict::Ok);
    }
}
