//! A network that loses, delays, reorders and repeats: the same way each time for the same seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a network does to packets in one direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weather {
    /// The share of packets that is lost.
    pub loss: f64,
    /// The mean length of a loss; 1: each packet is lost or not by itself.
    pub burst: f64,
    /// What every packet takes.
    pub delay_ms: f64,
    /// The mean of what a packet takes on top, exponentially distributed; packets do not overtake each other by it.
    pub jitter_ms: f64,
    /// Now and then (once in so many seconds, on average) everything stands still for up to so many milliseconds, as on a
    /// busy wireless network, and then arrives at once.
    pub stall: Option<(f64, f64)>,
    /// The share of packets that takes 30 to 60 ms more and is overtaken.
    pub reorder: f64,
    /// The share of packets that arrives twice.
    pub duplicate: f64,
}

impl Weather {
    pub const FINE: Weather =
        Weather { loss: 0.0, burst: 1.0, delay_ms: 10.0, jitter_ms: 0.0, stall: None, reorder: 0.0, duplicate: 0.0 };

    /// So many percent of the packets are lost, in runs of this mean length.
    pub fn losing(percent: f64, burst: f64) -> Weather {
        Weather { loss: percent / 100.0, burst, ..Weather::FINE }
    }
}

/// One direction of a path.
pub struct Network {
    weather: Weather,
    rng: StdRng,
    /// Whether the packet before was lost.
    losing: bool,
    /// When the last packet that keeps its place arrives.
    last: Duration,
    next_stall: Option<Duration>,
    /// Packets that came and that went.
    pub sent: u64,
    pub lost: u64,
}

impl Network {
    pub fn new(weather: Weather, seed: u64) -> Network {
        let rng = StdRng::seed_from_u64(seed);
        Network { weather, rng, losing: false, last: Duration::ZERO, next_stall: None, sent: 0, lost: 0 }
    }

    /// When a packet that is sent at `now` arrives: never, once or twice.
    pub fn carry(&mut self, now: Duration) -> Vec<Duration> {
        // Drawn in any case: what one packet suffers does not depend on what the weather is otherwise.
        let [loss, late, overtaken, how_late, twice, gap, stall]: [f64; 7] = std::array::from_fn(|_| self.rng.random());
        let Weather { delay_ms, jitter_ms, reorder, duplicate, .. } = self.weather;
        self.sent += 1;
        self.losing = loss < self.loss_now();
        if self.losing {
            self.lost += 1;
            return Vec::new();
        }
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1_000.0);
        let mut arrives = now + ms(delay_ms - jitter_ms * (1.0 - late).ln());
        if let Some((every, most)) = self.weather.stall {
            let pause = ms(-every * 1_000.0 * (1.0 - gap).ln());
            let at = *self.next_stall.get_or_insert(now + pause);
            if now >= at {
                self.next_stall = Some(now + pause);
                arrives += ms(most * (0.3 + 0.7 * stall));
            }
        }
        if overtaken < reorder {
            return vec![arrives + ms(30.0 + 30.0 * how_late)];
        }
        arrives = arrives.max(self.last);
        self.last = arrives;
        if twice < duplicate { vec![arrives, arrives + ms(20.0 * how_late)] } else { vec![arrives] }
    }

    /// The chance that the next packet is lost: two states (Gilbert), of which only the mean run of losses is chosen.
    fn loss_now(&self) -> f64 {
        let Weather { loss, burst, .. } = self.weather;
        if burst <= 1.0 {
            loss
        } else if self.losing {
            1.0 - 1.0 / burst
        } else {
            loss / (burst * (1.0 - loss))
        }
    }
}
