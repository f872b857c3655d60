//! Session descriptions, as much as a phone of plain RTP and a proxy between two ends need (RFC 8866).
//!
//! Shared with the load driver, `crates/bench`.

use std::net::SocketAddr;

/// The description of a phone's sound at `media`.
pub fn description(media: SocketAddr) -> String {
    let (ip, port) = (media.ip(), media.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    )
}

/// Where a description's audio is; `None` where it does not say.
pub fn where_audio_is(message: &str) -> Option<SocketAddr> {
    let line = |start: &str| message.lines().find_map(|line| line.strip_prefix(start));
    let ip = line("c=IN IP4 ").or_else(|| line("c=IN IP6 "))?.trim().parse().ok()?;
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

/// A description whose sound is at `address` and nowhere else: one candidate, too.
pub fn through(sdp: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let (mut moved, mut has_candidate) = (String::new(), false);
    for line in sdp.lines() {
        let mut words: Vec<&str> = line.split(' ').collect();
        let kind = words.first().map_or("", |word| word.split_once(':').map_or(*word, |(name, _)| name));
        // Most ports are 9 and most addresses 0.0.0.0 where ICE shall find them; some take that for a call on hold.
        let replaced: &[(usize, &str)] = match kind {
            "c=IN" => &[(2, &ip)],
            "m=audio" => &[(1, &port)],
            "a=rtcp" => continue,
            "a=candidate" if has_candidate => continue,
            "a=candidate" => {
                has_candidate = true;
                &[(4, &ip), (5, &port)]
            }
            _ => &[],
        };
        for (place, word) in replaced {
            if let Some(there) = words.get_mut(*place) {
                *there = word;
            }
        }
        moved += &(words.join(" ") + "\r\n");
    }
    moved
}
