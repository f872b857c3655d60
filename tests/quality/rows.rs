//! The calls that are made, and what the network does in each.

use crate::ends::Redundancy;
use crate::network::Weather;

/// What the browser could send on top of its own codec's redundancy, and does not (docs/decisions/0010): for the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Each packet holds the one before, too (RFC 2198).
    Red,
    /// What is missing is sent again, so many milliseconds after it was missed (RFC 4585), and that is never lost.
    Nack(u64),
}

/// One call, both ways at once: the browser speaks to the phone and the phone to the browser.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    /// From the browser to the gateway, from the gateway to the browser, and from the phone to the gateway.
    pub from_browser: Weather,
    pub to_browser: Weather,
    pub from_phone: Weather,
    /// How much faster than the gateway's the ends' clocks run, in millionths.
    pub drift_ppm: f64,
    /// The lengths of the packets of both ends in milliseconds, in turn at random.
    pub ptimes: &'static [usize],
    /// How often all clips are said; the last time counts.
    pub rounds: usize,
    /// What the browser's encoder expects to be lost.
    pub redundancy: Redundancy,
    /// Whether the reduced set has it, and whether a real call of it is made while there is no other.
    pub quick: bool,
    pub alone: bool,
    /// Whether the browser follows our answer to 24 kbit/s of narrowband; 32 kbit/s of all that it hears otherwise.
    pub narrow: bool,
    /// In virtual time alone.
    pub repair: Option<Repair>,
}

impl Row {
    /// Whether no packet comes late by the weather.
    pub fn is_fine(&self) -> bool {
        let still = |weather: &Weather| (weather.jitter_ms, weather.stall, weather.reorder) == (0.0, None, 0.0);
        [self.from_browser, self.to_browser, self.from_phone].iter().all(still)
    }

    /// Whether the trunk's side of the call is what is judged.
    pub fn is_trunk(&self) -> bool {
        self.name.starts_with("trunk")
    }

    fn new(name: &str) -> Row {
        let [from_browser, to_browser, from_phone] = [Weather::FINE; 3];
        Row {
            name: name.into(),
            from_browser,
            to_browser,
            from_phone,
            drift_ppm: 0.0,
            ptimes: &[20],
            rounds: 1,
            redundancy: Redundancy::Expecting(10),
            quick: false,
            alone: false,
            narrow: false,
            repair: None,
        }
    }

    /// The same loss with something to repair it.
    fn repaired(name: &str, percent: f64, burst: f64, repair: Repair) -> Row {
        Row { repair: Some(repair), ..Row::browser(name, Weather::losing(percent, burst)) }
    }

    /// Bad weather on the browser's leg, both ways.
    fn browser(name: &str, weather: Weather) -> Row {
        Row { from_browser: weather, to_browser: weather, ..Row::new(name) }
    }

    /// The same with a browser that does as our answer and our reports say.
    fn chromium(name: &str, percent: f64) -> Row {
        let weather = Weather::losing(percent, 1.0);
        Row { redundancy: Redundancy::AsReported, narrow: true, ..Row::browser(name, weather) }
    }

    /// Bad weather on the way from the phone.
    fn phone(name: &str, weather: Weather) -> Row {
        Row { from_phone: weather, ..Row::new(name) }
    }

    /// One of the reduced set.
    fn quick(self) -> Row {
        Row { quick: true, ..self }
    }

    /// Bad weather of the sort that costs no packet, on all three ways.
    fn everywhere(name: &str, weather: Weather) -> Row {
        Row { from_phone: weather, ..Row::browser(name, weather) }
    }
}

/// All of them. The `trunk` rows have their loss between phone and gateway, the others between browser and gateway.
pub fn all() -> Vec<Row> {
    let jitter = |jitter_ms| Weather { jitter_ms, ..Weather::FINE };
    vec![
        Row::new("0").quick(),
        Row::browser("1", Weather::losing(1.0, 1.0)).quick(),
        Row::browser("3", Weather::losing(3.0, 1.0)).quick(),
        Row::browser("5", Weather::losing(5.0, 1.0)).quick(),
        Row::browser("10", Weather::losing(10.0, 1.0)).quick(),
        Row::browser("burst-5", Weather::losing(5.0, 2.0)).quick(),
        Row::browser("burst-10", Weather::losing(10.0, 2.0)).quick(),
        Row::repaired("red-3", 3.0, 1.0, Repair::Red),
        Row::repaired("red-10", 10.0, 1.0, Repair::Red),
        Row::repaired("red-burst-10", 10.0, 2.0, Repair::Red),
        Row::repaired("nack-3", 3.0, 1.0, Repair::Nack(60)),
        Row::repaired("nack-10", 10.0, 1.0, Repair::Nack(60)),
        Row::repaired("nack-burst-10", 10.0, 2.0, Repair::Nack(60)),
        Row::phone("trunk-1", Weather::losing(1.0, 1.0)).quick(),
        Row::phone("trunk-3", Weather::losing(3.0, 1.0)),
        Row::phone("trunk-5", Weather::losing(5.0, 1.0)).quick(),
        Row::phone("trunk-10", Weather::losing(10.0, 1.0)).quick(),
        Row::phone("trunk-burst-5", Weather::losing(5.0, 2.0)),
        Row::everywhere("jitter-10", jitter(10.0)).quick(),
        Row::everywhere("jitter-30", jitter(30.0)),
        Row::everywhere("stalls", Weather { stall: Some((3.0, 200.0)), jitter_ms: 3.0, ..Weather::FINE }).quick(),
        Row::everywhere("reorder", Weather { reorder: 0.05, ..Weather::FINE }).quick(),
        Row::everywhere("duplicate", Weather { duplicate: 0.2, jitter_ms: 3.0, ..Weather::FINE }).quick(),
        Row::browser("worst", Weather { jitter_ms: 15.0, reorder: 0.02, duplicate: 0.02, ..Weather::losing(5.0, 2.0) }),
        // As a browser speaks where nothing is lost: the delay is measured by it.
        Row { alone: true, ..Row::chromium("chromium-0", 0.0).quick() },
        Row::chromium("chromium-1", 1.0),
        Row::chromium("chromium-3", 3.0),
        Row::chromium("chromium-10", 10.0),
        Row { drift_ppm: 200.0, rounds: 5, ..Row::new("drift+200") },
        Row { drift_ppm: -200.0, rounds: 5, ..Row::new("drift-200") },
        Row { ptimes: &[10], ..Row::new("ptime-10") },
        Row { ptimes: &[60], ..Row::new("ptime-60") },
        Row { ptimes: &[10, 20, 40, 60], ..Row::new("ptime-mixed") }.quick(),
    ]
}
