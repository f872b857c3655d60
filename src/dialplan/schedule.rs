//! Schedules: when something is open, by the clocks of a place.
//!
//! The time is an argument and the time zones' rules come with the program: the same plan gives the same answer on every
//! machine.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan as _};

/// The minutes of a day.
const DAY: u16 = 24 * 60;

/// The days' names, as `open` has them, Monday first.
const WEEKDAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

/// A time zone of the IANA database, `Europe/London`.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    let database = TimeZoneDatabase::bundled();
    database.get(name).map_err(|_| format!("there is no time zone {name:?}; write one such as \"Europe/London\""))
}

/// A moment as people write it: `2026-11-20 10:00` by the clocks of `zone`, or with an offset of its own. Seconds since
/// 1970.
pub(super) fn moment(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time such as \"2026-11-20 10:00\" or \"2026-11-20T10:00:00Z\"");
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_second());
    }
    let civil: DateTime = text.parse().map_err(|_| wrong())?;
    zone.to_zoned(civil).map(|zoned| zoned.timestamp().as_second()).map_err(|_| wrong())
}

/// A moment by the clocks of a zone, for people: `Fri 2026-11-20 10:00 Europe/London`.
pub(super) fn told(unix: i64, zone: &TimeZone) -> String {
    let Ok(timestamp) = Timestamp::from_second(unix) else { return format!("{unix} s") };
    let zoned = timestamp.to_zoned(zone.clone());
    let day = WEEKDAYS.iter().find(|(_, day)| *day == zoned.weekday()).map_or("", |(name, _)| name);
    let name = zone.iana_name().unwrap_or("UTC");
    format!("{day} {} {:02}:{:02} {name}", zoned.date(), zoned.hour(), zoned.minute())
}

/// One `[[schedule]]`.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Whose clocks.
    pub zone: TimeZone,
    /// The hours of a usual week.
    pub open: Vec<Weekly>,
    /// Days that are closed.
    pub closed: Vec<Days>,
    /// Days with hours of their own; they go before all others.
    pub special: Vec<(Days, Hours)>,
}

impl Schedule {
    /// Whether it is open at a moment, seconds since 1970.
    pub fn is_open(&self, unix: i64) -> bool {
        let Ok(timestamp) = Timestamp::from_second(unix) else { return false };
        let zoned = timestamp.to_zoned(self.zone.clone());
        let minute = u16::try_from(i32::from(zoned.hour()) * 60 + i32::from(zoned.minute())).unwrap_or(0);
        let today = self.hours_of(zoned.date()).into_iter().any(|hours| hours.have(minute));
        let yesterday = zoned.date().checked_sub(1.day()).ok();
        let late = |date| self.hours_of(date).into_iter().any(|hours| hours.have_late(minute));
        today || yesterday.is_some_and(late)
    }

    /// The hours that begin on a day.
    fn hours_of(&self, date: Date) -> Vec<Hours> {
        let special: Vec<Hours> =
            self.special.iter().filter(|(days, _)| days.have(date)).map(|(_, hours)| *hours).collect();
        if !special.is_empty() {
            return special;
        }
        if self.closed.iter().any(|days| days.have(date)) {
            return Vec::new();
        }
        self.open.iter().filter(|weekly| weekly.has(date.weekday())).map(|weekly| weekly.hours).collect()
    }
}

/// From one minute of a day until before another, which may be one of the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hours {
    from: u16,
    /// At most two days' minutes.
    until: u16,
}

impl Hours {
    fn have(self, minute: u16) -> bool {
        (self.from..self.until).contains(&minute)
    }

    /// Whether they reach into this minute of the next day.
    fn have_late(self, minute: u16) -> bool {
        minute + DAY < self.until
    }
}

impl std::str::FromStr for Hours {
    type Err = ();

    /// `08:30-18:00`; `22:00-06:00` ends on the next day.
    fn from_str(text: &str) -> Result<Hours, ()> {
        let (from, until) = text.split_once('-').ok_or(())?;
        let (from, until) = (minute(from)?, minute(until)?);
        if from == DAY || from == until {
            return Err(());
        }
        Ok(Hours { from, until: if until < from { until + DAY } else { until } })
    }
}

/// `08:30`; `24:00` is the end of the day.
fn minute(text: &str) -> Result<u16, ()> {
    let (hours, minutes) = text.trim().split_once(':').ok_or(())?;
    let two = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().map_err(|_| ()),
        false => Err(()),
    };
    match (two(hours)?, two(minutes)?) {
        (hours @ 0..=23, minutes @ 0..=59) => Ok(hours * 60 + minutes),
        (24, 0) => Ok(DAY),
        _ => Err(()),
    }
}

/// Hours on days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weekly {
    days: [bool; 7],
    hours: Hours,
}

impl Weekly {
    fn has(&self, day: Weekday) -> bool {
        let at = WEEKDAYS.iter().position(|(_, known)| *known == day);
        at.and_then(|at| self.days.get(at)).copied().unwrap_or(false)
    }
}

impl std::str::FromStr for Weekly {
    type Err = String;

    /// `Mon-Fri 08:30-18:00`, `Sat,Sun 09:00-12:00`, `daily 00:00-24:00`.
    fn from_str(text: &str) -> Result<Weekly, String> {
        let wrong = || {
            format!("{text:?} is not like \"Mon-Fri 08:30-18:00\", \"Sat,Sun 09:00-12:00\" or \"daily 06:00-22:00\"")
        };
        let (names, hours) = text.split_once(' ').ok_or_else(wrong)?;
        let hours = hours.trim().parse().map_err(|()| wrong())?;
        let position = |name: &str| WEEKDAYS.iter().position(|(known, _)| *known == name).ok_or_else(wrong);
        let mut days = [names == "daily"; 7];
        for part in names.split(',').filter(|_| names != "daily") {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (mut at, last) = (position(first)?, position(last)?);
            // Sat-Tue goes over the week's end.
            loop {
                if let Some(day) = days.get_mut(at) {
                    *day = true;
                }
                if at == last {
                    break;
                }
                at = (at + 1) % 7;
            }
        }
        Ok(Weekly { days, hours })
    }
}

/// One day, a day of every year, or the days from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Days {
    /// `2026-12-28`, and `2026-12-24/2027-01-02`.
    Span(Date, Date),
    /// `12-25`: month and day.
    Yearly(i8, i8),
}

impl Days {
    fn have(self, date: Date) -> bool {
        match self {
            Days::Span(first, last) => (first..=last).contains(&date),
            Days::Yearly(month, day) => (date.month(), date.day()) == (month, day),
        }
    }
}

impl std::str::FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Days, String> {
        let wrong = || format!("{text:?} is no day such as \"2026-12-25\", \"12-25\" or \"2026-12-24/2027-01-02\"");
        let date = |text: &str| match text.len() == 10 && text.is_ascii() {
            true => text.parse::<Date>().map_err(|_| wrong()),
            false => Err(wrong()),
        };
        if let Some((first, last)) = text.split_once('/') {
            let (first, last) = (date(first)?, date(last)?);
            return if first <= last { Ok(Days::Span(first, last)) } else { Err(wrong()) };
        }
        if text.len() == 5 {
            // A year that has a 29th of February.
            let day = date(&format!("2000-{text}"))?;
            return Ok(Days::Yearly(day.month(), day.day()));
        }
        date(text).map(|day| Days::Span(day, day))
    }
}

/// A day and its hours: `2026-12-24 09:00-12:00`.
pub(super) fn special(text: &str) -> Result<(Days, Hours), String> {
    let wrong = || format!("{text:?} is no day with hours such as \"2026-12-24 09:00-12:00\"");
    let (days, hours) = text.split_once(' ').ok_or_else(wrong)?;
    Ok((days.parse()?, hours.trim().parse().map_err(|()| wrong())?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn schedule(name: &str, open: &[&str], closed: &[&str], special_days: &[&str]) -> Schedule {
        Schedule {
            zone: zone(name).unwrap(),
            open: open.iter().map(|text| text.parse().unwrap()).collect(),
            closed: closed.iter().map(|text| text.parse().unwrap()).collect(),
            special: special_days.iter().map(|text| special(text).unwrap()).collect(),
        }
    }

    fn open(schedule: &Schedule, at: &str) -> bool {
        schedule.is_open(moment(at, &schedule.zone).unwrap())
    }

    #[test]
    fn hours_are_those_of_the_place() {
        let office =
            schedule("Europe/London", &["Mon-Fri 08:30-18:00", "Sat 09:00-12:00"], &["2026-12-25", "01-01"], &[]);
        for (at, expected) in [
            ("2026-11-20 08:29", false),
            ("2026-11-20 08:30", true),
            ("2026-11-20 17:59", true),
            ("2026-11-20 18:00", false),
            ("2026-11-21 11:59", true),
            ("2026-11-21 12:00", false),
            ("2026-11-22 10:00", false),
            ("2026-12-25 10:00", false),
            ("2027-01-01 10:00", false),
            ("2031-01-01 10:00", false),
            // Summer time: half past seven in UTC is half past eight in London.
            ("2026-07-01T07:30:00Z", true),
            ("2026-07-01T07:29:00Z", false),
            ("2026-01-07T08:00:00Z", false),
        ] {
            assert_eq!(open(&office, at), expected, "{at}");
        }
    }

    #[test]
    fn nights_weeks_ends_and_special_days() {
        let night = schedule(
            "America/New_York",
            &["Fri-Sun 22:00-06:00", "Mon 00:00-24:00"],
            &["2026-11-22"],
            &["2026-11-23 10:00-11:00"],
        );
        for (at, expected) in [
            ("2026-11-20 22:00", true),
            ("2026-11-21 05:59", true),
            ("2026-11-21 06:00", false),
            ("2026-11-22 05:00", true),  // of the Saturday night
            ("2026-11-22 23:00", false), // a closed day has no night
            ("2026-11-23 05:00", false),
            ("2026-11-23 10:30", true),
            ("2026-11-23 12:00", false),
            ("2026-11-30 23:59", true),
            ("2026-12-01 00:00", false),
        ] {
            assert_eq!(open(&night, at), expected, "{at}");
        }
    }

    /// The hour that a clock shows twice, and the one that it leaves out.
    #[test]
    fn changes_of_the_clock() {
        let always = schedule("Europe/Berlin", &["Sun 02:00-03:00"], &[], &[]);
        assert!(always.is_open(moment("2026-10-25T00:30:00Z", &always.zone).unwrap()));
        assert!(always.is_open(moment("2026-10-25T01:30:00Z", &always.zone).unwrap()));
        assert!(!always.is_open(moment("2026-10-25T02:30:00Z", &always.zone).unwrap()));
        assert!(!always.is_open(moment("2026-03-29T01:30:00Z", &always.zone).unwrap()));
        assert!(!always.is_open(i64::MAX) && !always.is_open(i64::MIN));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for bad in [
            "",
            "Mon",
            "Mon 8:30-18:00",
            "Mon-Xyz 08:00-09:00",
            "Mon 09:00-09:00",
            "Mon 24:00-25:00",
            "mon 08:00-09:00",
            "daily",
        ] {
            assert!(bad.parse::<Weekly>().is_err(), "{bad}");
        }
        for bad in ["", "2026-13-01", "2026-02-30", "25-12", "2026-12-31/2026-12-01", "2026-12-25 10:00", "é2-25"] {
            assert!(bad.parse::<Days>().is_err(), "{bad}");
        }
        assert!("02-29".parse::<Days>().is_ok());
        assert!(special("2026-12-24").is_err() && special("2026-12-24 9-12").is_err());
        assert!(zone("Europe/Nowhere").is_err());
        assert!(moment("yesterday", &TimeZone::UTC).is_err());
    }
}
