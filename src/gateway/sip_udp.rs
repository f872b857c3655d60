//! SIP over UDP: one datagram, one message (RFC 3261 section 18).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::UdpSocket;

use super::{Event, Tasks};
use crate::sip::{Flow, Transport};
use crate::switch::Input;

/// A UDP datagram is never longer.
const MAX_DATAGRAM: usize = 65_535;

/// Reads `socket` until the stop token fires. A full queue drops the datagram: SIP retransmits.
pub(super) async fn receive(socket: Arc<UdpSocket>, local: SocketAddr, tasks: Tasks) {
    let mut buffer = vec![0u8; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            () = tasks.stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let (len, remote) = match received {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error of an earlier send; the transaction's timer deals with it.
                tracing::debug!(%local, %error, "SIP receive");
                continue;
            }
        };
        let Some(bytes) = buffer.get(..len) else { continue };
        // A peer holds its NAT's binding open (RFC 5626 section 4.4; some send zeros): nothing to answer.
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0)) {
            continue;
        }
        let flow = Flow { transport: Transport::Udp, local, remote, id: 0 };
        if tasks.sip.try_send(Event::Switch(Input::Sip { flow, bytes: bytes.to_vec() })).is_err() {
            tasks.sip_lost.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, "the driver is behind: a SIP datagram is dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_finds_the_queue_full_is_counted() {
        let (tasks, queues) = Tasks::new();
        let flow = |address| Flow { transport: Transport::Udp, local: address, remote: address, id: 0 };
        let ours = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let local = ours.local_addr().unwrap();
        let input = || Event::Switch(Input::SipClosed { flow: flow(local) });
        while tasks.sip.try_send(input()).is_ok() {}
        tasks.tracker.spawn(receive(ours, local, tasks.clone()));
        let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for datagram in ["OPTIONS", "\r\n\r\n", "INVITE"] {
            peer.send_to(datagram.as_bytes(), local).await.unwrap();
        }
        let counted = async {
            while tasks.sip_lost.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), counted).await.unwrap();
        tasks.stop.cancel();
        tasks.tracker.close();
        tasks.tracker.wait().await;
        assert_eq!(tasks.sip_lost.load(Ordering::Relaxed), 2, "a keep-alive is none");
        drop(queues);
    }
}
