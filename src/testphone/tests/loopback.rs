//! A call with real sockets and the real clock. It waits for what must come, and for nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::bench::{caller, invite};
use crate::codec::Codec;
use crate::codec::g711::Law;
use crate::rtp::packet::{HEADER_LEN, RtpHeader, RtpPacket};
use crate::sdp::{TrunkLocal, trunk};
use crate::sip::{Body, Flow, Transport, UaEvent, UaOutput, UserAgent};
use crate::testphone::{Config, TestPhone};

/// Nothing here takes longer, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Caller {
    ua: UserAgent,
    flow: Flow,
    sip: UdpSocket,
}

impl Caller {
    fn send(&mut self) -> Vec<UaEvent> {
        let mut events = Vec::new();
        while let Some(output) = self.ua.poll_output() {
            match output {
                UaOutput::Transmit { flow, bytes } => drop(self.sip.send_to(&bytes, flow.remote).unwrap()),
                UaOutput::Event(event) => events.push(event),
            }
        }
        events
    }

    /// Takes SIP messages until one brings what is looked for.
    fn until<T>(&mut self, mut found: impl FnMut(UaEvent) -> Option<T>) -> T {
        let start = Instant::now();
        let mut buffer = [0; 4_096];
        loop {
            if let Some(found) = self.send().into_iter().find_map(&mut found) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "nothing came");
            self.ua.handle_timeout(Instant::now());
            if let Ok((len, from)) = self.sip.recv_from(&mut buffer) {
                assert_eq!(from, self.flow.remote);
                self.ua.handle_datagram(Instant::now(), self.flow, &buffer[..len]);
            }
        }
    }
}

fn bind() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_call_over_loopback_is_answered_echoed_and_ended_by_the_stop() {
    let (sip, gateway) = bind();
    let config = Config { sip_bind: SocketAddr::from(([127, 0, 0, 1], 0)), gateway, canary: None };
    let phone = TestPhone::start(config).await.unwrap();
    assert_ne!(phone.sip_address().port(), 0);
    let calling = tokio::task::spawn_blocking({
        let flow = Flow { transport: Transport::Udp, local: gateway, remote: phone.sip_address(), id: 0 };
        move || call_and_listen(Caller { ua: caller(8), flow, sip })
    });
    let caller = calling.await.unwrap();
    // The phone hangs up: it waits for the answer to its BYE, which the other thread gives.
    let ended = tokio::task::spawn_blocking(move || {
        let mut caller = caller;
        caller.until(|event| matches!(event, UaEvent::Closed { .. }).then_some(()));
    });
    phone.stop().await;
    ended.await.unwrap();
}

fn call_and_listen(mut caller: Caller) -> Caller {
    let (rtp, address) = bind();
    let local = TrunkLocal { codecs: vec![Codec::Pcmu], ..TrunkLocal::new(address, 5) };
    let offer = Body { content_type: "application/sdp".into(), bytes: trunk::offer(&local).into_bytes() };
    caller.ua.invite(Instant::now(), invite(caller.flow, "600", Some(offer))).unwrap();
    let answer = caller.until(|event| match event {
        UaEvent::Answered { body, .. } => body,
        UaEvent::Failed { status, .. } => panic!("refused with {status}"),
        _ => None,
    });
    let media = trunk::read_answer(&local, &answer.bytes).unwrap();
    let to = media.remote_rtp.unwrap();
    assert_eq!(to.port() % 2, 0);
    // Each packet that comes is answered by one, until what we said comes back.
    let start = Instant::now();
    let mut buffer = [0; 2_000];
    for sequence in 0.. {
        assert!(start.elapsed() < PATIENCE, "no echo");
        let (len, from) = rtp.recv_from(&mut buffer).unwrap();
        assert_eq!(from, to);
        let packet = RtpPacket::parse(&buffer[..len]).unwrap();
        if sequence > 3 && packet.payload.iter().all(|byte| *byte == Law::Mu.encode_sample(5_000)) {
            break;
        }
        let mut said = [Law::Mu.encode_sample(5_000); HEADER_LEN + 160];
        let header =
            RtpHeader { marker: false, payload_type: 0, sequence, timestamp: u32::from(sequence) * 160, ssrc: 5 };
        header.write(&mut said).unwrap();
        rtp.send_to(&said, to).unwrap();
    }
    caller
}
