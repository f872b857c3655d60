//! What the system says of the process, by the names that Prometheus' own libraries use.

use std::fs;

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Read anew at each scrape; what the system does not say is left out.
pub(super) fn registry(started_ms: u64) -> Registry {
    let mut registry = Registry::default();
    let mut show = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    };
    let started = started_ms as f64 / 1000.0;
    show("process_start_time_seconds", "When the process began, Unix seconds", Some(started));
    show("process_open_fds", "File descriptors in use", open_descriptors());
    show("process_max_fds", "File descriptors that the process may have", most_descriptors());
    show("process_resident_memory_bytes", "Memory in use", resident_bytes());
    registry
}

fn open_descriptors() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(open.saturating_sub(1) as f64) // but for that of the folder itself
}

/// `Max open files  SOFT  HARD  files`
fn most_descriptors() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `VmRSS:  NUMBER kB`
fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}
