//! A phone: RTP and G.711, each as simple as it can be.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::Context;

use super::leg::{Ear, Mouth};
use crate::rtp::{HEADER, Packet};

/// The two ports of a phone (RFC 3550 section 11: RTP on an even one, RTCP on the next).
#[derive(Debug)]
pub struct PhoneSockets {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    /// Where RTP comes to.
    pub address: SocketAddr,
}

impl PhoneSockets {
    /// Binds a pair that the system has free.
    ///
    /// # Errors
    /// When there is none.
    pub fn bind(ip: IpAddr) -> anyhow::Result<PhoneSockets> {
        for _ in 0..200 {
            let rtp = UdpSocket::bind((ip, 0)).context("a UDP port")?;
            let address = rtp.local_addr()?;
            if address.port().is_multiple_of(2)
                && let Ok(rtcp) = UdpSocket::bind((ip, address.port() + 1))
            {
                rtp.set_nonblocking(true)?;
                return Ok(PhoneSockets { rtp, rtcp, address });
            }
        }
        anyhow::bail!("no two UDP ports in a row are free at {ip}")
    }
}

/// A phone that has taken a call.
#[derive(Debug)]
pub struct Phone {
    pub(super) call: usize,
    pub(super) socket: mio::net::UdpSocket,
    pub(super) mouth: Mouth,
    pub(super) ear: Ear,
    remote: SocketAddr,
    packet: Vec<u8>,
    /// Reports come here and are not read; without the port they would be errors to the gateway.
    _rtcp: UdpSocket,
}

impl Phone {
    /// The phone of call number `call`, whose other side's RTP is at `remote`.
    pub fn new(call: usize, sockets: PhoneSockets, remote: SocketAddr, mouth: Mouth) -> Phone {
        let PhoneSockets { rtp, rtcp, .. } = sockets;
        let (socket, ear) = (mio::net::UdpSocket::from_std(rtp), Ear::new(false));
        Phone { call, socket, mouth, ear, remote, packet: Vec::with_capacity(HEADER + 160), _rtcp: rtcp }
    }

    pub(super) fn read(&mut self) {
        let mut buffer = [0; 2_048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, _)) => {
                    if let Some(packet) = buffer.get(..len).and_then(Packet::parse) {
                        self.ear.hear(Instant::now(), (packet.sequence, packet.timestamp), packet.payload);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A port unreachable of an earlier packet: the next read tells of the next datagram.
                Err(_) => {}
            }
        }
    }

    pub(super) fn speak(&mut self, now: Instant) {
        let timestamp = self.mouth.timestamp(self.mouth.said);
        if let Some((n, payload)) = self.mouth.say(now, &mut self.ear) {
            self.packet.clear();
            let sequence = (n as u16).wrapping_add(0xff00);
            Packet { sequence, timestamp, payload }.write(0, 0x0b0b_0000 + self.call as u32, &mut self.packet);
            // What the system does not take is lost, and found missing at the other end.
            let _ = self.socket.send_to(&self.packet, self.remote);
        }
    }
}
