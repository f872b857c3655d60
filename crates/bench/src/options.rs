//! What is to be measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

/// Measure what calls through a gateway cost, and what the gateway does to their sound.
///
/// So many browsers call so many phones, and all of them speak: DTLS-SRTP on one side, plain RTP on the other. Without
/// --gateway and --rtpengine a gateway is started for the time, on loopback, with a configuration of its own.
#[derive(Debug, Clone, Parser)]
#[command(name = "ringback-bench", version)]
pub struct Options {
    /// Calls at once (20); several numbers: each is measured in turn, with calls begun or ended between
    #[arg(long, value_delimiter = ',')]
    pub calls: Vec<usize>,
    /// Seconds that each number of calls is measured for
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// How often a measurement is made at most, until the machine was nobody else's meanwhile; between two it waits for that
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub tries: u32,
    /// Seconds that calls speak before they are measured: after 25 our encoder's redundancy has followed the reports
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub settle: u64,
    /// Calls that are begun in a second
    #[arg(long, default_value_t = 20.0, value_name = "PER_SECOND")]
    pub ramp: f64,
    /// Go on, so many calls more each time, until p99 of the workers' lateness exceeds 20 ms or sound is lost
    #[arg(long, value_name = "CALLS")]
    pub until_late: Option<usize>,
    /// So many minutes with calls that come and go, at --calls, or at 80 % of what is found to be the most; fails if the
    /// gateway's memory or lateness grows, or a call is lost
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_080))]
    pub soak: Option<u64>,
    /// Seconds that a call of --soak lasts
    #[arg(long, value_name = "LEAST-MOST", default_value = "20-60", value_parser = lasting)]
    pub lasting: (u64, u64),
    /// Seconds from one sample of --soak to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub every: u64,
    /// What chooses how long calls of --soak last
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep what both ends of four of the first calls heard of clips without marks, for tests/quality/score.py; --speech has
    /// the clips, of 8 seconds
    #[arg(long, value_name = "FOLDER", requires = "speech")]
    pub recordings: Option<PathBuf>,
    /// The browsers speak PCMU, which a gateway may pass on as it is
    #[arg(long)]
    pub relay: bool,
    /// The browsers send Opus in full band although asked for narrowband
    #[arg(long, conflicts_with = "relay")]
    pub full_band: bool,
    /// What is spoken: a WAV file, 16 bits, one channel, 8 kHz; without one a voice is made up
    #[arg(long, value_name = "FILE")]
    pub speech: Option<PathBuf>,
    /// A gateway that runs already, such as ws://127.0.0.1:8080; its dial plan sends NUMBER to the phones at --phones
    #[arg(long, value_name = "URL", conflicts_with = "rtpengine")]
    pub gateway: Option<String>,
    /// The number that the browsers call
    #[arg(long, default_value = "100")]
    pub number: String,
    /// The token that the browsers show, where the gateway wants one
    #[arg(long, env = "RINGBACK_BENCH_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Where the phones take calls (SIP over UDP); the system chooses the port of the default
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub phones: SocketAddr,
    /// The address that the ends' media has
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    pub address: IpAddr,
    /// An rtpengine instead, which takes orders (NG protocol) there
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub rtpengine: Option<SocketAddr>,
    /// The process whose processor time and memory are measured, where it was not started here
    #[arg(long)]
    pub pid: Option<u32>,
    /// The gateway's program, which is started; without it the one beside this program
    #[arg(long, value_name = "FILE", env = "RINGBACK_BIN")]
    pub program: Option<PathBuf>,
    /// Media workers of the gateway that is started
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// Percent of a processor above which a worker of that gateway takes no new calls; 0: it takes those that are too many as well
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub busy_at: u8,
    /// Print what is found as JSON
    #[arg(long)]
    pub json: bool,
}

/// `LEAST-MOST`: a call of less than five seconds has no time to be measured.
fn lasting(words: &str) -> Result<(u64, u64), String> {
    let range = words.split_once('-').and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?)));
    range
        .filter(|(least, most)| (5..=*most).contains(least))
        .ok_or_else(|| "two numbers of seconds from 5 up are wanted, such as 20-60".into())
}

#[cfg(test)]
mod tests {
    use super::lasting;

    #[test]
    fn how_long_calls_last_is_a_range() {
        assert_eq!(lasting("20-60"), Ok((20, 60)));
        for wrong in ["", "20", "4-9", "30-20", "5-x"] {
            assert!(lasting(wrong).is_err(), "{wrong}");
        }
    }
}
