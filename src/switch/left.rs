//! The dialogs that stand, told for a journal; and those that a gateway before this one has left behind, ended.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Left, Now, Output, Switch};
use crate::sip::{RequestId, UaError};

/// Why, to the peer (RFC 3326; Q.850: temporary failure).
const REASON: &str = "Q.850;cause=41;text=\"Gateway restarted\"";

/// The BYEs under way, and whom they went to.
#[derive(Debug, Default)]
pub(super) struct LeftBehind(BTreeMap<RequestId, (usize, IpAddr)>);

impl LeftBehind {
    /// Whether an answer may come from there.
    pub fn knows(&self, source: IpAddr) -> bool {
        self.0.values().any(|(_, ip)| *ip == source.to_canonical())
    }
}

impl Switch {
    /// Tells what has become of dialogs.
    pub(super) fn note_dialogs(&mut self) {
        while let Some((session, dialog)) = self.ua.poll_note() {
            let trunk = self.trunks.of_session(session).map(|trunk| trunk.name.clone());
            let left = dialog.map(|dialog| Box::new(Left { trunk, dialog: *dialog }));
            self.output.push_back(Output::Dialog { session, left });
        }
    }

    /// Sends the BYE of a dialog that was left behind.
    pub(super) fn end_left(&mut self, now: Now, number: usize, left: &Left) {
        let trunk = left.trunk.as_ref().and_then(|name| self.trunks.get(name));
        let credentials = trunk.and_then(|trunk| trunk.credentials.clone());
        let Left { trunk, dialog } = left;
        match self.ua.end_left(now.instant, dialog, REASON, credentials) {
            Ok(request) => {
                tracing::info!(?trunk, remote = %dialog.to, "BYE to a call that was left behind");
                self.left.0.insert(request, (number, dialog.to.ip().to_canonical()));
            }
            Err(error) => {
                tracing::warn!(?trunk, remote = %dialog.to, %error, "a call that was left behind cannot be ended");
                self.output.push_back(Output::LeftEnded { number, over: !matches!(error, UaError::Full) });
            }
        }
    }

    /// Whether this was the end of such a BYE, whatever it was: `answered` or not.
    pub(super) fn left_ended(&mut self, request: RequestId, answered: bool) -> bool {
        let Some((number, _)) = self.left.0.remove(&request) else { return false };
        self.output.push_back(Output::LeftEnded { number, over: answered });
        true
    }
}
