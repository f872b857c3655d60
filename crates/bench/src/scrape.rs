//! What a running Ringback says of its workers (`/metrics`).

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What the workers of a gateway say of themselves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Workers {
    /// All together, since the gateway's start.
    pub lateness: Lateness,
    /// The least of them.
    pub effort: Option<u32>,
}

/// How many timers were served at most so late, in seconds, rising; the last bound is infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lateness(Vec<(f64, u64)>);

impl Workers {
    /// Those of the gateway there.
    ///
    /// # Errors
    /// When it does not answer, or does not let us read its metrics.
    pub async fn read(http: SocketAddr) -> anyhow::Result<Workers> {
        let mut stream = TcpStream::connect(http).await.context("the gateway's metrics")?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {http}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        // At most what a gateway of a thousand trunks has to say.
        stream.take(16 << 20).read_to_string(&mut answer).await?;
        let status = answer.split_whitespace().nth(1).unwrap_or("nothing");
        ensure!(status == "200", "the gateway's metrics: {status}");
        Ok(Workers { lateness: Lateness::parse(&answer), effort: effort(&answer) })
    }
}

fn effort(metrics: &str) -> Option<u32> {
    let each = metrics.lines().filter_map(|line| line.strip_prefix("ringback_worker_effort{")?.rsplit(' ').next());
    each.filter_map(|value| value.parse::<f64>().ok()).map(|value| value as u32).min()
}

impl Lateness {
    fn parse(metrics: &str) -> Lateness {
        let mut counts: Vec<(f64, u64)> = Vec::new();
        let lines = metrics.lines().filter_map(|line| line.strip_prefix("ringback_worker_lateness_seconds_bucket{"));
        for line in lines {
            let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            let bound = if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() };
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
            let (Some(bound), Some(count)) = (bound, count) else { continue };
            match counts.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += count as u64,
                None => counts.push((bound, count as u64)),
            }
        }
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        Lateness(counts)
    }

    /// The bound in milliseconds that 99 of 100 timers kept since `before`; `None` when none was served.
    pub fn p99_ms(&self, before: &Lateness) -> Option<f64> {
        let since = |(bound, count): &(f64, u64)| {
            let earlier = before.0.iter().find(|(known, _)| known == bound).map_or(0, |(_, count)| *count);
            (*bound, count.saturating_sub(earlier))
        };
        let counts: Vec<(f64, u64)> = self.0.iter().map(since).collect();
        let all = counts.last()?.1;
        let enough = all - all / 100;
        counts.iter().find(|(_, count)| all > 0 && *count >= enough).map(|(bound, _)| bound * 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(counts: [u64; 3]) -> String {
        let [two, twenty, all] = counts;
        format!(
            "# TYPE ringback_worker_lateness_seconds histogram\n\
             ringback_worker_lateness_seconds_bucket{{le=\"0.002\",worker=\"0\"}} {two}\n\
             ringback_worker_lateness_seconds_bucket{{le=\"0.02\",worker=\"0\"}} {twenty}\n\
             ringback_worker_lateness_seconds_bucket{{le=\"+Inf\",worker=\"0\"}} {all}\n\
             ringback_worker_lateness_seconds_bucket{{le=\"+Inf\",worker=\"1\"}} 0\n"
        )
    }

    #[test]
    fn the_worker_that_spares_itself_most_is_told() {
        let two = "# TYPE ringback_worker_effort gauge\nringback_worker_effort{worker=\"0\"} 2.0\nringback_worker_effort{worker=\"1\"} 1.0\n";
        assert_eq!(effort(two), Some(1));
        assert_eq!(effort("ringback_calls{} 3\n"), None);
    }

    #[test]
    fn of_a_hundred_timers_one_may_be_late() {
        let before = Lateness::parse(&metrics([100, 100, 100]));
        let p99 = |counts| Lateness::parse(&metrics(counts)).p99_ms(&before);
        assert_eq!(p99([199, 199, 200]), Some(2.0));
        assert_eq!(p99([198, 200, 200]), Some(20.0));
        assert_eq!(p99([198, 198, 200]), Some(f64::INFINITY));
        assert_eq!(p99([100, 100, 100]), None, "nothing since then");
    }
}
