#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! Whole calls on loopback sockets: an independent browser side, a worker with its real bridges, and a plain RTP peer
//! as the trunk. What counts is the tone that is heard at the far end.

use std::net::{SocketAddr, UdpSocket};
use std::panic::{catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use str0m::config::DtlsVersion;

use super::*;
use crate::codec::opus::OpusSettings;
use crate::codec::tone::amplitude;
use crate::codec::{Codec, Decoder, Encoder, Rate};
use crate::net::{PortPool, bind_udp, test_ports};
use crate::sdp::{AcceptedCodec, DtlsRole, Hears, IceCredentials, LegMedia, LegPlan, RtpMedia, Side};
use crate::webrtc::Identity;
use crate::webrtc::test_browser::{Browser, our_credentials};

const LIMIT: Duration = Duration::from_secs(10);
const FRAME: Duration = Duration::from_millis(20);
const BROWSER_HZ: f32 = 440.0;
const TRUNK_HZ: f32 = 1000.0;

/// A machine that does not run a thread for so long breaks any sound.
const STOOD_STILL: Duration = Duration::from_millis(60);
const TRIES: usize = 3;

/// These calls are made in real time, beside all other tests: what fails while the machine stood still, as a thread has seen
/// that does nothing else, says nothing and is tried again.
fn in_real_time(test: fn()) {
    for tried in 1..=TRIES {
        let (stop, stopped) = channel::<()>();
        let watch = thread::spawn(move || {
            let (mut longest, mut before) = (Duration::ZERO, Instant::now());
            while stopped.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
                longest = longest.max(before.elapsed());
                before = Instant::now();
            }
            longest
        });
        let done = catch_unwind(test);
        drop(stop);
        let stood = watch.join().unwrap();
        match done {
            Ok(()) => return,
            Err(why) if tried == TRIES || stood < STOOD_STILL => resume_unwind(why),
            Err(_) => println!("tried again: the machine stood still for {stood:?}"),
        }
    }
}

/// Whether a report says that a side's transport is up.
fn is_up(of: Side) -> impl Fn(&MediaReport) -> bool {
    move |report| matches!(report, MediaReport::Connected { side, .. } if *side == of)
}

fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().unwrap()).clone()
}

/// A sine in frames of 20 ms.
struct Tone {
    hz: f32,
    at: u32,
}

impl Tone {
    fn frame(&mut self) -> [i16; 160] {
        std::array::from_fn(|_| {
            self.at += 1;
            ((self.at as f32 * self.hz / 8000.0 * std::f32::consts::TAU).sin() * 8000.0) as i16
        })
    }
}

/// A browser on a socket: its microphone and what it hears.
struct Page {
    browser: Browser,
    socket: UdpSocket,
    microphone: (Tone, Encoder),
    ear: Decoder,
    taken: usize,
    heard: Vec<i16>,
}

impl Page {
    fn new(gateway: SocketAddr, local: &IceCredentials, role: DtlsRole) -> Self {
        Self::saying(BROWSER_HZ, gateway, local, role)
    }

    fn saying(hz: f32, gateway: SocketAddr, local: &IceCredentials, role: DtlsRole) -> Self {
        let bind = if gateway.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = bind_udp(bind.parse().unwrap(), None).unwrap();
        let address = socket.local_addr().unwrap();
        let print = identity().fingerprint();
        let browser = Browser::new(Instant::now(), address, gateway, local, &print, role, DtlsVersion::Auto);
        let opus = Encoder::new(Codec::Opus, Rate::Narrow, OpusSettings::default()).unwrap();
        let microphone = (Tone { hz, at: 0 }, opus);
        let ear = Decoder::new(Codec::Opus, Rate::Narrow).unwrap();
        Self { browser, socket, microphone, ear, taken: 0, heard: Vec::new() }
    }

    fn speak(&mut self) {
        let mut payload = [0; 400];
        let len = self.microphone.1.encode(&self.microphone.0.frame(), &mut payload).unwrap();
        if self.browser.rtc.is_connected() {
            self.browser.send_audio(Instant::now(), &payload[..len]);
        }
    }

    /// Takes and sends what there is.
    fn turn(&mut self) {
        let (now, own) = (Instant::now(), self.socket.local_addr().unwrap());
        let mut buf = [0; 2000];
        while let Ok((len, from)) = self.socket.recv_from(&mut buf) {
            self.browser.receive(now, &(from, own, buf[..len].to_vec()));
        }
        if self.browser.poll_timeout() <= now {
            self.browser.handle_timeout(now);
        }
        while let Some((_, to, bytes)) = self.browser.poll_transmit() {
            self.socket.send_to(&bytes, to).unwrap();
        }
        for packet in &self.browser.received[self.taken..] {
            let mut pcm = [0; 960];
            let len = self.ear.decode(&packet.payload, &mut pcm).unwrap();
            self.heard.extend(&pcm[..len]);
        }
        self.taken = self.browser.received.len();
    }
}

/// A plain phone on a socket, PCMU.
struct Phone {
    socket: UdpSocket,
    gateway: SocketAddr,
    tone: Tone,
    encoder: Encoder,
    ear: Decoder,
    sequence: u16,
    heard: Vec<i16>,
    /// Of each packet that came: sequence number, timestamp, SSRC.
    came: Vec<(u16, u32, u32)>,
}

impl Phone {
    fn new() -> Self {
        Self {
            socket: bind_udp("127.0.0.1:0".parse().unwrap(), None).unwrap(),
            gateway: SocketAddr::from(([0, 0, 0, 0], 0)),
            tone: Tone { hz: TRUNK_HZ, at: 0 },
            encoder: Encoder::new(Codec::Pcmu, Rate::Narrow, OpusSettings::default()).unwrap(),
            ear: Decoder::new(Codec::Pcmu, Rate::Narrow).unwrap(),
            sequence: 65_500,
            heard: Vec::new(),
            came: Vec::new(),
        }
    }

    fn media(&self) -> RtpMedia {
        let pcmu = AcceptedCodec { payload_type: 0, codec: Codec::Pcmu };
        RtpMedia::new(self.socket.local_addr().unwrap(), pcmu, 77)
    }

    fn speak(&mut self) {
        let mut packet = vec![0x80, 0];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((0xFFFF_0000u32.wrapping_add(u32::from(self.sequence.wrapping_sub(65_500)) * 160)).to_be_bytes());
        packet.extend(99u32.to_be_bytes());
        packet.resize(172, 0);
        self.encoder.encode(&self.tone.frame(), &mut packet[12..]).unwrap();
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to(&packet, self.gateway).unwrap();
    }

    fn turn(&mut self) {
        let mut buf = [0; 2000];
        while let Ok((len, _)) = self.socket.recv_from(&mut buf) {
            if len > 12 && buf[1] & 0x7F == 0 {
                let mut pcm = [0; 960];
                let len = self.ear.decode(&buf[12..len], &mut pcm).unwrap();
                self.heard.extend(&pcm[..len]);
                let word = |at: usize| u32::from_be_bytes(buf[at..at + 4].try_into().unwrap());
                self.came.push((u16::from_be_bytes([buf[2], buf[3]]), word(4), word(8)));
            }
        }
    }
}

/// A worker with one call.
struct Call {
    worker: WorkerHandle,
    reports: Receiver<(u64, MediaReport)>,
    said: Vec<MediaReport>,
    page: Page,
    phone: Phone,
    port: u16,
    plan: MediaPlan,
    next: Instant,
}

impl Call {
    fn new(bind: &str, role: DtlsRole) -> Self {
        let seat = Seat::alone(bind.parse().unwrap()).unwrap();
        let config = WorkerConfig { max_calls: 4, local_only: false, cpu: None, name: "media-test".into() };
        let (tell, reports) = channel();
        let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
        let worker =
            WorkerHandle::spawn(seat, config, Means { identity: Some(identity()), music: None }, tell).unwrap();
        let local = our_credentials();
        let mut page = Page::new(worker.browser_address(), &local, role);
        let mut phone = Phone::new();
        let mut pool = PortPool::new("127.0.0.1".parse().unwrap(), test_ports(1), Duration::ZERO);
        let pair = pool.lease(Instant::now()).unwrap();
        let port = pair.port;
        phone.gateway = SocketAddr::from(([127, 0, 0, 1], port));
        let leg = |media| Some(LegPlan { media, hears: Hears::Peer });
        let browser = LegMedia::Browser(page.browser.media(&local, role));
        let plan = MediaPlan { a: leg(browser), b: leg(LegMedia::Rtp(phone.media())) };
        worker.open(1, vec![(RtpSlot(0), pair)], plan.clone(), [1; 32]).unwrap();
        Self { worker, reports, said: Vec::new(), page, phone, port, plan, next: Instant::now() + FRAME }
    }

    /// Both talk, a frame each 20 ms, until `done` or the limit.
    fn talk(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if Instant::now() >= self.next {
                self.next += FRAME;
                self.page.speak();
                self.phone.speak();
            }
            self.page.turn();
            self.phone.turn();
            self.said.extend(self.reports.try_iter().map(|(_, report)| report));
            if done(self) {
                return true;
            }
            // The wait for what comes next, a report or the time to speak.
            let wait = self.next.saturating_duration_since(Instant::now()).min(Duration::from_millis(2));
            self.said.extend(self.reports.recv_timeout(wait).map(|(_, report)| report));
        }
        false
    }

    /// Talks until both have heard a second more, the last half of which was the other's tone: a machine that stands still for a
    /// moment leaves a gap, and no more.
    fn assert_tones(&mut self) {
        let begun = (self.page.heard.len(), self.phone.heard.len());
        let second = |call: &Self| call.page.heard.len() - begun.0 >= 8000 && call.phone.heard.len() - begun.1 >= 8000;
        let heard = self.talk(|call| second(call) && call.wrong_tones().is_none());
        assert!(
            heard,
            "{:?} samples heard, {:?}, {:?}",
            (self.page.heard.len(), self.phone.heard.len()),
            self.wrong_tones(),
            self.said
        );
    }

    /// What of the last half second was not the other's tone alone, at its level.
    fn wrong_tones(&self) -> Option<String> {
        let last = |heard: &[i16]| heard[heard.len().saturating_sub(4000)..].to_vec();
        let ends = [
            ("browser", last(&self.page.heard), BROWSER_HZ, TRUNK_HZ),
            ("phone", last(&self.phone.heard), TRUNK_HZ, BROWSER_HZ),
        ];
        ends.into_iter().find_map(|(who, heard, own, other)| {
            let (told, echo) = (amplitude(&heard, 8000, other), amplitude(&heard, 8000, own));
            let right = told > 5000.0 && told < 12_000.0 && echo < told / 20.0;
            (!right).then(|| format!("{who} heard {told} of {other} Hz, {echo}"))
        })
    }
}

#[test]
fn audio_flows_both_ways_in_each_role_over_ipv4_and_ipv6() {
    in_real_time(|| {
        for (bind, role) in [("127.0.0.1:0", DtlsRole::Passive), ("[::1]:0", DtlsRole::Active)] {
            let mut call = Call::new(bind, role);
            call.assert_tones();
            assert!(call.said.iter().any(is_up(Side::A)), "{:?}", call.said);
            for report in [MediaReport::FirstRtp(Side::A), MediaReport::FirstRtp(Side::B)] {
                assert!(call.said.contains(&report), "{report:?} in {:?}", call.said);
            }
            call.worker.command(1, MediaCommand::Stop).unwrap();
            assert!(call.talk(|call| matches!(call.said.last(), Some(MediaReport::Stopped(_)))));
            let Some(MediaReport::Stopped(stats)) = call.said.last() else { panic!("no counters") };
            for leg in [stats.a, stats.b] {
                assert!(leg.packets_in >= 45 && leg.packets_out >= 45 && leg.lost == 0 && leg.rejected == 0, "{leg:?}");
            }
            for port in [call.port, call.port + 1] {
                assert!(bind_udp(SocketAddr::from(([127, 0, 0, 1], port)), None).is_ok(), "{port} is free again");
            }
            assert!(call.talk(|call| call.page.browser.closed), "the browser was told");
            assert_eq!((call.worker.calls(), call.worker.counters().panics), (0, 0));
            call.worker.stop();
        }
    });
}

#[test]
fn the_same_plan_again_disturbs_nothing() {
    in_real_time(|| {
        let mut call = Call::new("127.0.0.1:0", DtlsRole::Passive);
        call.assert_tones();
        call.worker.command(1, MediaCommand::Update(call.plan.clone())).unwrap();
        call.assert_tones();
        assert_eq!(call.said.iter().filter(|report| is_up(Side::A)(report)).count(), 1);
        call.worker.stop();
    });
}

#[test]
fn a_page_that_closes_is_reported_at_once() {
    in_real_time(|| {
        let mut call = Call::new("127.0.0.1:0", DtlsRole::Passive);
        assert!(call.talk(|call| call.said.iter().any(is_up(Side::A))));
        call.page.browser.close();
        let closed = Instant::now();
        assert!(call.talk(|call| {
            let closed = crate::sdp::MediaLoss::BrowserClosed;
            call.said.iter().any(|report| matches!(report, MediaReport::Lost { loss, .. } if *loss == closed))
        }));
        assert!(closed.elapsed() < Duration::from_secs(1));
        call.worker.stop();
    });
}

/// A page is loaded anew in mid-call: another connection takes the place of its own. The phone hears the comfort tone
/// meanwhile, and its stream goes on without a jump.
#[test]
fn a_page_that_is_loaded_anew_is_heard_again_and_the_phones_stream_goes_on() {
    in_real_time(|| {
        let role = DtlsRole::Passive;
        let mut call = Call::new("127.0.0.1:0", role);
        call.assert_tones();
        call.page.browser.close();
        let away = call.phone.heard.len();
        let soft = |call: &Call| {
            let heard = call.phone.heard.get(away..).unwrap_or_default();
            heard.chunks_exact(1_600).any(|heard| amplitude(heard, 8_000, 392.0) > 500.0)
        };
        assert!(call.talk(soft), "the phone hears that somebody will be back");
        let local = IceCredentials::new("Again", "another-password-of-22");
        let mut page = Page::new(call.worker.browser_address(), &local, role);
        page.browser.expect(4_711);
        let media = page.browser.media(&local, role);
        let again = LegMedia::Browser(crate::sdp::BrowserMedia { ssrc: 4_711, ..media });
        call.plan.a = Some(LegPlan { media: again, hears: Hears::Peer });
        call.worker.command(1, MediaCommand::Update(call.plan.clone())).unwrap();
        call.page = page;
        assert!(call.talk(|call| call.said.iter().filter(|report| is_up(Side::A)(report)).count() == 2));
        call.talk(|call| call.page.heard.len() > 4_000);
        call.assert_tones();
        for pair in call.phone.came.windows(2) {
            let [(first, at, ssrc), (second, then, same)] = pair else { panic!() };
            assert_eq!((second.wrapping_sub(*first), same), (1, ssrc));
            // A frame, and once less than another: frames fall in step with the new stream.
            assert!((160..320).contains(&then.wrapping_sub(*at)), "{pair:?}");
        }
        call.worker.stop();
    });
}

/// Two browsers in one call, on the one port of the worker: each one's checks and media find its own leg.
#[test]
fn two_browsers_talk_to_each_other_through_one_port() {
    in_real_time(|| {
        let seat = Seat::alone("127.0.0.1:0".parse().unwrap()).unwrap();
        let config = WorkerConfig { max_calls: 4, local_only: false, cpu: None, name: "media-test".into() };
        let (tell, reports) = channel();
        let tell: Reports = Box::new(move |call, report| drop(tell.send((call, report))));
        let worker =
            WorkerHandle::spawn(seat, config, Means { identity: Some(identity()), music: None }, tell).unwrap();
        let credentials = ["alice", "bobby"].map(|ufrag| IceCredentials { ufrag: ufrag.into(), ..our_credentials() });
        let mut pages = [0, 1].map(|n: usize| {
            let hz = [BROWSER_HZ, TRUNK_HZ][n];
            Page::saying(hz, worker.browser_address(), &credentials[n], DtlsRole::Passive)
        });
        let [a, b] = [0, 1].map(|n: usize| {
            let media = LegMedia::Browser(pages[n].browser.media(&credentials[n], DtlsRole::Passive));
            Some(LegPlan { media, hears: Hears::Peer })
        });
        worker.open(1, Vec::new(), MediaPlan { a, b }, [1; 32]).unwrap();
        let (end, mut next, mut said) = (Instant::now() + LIMIT, Instant::now(), Vec::new());
        while Instant::now() < end && pages.iter().any(|page| page.heard.len() < 16_000) {
            if Instant::now() >= next {
                next += FRAME;
                pages.iter_mut().for_each(Page::speak);
            }
            pages.iter_mut().for_each(Page::turn);
            said.extend(reports.recv_timeout(Duration::from_millis(2)).map(|(_, report)| report));
        }
        for side in Side::BOTH {
            assert!(said.iter().any(is_up(side)), "{side:?} in {said:?}");
        }
        for (page, own, other) in [(&pages[0], BROWSER_HZ, TRUNK_HZ), (&pages[1], TRUNK_HZ, BROWSER_HZ)] {
            let heard = &page.heard[page.heard.len().saturating_sub(4_000)..];
            let (told, echo) = (amplitude(heard, 8_000, other), amplitude(heard, 8_000, own));
            assert!(told > 5_000.0 && told < 12_000.0 && echo < told / 20.0, "{told} of {other} Hz, {echo}");
        }
        assert_eq!(worker.counters().unroutable, 0);
        worker.stop();
    });
}
