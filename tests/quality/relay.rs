//! The bad network of a real call: a UDP relay between one end and the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::ends::TimeLine;
use crate::network::{Network, Weather};
use crate::peer::rtp::Packet;

/// From now on the weather holds; before, packets pass as they come.
struct Storm {
    begin: Instant,
}

enum Command {
    /// Where the gateway's media is.
    Gateway(SocketAddr),
    Storm(Storm),
    Stop(oneshot::Sender<Passed>),
}

/// A relay for one end of one call.
pub struct Relay {
    /// Where the end sends to, and where the gateway does.
    pub near: SocketAddr,
    pub far: SocketAddr,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// What a relay saw of RTP since the storm began.
#[derive(Default)]
pub struct Passed {
    /// What the gateway sent, before anything happened to it.
    pub line: TimeLine,
    /// The milliseconds that each packet took from the end to the gateway.
    pub took_ms: Vec<f64>,
    /// Packets of the end, and of the gateway: sent and lost.
    pub to_gateway: (u64, u64),
    pub from_gateway: (u64, u64),
}

impl Relay {
    /// A relay whose weather is drawn from `seed`; `clock` is that of what the gateway sends.
    pub async fn start(to_gateway: Weather, from_gateway: Weather, clock: u32, seed: u64) -> Relay {
        let bind = || async { UdpSocket::bind("127.0.0.1:0").await.expect("a free UDP port") };
        let (near, far) = (bind().await, bind().await);
        let address = |socket: &UdpSocket| socket.local_addr().expect("an address");
        let (commands, inbox) = mpsc::channel(8);
        let (near_address, far_address) = (address(&near), address(&far));
        let networks = |n| [Network::new(to_gateway, seed + n), Network::new(from_gateway, seed + n + 1)];
        let running = Running {
            sockets: [far, near],
            ends: [None, None],
            rtp: networks(0),
            other: networks(2),
            clock,
            begin: None,
            due: BTreeMap::new(),
            order: 0,
            passed: Passed::default(),
        };
        let task = tokio::spawn(running.run(inbox));
        Relay { near: near_address, far: far_address, commands, task }
    }

    async fn command(&self, command: Command) {
        self.commands.send(command).await.expect("a running relay");
    }

    pub async fn gateway_at(&self, address: SocketAddr) {
        self.command(Command::Gateway(address)).await;
    }

    pub async fn storm(&self, begin: Instant) {
        self.command(Command::Storm(Storm { begin })).await;
    }

    pub async fn stop(self) -> Passed {
        let (tell, told) = oneshot::channel();
        self.command(Command::Stop(tell)).await;
        self.task.await.expect("a relay that ends well");
        told.await.expect("what passed")
    }
}

/// Which way a packet goes: the index of the socket that it leaves by.
const TO_GATEWAY: usize = 0;
const TO_END: usize = 1;

struct Waiting {
    way: usize,
    came: Instant,
    is_rtp: bool,
    bytes: Vec<u8>,
}

struct Running {
    /// The sockets facing the gateway and the end, and whom they talk to.
    sockets: [UdpSocket; 2],
    ends: [Option<SocketAddr>; 2],
    /// By way. Only RTP draws from the first: its losses are the same in each run, whatever else there is to send.
    rtp: [Network; 2],
    other: [Network; 2],
    clock: u32,
    begin: Option<Instant>,
    due: BTreeMap<(Instant, u64), Waiting>,
    order: u64,
    passed: Passed,
}

impl Running {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let (mut one, mut other) = ([0; 2_048], [0; 2_048]);
        loop {
            let next = self.due.first_key_value().map(|((at, _), _)| *at);
            let [far, near] = &self.sockets;
            let timer = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Gateway(address)) => self.ends[TO_GATEWAY] = Some(address),
                    Some(Command::Storm(storm)) => self.begin = Some(storm.begin),
                    Some(Command::Stop(tell)) => {
                        for (way, counts) in [&mut self.passed.to_gateway, &mut self.passed.from_gateway].into_iter().enumerate() {
                            *counts = (self.rtp[way].sent, self.rtp[way].lost);
                        }
                        let _ = tell.send(self.passed);
                        return;
                    }
                    None => return,
                },
                // An error is a port unreachable of an earlier packet: nothing came.
                received = near.recv_from(&mut one) => if let Ok((len, source)) = received {
                    self.ends[TO_END] = Some(source);
                    self.came(TO_GATEWAY, &one[..len]);
                },
                received = far.recv_from(&mut other) => if let Ok((len, _)) = received {
                    self.came(TO_END, &other[..len]);
                },
                () = timer => {}
            }
            self.forward().await;
        }
    }

    fn came(&mut self, way: usize, bytes: &[u8]) {
        let now = Instant::now();
        // RTP, not RTCP, STUN or DTLS (RFC 7983); the header is in the clear in SRTP, too.
        let is_rtp = matches!(bytes, [128..=191, second, ..] if !(192..=223).contains(second));
        let times = match self.begin {
            None => vec![now],
            Some(begin) => {
                if way == TO_END
                    && is_rtp
                    && let Some(packet) = Packet::parse(bytes)
                {
                    let ms = 1_000.0
                        * (now.saturating_duration_since(begin).as_secs_f64()
                            - begin.saturating_duration_since(now).as_secs_f64());
                    self.passed.line.sent(ms, &packet, self.clock);
                }
                let networks = if is_rtp { &mut self.rtp } else { &mut self.other };
                let since = now.saturating_duration_since(begin) + Duration::from_secs(1);
                networks[way].carry(since).into_iter().map(|at| now + (at - since)).collect()
            }
        };
        for at in times {
            self.order += 1;
            self.due.insert((at, self.order), Waiting { way, came: now, is_rtp, bytes: bytes.to_vec() });
        }
    }

    async fn forward(&mut self) {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= Instant::now()) {
            let Waiting { way, came, is_rtp, bytes } = entry.remove();
            if let Some(to) = self.ends[way] {
                // Nobody there any more: the call is over.
                let _ = self.sockets[way].send_to(&bytes, to).await;
            }
            if way == TO_GATEWAY && is_rtp && self.begin.is_some() {
                self.passed.took_ms.push(came.elapsed().as_secs_f64() * 1_000.0);
            }
        }
    }
}
