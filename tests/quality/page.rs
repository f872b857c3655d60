//! The media of a browser: ICE, DTLS, SRTP and RTCP of an independent implementation, at a port of its own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use crate::ends::{Paced, RED, Speaker, Track};
use crate::peer::rtp::Packet;

pub struct Page {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    pending: Option<SdpPendingOffer>,
    mid: Mid,
    next: Instant,
    connected: bool,
    /// The answer asks for packets that hold the one before, too.
    red: bool,
    track: Track,
    /// The shares lost that the gateway reported.
    reported: VecDeque<f64>,
}

impl Page {
    /// The media, and the offer for it, with `red` of packets that hold others, too.
    pub async fn offer(red: bool) -> (Page, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port");
        let local = socket.local_addr().expect("an address");
        let now = Instant::now();
        let config = Rtc::builder().set_rtp_mode(true).clear_codecs().enable_opus(true, red);
        let mut rtc = config.set_stats_interval(Some(Duration::from_secs(1))).build(now);
        rtc.add_local_candidate(Candidate::host(local, "udp").expect("a host candidate"));
        let mut change = rtc.sdp_api();
        let mid = change.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
        let (offer, pending) = change.apply().expect("an offer");
        let (track, reported) = (Track::default(), VecDeque::new());
        let page = Page {
            rtc,
            socket,
            local,
            pending: Some(pending),
            mid,
            next: now,
            connected: false,
            red: false,
            track,
            reported,
        };
        (page, offer.to_sdp_string())
    }

    /// Takes the gateway's answer.
    pub fn answered(&mut self, sdp: &str) {
        // By Chromium's rule: where it goes before the codec that it is of.
        let formats =
            sdp.lines().find_map(|line| line.strip_prefix("m=audio ")).and_then(|line| line.split(' ').nth(2));
        self.red = formats == Some(&RED.to_string());
        let answer = SdpAnswer::from_sdp_string(sdp).unwrap_or_else(|error| panic!("the answer: {error}\n{sdp}"));
        let pending = self.pending.take().expect("an offer without an answer");
        self.rtc.sdp_api().accept_answer(pending, answer).unwrap_or_else(|error| panic!("the answer: {error}\n{sdp}"));
    }

    /// Runs until ICE and DTLS are done.
    pub async fn connect(&mut self) {
        while !self.connected {
            self.step(None).await;
        }
    }

    /// Speaks from `begin` on and listens until told to stop; yields what arrived and how late the packets went out.
    pub async fn talk(
        mut self,
        mut speaker: Speaker,
        begin: Instant,
        faster: f64,
        mut stop: oneshot::Receiver<()>,
    ) -> (Track, Vec<f64>) {
        if self.red {
            speaker.repeat();
        }
        let mut paced = Paced::new(begin, faster);
        let mut said = speaker.packet();
        loop {
            let due = said.as_ref().map(|said| paced.due(said));
            tokio::select! {
                () = self.step(due) => {}
                _ = &mut stop => return (self.track, paced.late_ms),
            }
            while let Some(share) = self.reported.pop_front() {
                speaker.reported(share);
            }
            if let Some(at) = due.filter(|at| *at <= Instant::now()) {
                paced.sent(at);
                if let Some(said) = said.take() {
                    let (payload_type, payload) = speaker.sent(&said);
                    let mut direct = self.rtc.direct_api();
                    let stream = direct.stream_tx_by_mid(self.mid, None).expect("a stream to send");
                    let write =
                        RtpWrite::new(payload_type.into(), said.sequence.into(), said.timestamp, at, &payload[..]);
                    stream.write_rtp(write.marker(said.marker));
                    self.timeout();
                    self.drain().await;
                }
                said = speaker.packet();
            }
        }
    }

    /// Waits for a datagram, for the media engine's own time, or for `due`.
    async fn step(&mut self, due: Option<Instant>) {
        let mut buffer = [0; 2_048];
        let wake = due.map_or(self.next, |due| due.min(self.next));
        self.drain().await;
        tokio::select! {
            received = self.socket.recv_from(&mut buffer) => if let Ok((len, source)) = received {
                let receive = Receive::new(Protocol::Udp, source, self.local, &buffer[..len]).expect("a datagram of WebRTC");
                self.input(Input::Receive(Instant::now(), receive));
            },
            () = sleep_until(wake.into()) => self.timeout(),
        }
        self.drain().await;
    }

    fn input(&mut self, input: Input<'_>) {
        self.rtc.handle_input(input).unwrap_or_else(|error| panic!("the browser's media engine: {error}"));
    }

    fn timeout(&mut self) {
        self.input(Input::Timeout(Instant::now()));
    }

    async fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap_or_else(|error| panic!("the browser's media engine: {error}")) {
                Output::Timeout(at) => return self.next = at,
                Output::Transmit(send) => {
                    let _ = self.socket.send_to(&send.contents, send.destination).await;
                }
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::RtpPacket(packet)) => self.track.add(&Packet {
                    payload_type: *packet.header.payload_type,
                    marker: packet.header.marker,
                    sequence: packet.header.sequence_number,
                    timestamp: packet.header.timestamp,
                    ssrc: *packet.header.ssrc,
                    payload: &packet.payload,
                }),
                Output::Event(Event::MediaEgressStats(stats)) => self.reported.extend(stats.loss.map(f64::from)),
                Output::Event(_) => {}
            }
        }
    }
}
