//! What the media path reports of the transports that it serves.

use ringback::sdp::{MediaCommand, MediaLoss, MediaReport, Side, TransportName};
use ringback::switch::{CallId, Input};

use super::World;

impl World {
    /// The transport that the media path serves a side of a call with.
    pub fn transport(&self, call: CallId, side: Side) -> Option<TransportName> {
        let plan = self.media.get(&call)?.commands.iter().rev().find_map(|command| match command {
            MediaCommand::Start(plan) | MediaCommand::Update(plan) => Some(plan),
            _ => None,
        });
        Some(plan?.leg(side)?.media.transport())
    }

    /// The media path reports that a browser's transport is up.
    pub fn connected(&mut self, call: CallId, side: Side) {
        let transport = self.transport(call, side).expect("a leg");
        self.input(Input::Media { call, report: MediaReport::Connected { side, transport } });
    }

    /// The media path reports that a side's transport is lost.
    pub fn lost(&mut self, call: CallId, side: Side, loss: MediaLoss) {
        if let Some(transport) = self.transport(call, side) {
            self.input(Input::Media { call, report: MediaReport::Lost { side, transport, loss } });
        }
    }
}
