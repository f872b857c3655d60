//! What a process has used and has, by `/proc` (proc(5)).

use std::time::Duration;

use anyhow::Context;

/// What `/proc` counts in: Linux shows a hundred ticks a second to programs, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time that a process has used, in all its threads, in user and system mode.
///
/// # Errors
/// When there is no such process, or no `/proc`.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticks = ticks(&text).with_context(|| format!("{path} is not understood"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
}

/// Fields 14 and 15 of a line of `/proc/PID/stat`; the program's name, which may hold anything, ends with the last `)`.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The memory that a process holds, in bytes (`VmRSS`).
///
/// # Errors
/// When there is no such process, or no `/proc`.
pub fn memory(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kb| kb.parse::<u64>().ok());
    Ok(kb.with_context(|| format!("{path} is not understood"))? * 1024)
}

/// Datagrams that this machine's sockets had no room for, since it started (`RcvbufErrors`).
pub fn dropped_datagrams() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    dropped(&text).unwrap_or(0)
}

/// The file has two lines for each protocol: names and values.
fn dropped(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let place = lines.next()?.split(' ').position(|name| name == "RcvbufErrors")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

/// What the processors of this machine have done since it started, all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processors {
    /// For programs, in user and system mode; without interrupts.
    pub programs: Duration,
    /// Not there: others on the same host had them.
    pub stolen: Duration,
}

impl Processors {
    /// By `/proc/stat`; nothing where there is none.
    pub fn now() -> Processors {
        Processors::parse(&std::fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or_default()
    }

    /// The first line: user, nice, system, idle, iowait, irq, softirq, steal.
    fn parse(stat: &str) -> Option<Processors> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND);
        let &[user, nice, system, _, _, _, _, steal, ..] = ticks.as_slice() else { return None };
        Some(Processors { programs: time(user + nice + system), stolen: time(steal) })
    }

    /// Since `before`, in percent of one processor: what programs had besides `known` of it, and what was stolen.
    pub fn taken_pct(&self, before: &Processors, known: Duration, took: Duration) -> (f64, f64) {
        let pct = |time: Duration| 100.0 * time.as_secs_f64() / took.as_secs_f64().max(0.001);
        let others = self.programs.saturating_sub(before.programs).saturating_sub(known);
        (pct(others), pct(self.stolen.saturating_sub(before.stolen)))
    }
}

/// The machine: processor, how many of them, kernel.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": an unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']).to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} x {model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let line = "4242 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 700 31 0 0 20 0";
        assert_eq!(ticks(line), Some(731));
        assert_eq!(ticks("4242 (cut off) S 1 2"), None);
    }

    #[test]
    fn dropped_datagrams_are_read_by_their_name() {
        let text = "Tcp: InSegs\nTcp: 3\nUdp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 9 7 5\nUdpLite: RcvbufErrors\nUdpLite: 1\n";
        assert_eq!(dropped(text), Some(7));
        assert_eq!(dropped("Udp: InDatagrams\nUdp: 9\n"), None);
    }

    #[test]
    fn what_others_had_is_what_nobody_known_had() {
        let at = |stat| Processors::parse(stat).unwrap();
        let before = at("cpu  1000 0 500 9000 5 0 40 100 0 0\ncpu0 1 2 3 4 5 6 7 8\n");
        let then = at("cpu  1500 100 900 9900 5 0 90 120 0 0\n");
        let (others, stolen) = then.taken_pct(&before, Duration::from_secs(8), Duration::from_secs(10));
        assert!((others - 20.0).abs() < 0.01 && (stolen - 2.0).abs() < 0.01, "{others} {stolen}");
        assert_eq!(Processors::parse("cpu0 1 2 3\n"), None);
    }

    #[test]
    fn this_process_has_both() {
        let pid = std::process::id();
        assert!(memory(pid).is_ok_and(|bytes| bytes > 100_000));
        assert!(processor_time(pid).is_ok());
    }
}
