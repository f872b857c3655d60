//! A browser: ICE, DTLS, SRTP and RTCP of an independent implementation, at a port of its own.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, anyhow};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc};
use tokio::sync::mpsc;

use super::Happened;
use super::leg::{Ear, Mouth};
use crate::sound::Coding;

/// The payload types of the implementation's offers.
const OPUS: u8 = 111;
const PCMU: u8 = 0;

/// A browser that has made an offer.
pub struct Offering {
    rtc: Rtc,
    socket: UdpSocket,
    pending: SdpPendingOffer,
    mid: Mid,
    /// Where its datagrams come from.
    pub address: SocketAddr,
}

impl Offering {
    /// A browser at a free port, and its offer.
    ///
    /// # Errors
    /// When no port is free, or the implementation refuses.
    pub fn new(ip: IpAddr, coding: Coding) -> anyhow::Result<(Offering, String)> {
        let socket = UdpSocket::bind((ip, 0)).context("a UDP port")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let builder = Rtc::builder().set_rtp_mode(true).clear_codecs();
        let builder =
            if coding.is_opus() { builder.enable_opus(true, false) } else { builder.enable_pcmu(true, false) };
        let mut rtc = builder.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp")?);
        let mut change = rtc.sdp_api();
        let mid = change.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
        let (offer, pending) = change.apply().context("an offer")?;
        Ok((Offering { rtc, socket, pending, mid, address }, offer.to_sdp_string()))
    }

    /// Takes the answer: from now on it is the browser of call number `call`.
    ///
    /// # Errors
    /// When the implementation does not understand it.
    pub fn answered(mut self, call: usize, sdp: &str, mouth: Mouth) -> anyhow::Result<Page> {
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| anyhow!("the answer: {error}\n{sdp}"))?;
        self.rtc
            .sdp_api()
            .accept_answer(self.pending, answer)
            .map_err(|error| anyhow!("the answer: {error}\n{sdp}"))?;
        let ear = Ear::new(mouth.is_opus());
        let socket = mio::net::UdpSocket::from_std(self.socket);
        let (local, next) = (self.address, Instant::now());
        let payload_type = if mouth.is_opus() { OPUS } else { PCMU };
        let (rtc, mid) = (self.rtc, self.mid);
        Ok(Page { call, rtc, socket, local, mid, payload_type, mouth, ear, next, state: State::Connecting })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    /// Connected; nothing was heard yet.
    Speaking,
    Hearing,
    Failed,
}

/// A browser with a call.
pub struct Page {
    pub(super) call: usize,
    rtc: Rtc,
    pub(super) socket: mio::net::UdpSocket,
    local: SocketAddr,
    mid: Mid,
    payload_type: u8,
    pub(super) mouth: Mouth,
    pub(super) ear: Ear,
    /// When the media engine wants to be woken.
    next: Instant,
    state: State,
}

impl Page {
    pub(super) fn wake(&self) -> Instant {
        match self.state {
            State::Connecting => self.next,
            State::Speaking | State::Hearing => self.next.min(self.mouth.due()),
            // Nothing more is asked of it.
            State::Failed => Instant::now() + std::time::Duration::from_secs(3_600),
        }
    }

    pub(super) fn read(&mut self, tell: &mpsc::Sender<Happened>) {
        let mut buffer = [0; 2_048];
        while self.state != State::Failed {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, source)) => {
                    let datagram = buffer.get(..len).unwrap_or_default();
                    // What is no datagram of WebRTC is none of its business.
                    if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, datagram) {
                        self.input(Input::Receive(Instant::now(), receive), tell);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A port unreachable of an earlier packet: the next read tells of the next datagram.
                Err(_) => {}
            }
        }
    }

    pub(super) fn due(&mut self, now: Instant, tell: &mpsc::Sender<Happened>) {
        let speaks = matches!(self.state, State::Speaking | State::Hearing);
        let timestamp = self.mouth.timestamp(self.mouth.said);
        if speaks && let Some((n, payload)) = self.mouth.say(now, &mut self.ear) {
            let sequence = u64::from(n) + 0xff00;
            let write = RtpWrite::new(self.payload_type.into(), sequence.into(), timestamp, now, payload);
            if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(self.mid, None) {
                stream.write_rtp(write);
            }
        }
        self.input(Input::Timeout(now), tell);
    }

    fn input(&mut self, input: Input<'_>, tell: &mpsc::Sender<Happened>) {
        if self.rtc.handle_input(input).is_err() || self.drain(tell).is_err() {
            self.state = State::Failed;
            let _ = tell.try_send(Happened::Failed(self.call));
        }
    }

    fn drain(&mut self, tell: &mpsc::Sender<Happened>) -> Result<(), str0m::RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.next = at;
                    return Ok(());
                }
                Output::Transmit(send) => {
                    // What the system does not take is lost, and found missing at the other end.
                    let _ = self.socket.send_to(&send.contents, send.destination);
                }
                Output::Event(Event::Connected) => {
                    let now = Instant::now();
                    self.mouth.begin(now);
                    self.state = State::Speaking;
                    let _ = tell.try_send(Happened::Connected(self.call, now));
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    let now = Instant::now();
                    if self.state == State::Speaking {
                        self.state = State::Hearing;
                        let _ = tell.try_send(Happened::FirstSound(self.call, now));
                    }
                    let stamp = (packet.header.sequence_number, packet.header.timestamp);
                    self.ear.hear(now, stamp, &packet.payload);
                }
                Output::Event(_) => {}
            }
        }
    }
}
