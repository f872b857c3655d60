//! rtpengine between page and phone. It terminates ICE and DTLS, and turns Opus into PCMU and back.

use std::net::SocketAddr;

use crate::description::description;
use crate::middle::Agreed;
use crate::ng::Orders;
use crate::trunk::described;

pub struct Rtpengine {
    address: SocketAddr,
}

/// One call.
pub struct Line {
    orders: Orders,
    call: String,
    media: SocketAddr,
}

impl Rtpengine {
    /// The one that listens there, when it does.
    pub async fn at(address: SocketAddr) -> Rtpengine {
        Orders::to(address).await.expect("a port").ping().await.expect("an rtpengine");
        Rtpengine { address }
    }

    pub async fn line(&self, index: usize, media: SocketAddr) -> Line {
        let orders = Orders::to(self.address).await.expect("a port");
        Line { orders, call: format!("quality-{index}-{}", media.port()), media }
    }
}

impl Line {
    pub async fn place(&mut self, offer: &str) -> Agreed {
        let to_phone = self.orders.offer(&self.call, offer).await.expect("an offer for the phone");
        let answer = self.orders.answer(&self.call, &description(self.media)).await.expect("the page's answer");
        Agreed { answer, phone: described(&to_phone) }
    }

    pub async fn hang_up(mut self) {
        self.orders.delete(&self.call).await.expect("an end");
    }
}
