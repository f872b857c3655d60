//! Whether this machine's clock is right: tokens, TURN credentials, certificates and call records go by it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Finding;

/// What systemd-timesyncd makes once the clock is set by a time server.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
/// Differences that are spoken of, and those by which good tokens and credentials are refused.
const SLOPPY: Duration = Duration::from_secs(5);
const WRONG: Duration = Duration::from_secs(60);
/// What to do about it.
const REMEDY: &str = "keep it by NTP: `timedatectl set-ntp true`, or chrony";

/// A peer's clock, as its `Date` told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Who.
    pub(super) by: String,
    /// When it was there, Unix seconds.
    pub(super) theirs: u64,
    /// When it was here.
    pub(super) ours: SystemTime,
}

/// Compares our clock with those of peers; that of most of them must be right.
pub(super) fn examine(told: &[Told]) -> Finding {
    let off = |told: &Told| told.ours.duration_since(UNIX_EPOCH).map_or(0, |ours| ours.as_secs()).abs_diff(told.theirs);
    let mut off: Vec<(u64, &str)> = told.iter().map(|told| (off(told), told.by.as_str())).collect();
    off.sort();
    let subject = "clock";
    match off.get(off.len() / 2) {
        Some((seconds, by)) if *seconds > WRONG.as_secs() => {
            Finding::fail(subject, format!("{seconds} s away from that of trunk {by}"), REMEDY)
        }
        Some((seconds, by)) if *seconds > SLOPPY.as_secs() => {
            Finding::warn(subject, format!("{seconds} s away from that of trunk {by}"), REMEDY)
        }
        Some((_, by)) => Finding::ok(subject, format!("as that of trunk {by}")),
        None if Path::new(SYNCHRONISED).exists() => Finding::ok(subject, "kept by systemd-timesyncd"),
        None => {
            let text = "no trunk has told its time; `timedatectl` or `chronyc tracking` says whether the clock is kept";
            Finding::untested(subject, text)
        }
    }
}

/// `Sat, 13 Nov 2010 23:29:00 GMT` ([RFC 3261 section 20.17](https://www.rfc-editor.org/rfc/rfc3261#section-20.17)) as Unix
/// seconds.
pub(super) fn unix_of(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split_ascii_whitespace();
    let _weekday = words.next()?;
    let day: u64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let word = words.next()?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(word))? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let time: Vec<u64> = words.next()?.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let (&[hours, minutes, seconds], Some("GMT")) = (time.as_slice(), words.next()) else { return None };
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    // Years that begin in March: the day that some have more is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let since_1970 = days.checked_sub(719_468)?;
    Some(since_1970 * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn dates_are_read() {
        let table = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sat, 13 Nov 2010 23:29:00 GMT", Some(1_289_690_940)),
            ("Thu, 29 Feb 2024 12:00:01 GMT", Some(1_709_208_001)),
            ("Sat, 13 Nov 2010 23:29:00 CET", None),
            ("Sat, 13 Foo 2010 23:29:00 GMT", None),
            ("Sat, 13 Nov 2010 23:29 GMT", None),
            ("Sat, 99999999999999999999 Nov 2010", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(unix_of(text), expected, "{text}");
        }
    }

    #[test]
    fn most_of_the_peers_are_believed() {
        let ours = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let told = |theirs: u64| Told { by: "carrier".into(), theirs, ours };
        assert_eq!(examine(&[told(1_000_001)]).verdict, Verdict::Ok);
        assert_eq!(examine(&[told(1_000_010)]).verdict, Verdict::Warn);
        assert_eq!(examine(&[told(990_000)]).verdict, Verdict::Fail);
        assert_eq!(examine(&[told(990_000), told(1_000_000), told(1_000_002)]).verdict, Verdict::Ok);
    }
}
