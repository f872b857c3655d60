//! A bridge whose browser is a real one: ICE, DTLS and SRTP in virtual time.

use str0m::config::DtlsVersion;

use super::*;
use crate::webrtc::Identity;
use crate::webrtc::test_browser::{Browser, our_credentials};

/// A bridge and a browser without a way between them yet, and the RTP that the trunk sends meanwhile.
struct Call {
    bridge: Bridge,
    browser: Browser,
    gateway: SocketAddr,
    now: Instant,
}

impl Call {
    fn new() -> Self {
        let (identity, now, gateway) = (Identity::generate().unwrap(), Instant::now(), address(9, 3_478));
        let (ours, role) = (our_credentials(), DtlsRole::Passive);
        let print = identity.fingerprint();
        let mut browser = Browser::new(now, browser_address(), gateway, &ours, &print, role, DtlsVersion::Auto);
        let plan = MediaPlan {
            a: leg(LegMedia::Browser(browser.media(&ours, role)), Hears::Peer),
            b: leg(LegMedia::Rtp(trunk_media(Codec::Pcmu)), Hears::Peer),
        };
        let means = Means { identity: Some(identity), music: None };
        let bridge = Bridge::new(now, plan, &means, [7; 32]).unwrap();
        Self { bridge, browser, gateway, now }
    }

    fn trunk_says(&mut self, n: u16) {
        let header =
            RtpHeader { marker: false, payload_type: 0, sequence: n, timestamp: u32::from(n) * 160, ssrc: TRUNK_SSRC };
        let mut packet = vec![0; 172];
        header.write(&mut packet).unwrap();
        packet[12..].copy_from_slice(&companded(Law::Mu, &sine(1_000.0, usize::from(n) * 160, 160)));
        self.bridge.handle_datagram(self.now, TRUNK_RTP, trunk_address(), &mut packet);
    }

    /// All that both have to say to each other at this moment, over a way that takes no time.
    fn exchange(&mut self) {
        let mut buf = [0; 1_500];
        loop {
            let mut quiet = true;
            while let Some((from, _, mut bytes)) = self.browser.poll_transmit() {
                quiet = false;
                self.bridge.handle_datagram(self.now, Port::Browser, from, &mut bytes);
            }
            while let Some(transmit) = self.bridge.poll_transmit(&mut buf) {
                if transmit.port == Port::Browser {
                    quiet = false;
                    self.browser.receive(self.now, &(self.gateway, transmit.to, buf[..transmit.len].to_vec()));
                }
            }
            while self.bridge.poll_timeout().is_some_and(|at| at <= self.now) {
                quiet = false;
                self.bridge.handle_timeout(self.now);
            }
            if quiet {
                return;
            }
        }
    }
}

/// The end of a handshake shows only when its last datagram is taken from the bridge. It used to be told, and the first sound sent,
/// when the bridge was next called for something else: up to 20 ms later.
#[test]
fn the_first_sound_goes_out_the_moment_the_handshake_is_over() {
    // Whenever that is within the 20 ms of a frame.
    for late in 0..20 {
        let mut call = Call::new();
        let start = call.now;
        for ms in 0..400_u64 {
            call.now = start + Duration::from_millis(ms);
            if ms % 20 == 3 {
                call.trunk_says((ms / 20) as u16);
            }
            if call.browser.poll_timeout() <= call.now {
                call.browser.handle_timeout(call.now);
            }
            if ms >= 23 + late {
                call.exchange();
            }
            if call.browser.rtc.is_connected() {
                break;
            }
        }
        assert!(call.browser.rtc.is_connected());
        assert_eq!(call.browser.received.len(), 1, "{late} ms late");
        let mut reports = std::iter::from_fn(|| call.bridge.poll_report());
        let up = |report: MediaReport| matches!(report, MediaReport::Connected { side: Side::A, .. });
        assert!(reports.any(up), "{late} ms late");
    }
}
