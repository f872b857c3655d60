//! The calls that are made, and what the network does in each.

use crate::ends::Redundancy;
use crate::network::Weather;

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
    /// Whether each packet of the browser's holds the one before, too (RFC 2198), where our answer asks for it: Chromium's do,
    /// Firefox' do not.
    pub red: bool,
    /// What the browser could do and is not asked to (docs/decisions/0010): what is missing is sent again, so many milliseconds
    /// after it was missed (RFC 4585), and that is never lost. In virtual time.
    pub nack_ms: Option<u64>,
    /// In virtual time alone.
    pub unreal: bool,
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
            red: true,
            nack_ms: None,
            unreal: false,
        }
    }

    /// The same with Opus' own redundancy alone.
    fn fec(name: &str, percent: f64, burst: f64) -> Row {
        Row { red: false, ..Row::browser(name, Weather::losing(percent, burst)) }
    }

    /// The same with packets sent again.
    fn nack(name: &str, percent: f64, burst: f64) -> Row {
        Row { nack_ms: Some(60), unreal: true, ..Row::fec(name, percent, burst) }
    }

    /// Bad weather on the browser's leg, both ways.
    fn browser(name: &str, weather: Weather) -> Row {
        Row { from_browser: weather, to_browser: weather, ..Row::new(name) }
    }

    /// The same with a browser that does as our answer and our reports say.
    fn chromium(name: &str, percent: f64) -> Row {
        Row::chromium_in(name, Weather::losing(percent, 1.0))
    }

    fn chromium_in(name: &str, weather: Weather) -> Row {
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
        // As Firefox sends, and whatever has no RED.
        Row::fec("fec-1", 1.0, 1.0),
        Row::fec("fec-3", 3.0, 1.0),
        Row::fec("fec-5", 5.0, 1.0).quick(),
        Row::fec("fec-10", 10.0, 1.0),
        Row::fec("fec-burst-5", 5.0, 2.0).quick(),
        Row::fec("fec-burst-10", 10.0, 2.0),
        Row::nack("nack-3", 3.0, 1.0),
        Row::nack("nack-10", 10.0, 1.0),
        Row::nack("nack-burst-10", 10.0, 2.0),
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
        // The same without one or the other of its two redundancies.
        Row { red: false, unreal: true, ..Row::chromium("chromium-fec-3", 3.0) },
        Row { red: false, unreal: true, ..Row::chromium("chromium-fec-10", 10.0) },
        Row { red: false, unreal: true, ..Row::chromium_in("chromium-fec-burst-10", Weather::losing(10.0, 2.0)) },
        Row { redundancy: Redundancy::None, unreal: true, ..Row::chromium("chromium-red-3", 3.0) },
        Row { redundancy: Redundancy::None, unreal: true, ..Row::chromium("chromium-red-10", 10.0) },
        Row {
            redundancy: Redundancy::None,
            unreal: true,
            ..Row::chromium_in("chromium-red-burst-10", Weather::losing(10.0, 2.0))
        },
        Row { unreal: true, ..Row::chromium_in("chromium-burst-10", Weather::losing(10.0, 2.0)) },
        Row { drift_ppm: 200.0, rounds: 5, ..Row::new("drift+200") },
        Row { drift_ppm: -200.0, rounds: 5, ..Row::new("drift-200") },
        Row { ptimes: &[10], ..Row::new("ptime-10") },
        Row { ptimes: &[60], ..Row::new("ptime-60") },
        Row { ptimes: &[10, 20, 40, 60], ..Row::new("ptime-mixed") }.quick(),
    ]
}
