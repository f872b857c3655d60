//! The ICE-lite agent: one component, one host candidate, always controlled
//! ([RFC 8445, section 2.5](https://www.rfc-editor.org/rfc/rfc8445#section-2.5)).
//!
//! It sends no checks of its own. It answers the browser's, remembers the addresses whose checks passed, follows the
//! browser's nomination and takes continued checks as consent to send
//! ([RFC 7675](https://www.rfc-editor.org/rfc/rfc7675)).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use super::stun::{self, IntegrityKey, Message, Response, attribute, kind};
use crate::sdp::IceCredentials;

/// How long a leg lives without a valid check (RFC 7675 section 5.1).
pub(super) const CONSENT: Duration = Duration::from_secs(30);
/// Addresses of one browser that are remembered: host, reflexive, relayed, of two networks, with room to spare.
const MAX_PEERS: usize = 8;

/// What a datagram meant for the agent.
#[derive(Debug)]
pub(super) struct Checked {
    /// The response to send back to where the request came from.
    pub response: Option<Response>,
    /// Whether the check passed.
    pub valid: bool,
}

const IGNORED: Checked = Checked { response: None, valid: false };

/// One generation of credentials.
struct Credentials {
    ufrag: String,
    key: IntegrityKey,
}

impl Credentials {
    fn new(local: &IceCredentials) -> Self {
        Self { ufrag: local.ufrag.clone(), key: IntegrityKey::new(&local.pwd) }
    }
}

/// An address whose check has passed.
struct Peer {
    address: SocketAddr,
    nominated: bool,
    last_check: Instant,
}

/// The agent of one browser.
pub(super) struct IceLite {
    current: Credentials,
    /// The generation before a restart, in force until something is nominated in the new one (RFC 8445 section 9).
    previous: Option<Credentials>,
    peers: ArrayVec<Peer, MAX_PEERS>,
    selected: Option<SocketAddr>,
    last_check: Option<Instant>,
}

impl IceLite {
    /// A new agent. The browser's own credentials are of no use to an agent that sends no checks.
    pub fn new(local: &IceCredentials) -> Self {
        Self {
            current: Credentials::new(local),
            previous: None,
            peers: ArrayVec::new(),
            selected: None,
            last_check: None,
        }
    }

    /// Our ufrag of the current generation.
    pub fn ufrag(&self) -> &str {
        &self.current.ufrag
    }

    /// Starts a new generation. What is selected stays in use until the browser nominates again
    /// (RFC 8445 section 9).
    pub fn restart(&mut self, local: &IceCredentials) {
        if local.ufrag == self.current.ufrag {
            return;
        }
        self.previous = Some(std::mem::replace(&mut self.current, Credentials::new(local)));
        for peer in &mut self.peers {
            peer.nominated = false;
        }
    }

    /// The browser's consent to be sent anything has run out: nothing goes anywhere until it checks and nominates again
    /// (RFC 7675 section 5.1).
    pub fn lapse(&mut self) {
        self.selected = None;
        self.peers.clear();
    }

    /// Where media goes: the address nominated last.
    pub fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Whether a check from this address has passed.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.peers.iter().any(|peer| peer.address == address)
    }

    /// Some address whose check has passed: the one checked last.
    pub fn any(&self) -> Option<SocketAddr> {
        self.peers.iter().max_by_key(|peer| peer.last_check).map(|peer| peer.address)
    }

    /// When the last valid check came.
    pub fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// Authentic media came from `source`: a controlling agent that nominates aggressively uses one of several
    /// nominated pairs, and this tells which.
    pub fn heard(&mut self, source: SocketAddr) {
        if self.selected != Some(source) && self.peers.iter().any(|peer| peer.nominated && peer.address == source) {
            self.selected = Some(source);
        }
    }

    /// Takes one STUN datagram. Only Binding requests concern a lite agent; all else is ignored.
    pub fn handle(&mut self, now: Instant, source: SocketAddr, packet: &[u8]) -> Checked {
        let Ok(message) = Message::parse(packet) else { return IGNORED };
        // ICE requires the FINGERPRINT (RFC 8445 section 7.1.1); without one this is some other STUN usage.
        if message.kind() != kind::BINDING_REQUEST || !message.has_fingerprint() {
            return IGNORED;
        }
        let transaction = message.transaction();
        let refuse = |code, unknown: &[u16], key| Checked {
            response: Some(stun::error(transaction, code, unknown, key)),
            valid: false,
        };
        // RFC 8489 section 9.1.3, in its order.
        let (Some(username), true) = (message.username(), message.has_integrity()) else {
            return refuse(400, &[], None);
        };
        let Some((credentials, is_current)) = self.credentials(username) else {
            return refuse(401, &[], None);
        };
        let key = &credentials.key;
        if !message.verify(key) {
            return refuse(401, &[], None);
        }
        let unknown = message.unknown_required();
        if !unknown.is_empty() {
            return refuse(420, &unknown, Some(key));
        }
        // We are controlled, whatever the tie-breaker says: a lite agent never takes the other role
        // (RFC 8445 sections 6.1.1 and 7.3.1.1).
        if message.get(attribute::ICE_CONTROLLED).is_some() {
            return refuse(487, &[], Some(key));
        }
        let response = stun::success(transaction, source, key);
        self.passed(now, source, is_current && message.get(attribute::USE_CANDIDATE).is_some());
        Checked { response: Some(response), valid: true }
    }

    /// The generation that a USERNAME speaks of, and whether it is the current one. Our half decides: the browser's is
    /// not known to us in every case, and the password authenticates the request (RFC 8445 section 7.3).
    fn credentials(&self, username: &str) -> Option<(&Credentials, bool)> {
        let (ours, _) = username.split_once(':')?;
        if ours == self.current.ufrag {
            return Some((&self.current, true));
        }
        self.previous.as_ref().filter(|previous| previous.ufrag == ours).map(|previous| (previous, false))
    }

    fn passed(&mut self, now: Instant, source: SocketAddr, nominated: bool) {
        self.last_check = Some(now);
        match self.peers.iter_mut().find(|peer| peer.address == source) {
            Some(peer) => {
                peer.last_check = now;
                peer.nominated |= nominated;
            }
            None => self.remember(Peer { address: source, nominated, last_check: now }),
        }
        if nominated {
            self.selected = Some(source);
            self.previous = None;
        }
    }

    /// Adds an address; the one unheard of longest makes room, never the selected one.
    fn remember(&mut self, peer: Peer) {
        if self.peers.is_full() {
            let oldest = (self.peers.iter().enumerate())
                .filter(|(_, known)| Some(known.address) != self.selected)
                .min_by_key(|(_, known)| known.last_check)
                .map(|(index, _)| index);
            if let Some(index) = oldest {
                self.peers.swap_remove(index);
            }
        }
        // Full without a victim cannot be: at most one of eight is selected.
        let _ = self.peers.try_push(peer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
    use super::super::stun::tests::{request, unsealed};
    use super::*;

    const PWD: &str = "our-password-of-22-ch!";

    fn agent() -> IceLite {
        IceLite::new(&IceCredentials::new("ours", PWD))
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 7], port))
    }

    fn nominate() -> (u16, Vec<u8>) {
        (attribute::USE_CANDIDATE, Vec::new())
    }

    fn code(response: &[u8]) -> u16 {
        let message = Message::parse(response).unwrap();
        if message.kind() == kind::BINDING_SUCCESS {
            return 0;
        }
        let value = message.get(attribute::ERROR_CODE).unwrap();
        u16::from(value[2]) * 100 + u16::from(value[3])
    }

    #[test]
    fn each_request_gets_the_answer_of_the_rfcs() {
        let controlled = (attribute::ICE_CONTROLLED, vec![9; 8]);
        let controlling = (0x802A, vec![9; 8]);
        let priority = (attribute::PRIORITY, vec![0x6e, 0, 1, 0xff]);
        let key = IntegrityKey::new(PWD);
        // (what, request, the code answered: 0 = success, None = silence)
        let table = [
            ("a plain check", request("ours:theirs", PWD, &[priority.clone(), controlling]), Some(0)),
            ("another remote ufrag, as before our offer is known", request("ours:other", PWD, &[]), Some(0)),
            ("an optional attribute that nobody knows", request("ours:t", PWD, &[(0xC057, vec![0; 4])]), Some(0)),
            ("no integrity", unsealed("ours:theirs", &[], None, true), Some(400)),
            ("no username", unsealed("", &[], Some(&key), true), Some(400)),
            ("another's ufrag", request("other:theirs", PWD, &[]), Some(401)),
            ("a ufrag alone", request("ours", PWD, &[]), Some(401)),
            ("a wrong password", request("ours:theirs", "wrong", &[]), Some(401)),
            ("a required attribute that nobody knows", request("ours:t", PWD, &[(0x7777, vec![])]), Some(420)),
            ("a peer that thinks itself controlled", request("ours:t", PWD, &[controlled]), Some(487)),
            ("no fingerprint", unsealed("ours:theirs", &[], Some(&key), false), None),
        ];
        for (what, bytes, expected) in table {
            let mut agent = agent();
            let checked = agent.handle(Instant::now(), address(1), &bytes);
            assert_eq!(checked.response.as_deref().map(code), expected, "{what}");
            assert_eq!(checked.valid, expected == Some(0), "{what}");
            assert_eq!(agent.knows(address(1)), expected == Some(0), "{what}");
            assert_eq!(agent.last_check().is_some(), expected == Some(0), "{what}");
        }
    }

    #[test]
    fn indications_and_responses_are_ignored() {
        for kind in [0x0011u16, 0x0101, 0x0111, 0x0003] {
            let mut bytes = unsealed("ours:t", &[], Some(&IntegrityKey::new(PWD)), false);
            bytes[..2].copy_from_slice(&kind.to_be_bytes());
            let checked = agent().handle(Instant::now(), address(1), &bytes);
            assert!(checked.response.is_none() && !checked.valid, "{kind:04x}");
        }
    }

    #[test]
    fn errors_before_authentication_are_not_signed_and_later_ones_are() {
        let key = IntegrityKey::new(PWD);
        let wrong = agent().handle(Instant::now(), address(1), &request("ours:t", "wrong", &[])).response.unwrap();
        assert!(!Message::parse(&wrong).unwrap().has_integrity());
        let conflict = request("ours:t", PWD, &[(attribute::ICE_CONTROLLED, vec![0; 8])]);
        let refused = agent().handle(Instant::now(), address(1), &conflict).response.unwrap();
        assert!(Message::parse(&refused).unwrap().verify(&key));
    }

    #[test]
    fn the_last_nomination_wins_and_the_peer_may_move() {
        let (now, mut agent) = (Instant::now(), agent());
        agent.handle(now, address(1), &request("ours:t", PWD, &[]));
        assert_eq!(agent.selected(), None, "a check alone selects nothing");
        agent.handle(now, address(2), &request("ours:t", PWD, &[nominate()]));
        assert_eq!(agent.selected(), Some(address(2)));
        agent.handle(now, address(3), &request("ours:t", PWD, &[nominate()]));
        assert_eq!(agent.selected(), Some(address(3)));
        agent.heard(address(1));
        assert_eq!(agent.selected(), Some(address(3)), "media on a pair never nominated moves nothing");
        agent.heard(address(2));
        assert_eq!(agent.selected(), Some(address(2)), "media on another nominated pair does");
        agent.handle(now, address(4), &request("ours:t", "wrong", &[nominate()]));
        assert_eq!(agent.selected(), Some(address(2)));
    }

    #[test]
    fn after_a_restart_the_old_pair_serves_until_the_new_one_is_nominated() {
        let (now, mut agent) = (Instant::now(), agent());
        agent.handle(now, address(1), &request("ours:t", PWD, &[nominate()]));
        agent.restart(&IceCredentials::new("next", "next-password"));
        assert_eq!((agent.ufrag(), agent.selected()), ("next", Some(address(1))));
        // Still in flight: answered, consent, but no nomination.
        assert!(agent.handle(now, address(2), &request("ours:t", PWD, &[nominate()])).valid);
        assert_eq!(agent.selected(), Some(address(1)));
        assert!(!agent.handle(now, address(3), &request("next:t", PWD, &[nominate()])).valid, "new name, old password");
        assert!(agent.handle(now, address(3), &request("next:t", "next-password", &[nominate()])).valid);
        assert_eq!(agent.selected(), Some(address(3)));
        assert!(!agent.handle(now, address(1), &request("ours:t", PWD, &[])).valid, "the old generation is over");
    }

    #[test]
    fn many_addresses_never_push_out_the_selected_one() {
        let (now, mut agent) = (Instant::now(), agent());
        agent.handle(now, address(1), &request("ours:t", PWD, &[nominate()]));
        for port in 2..100 {
            agent.handle(now + Duration::from_millis(port.into()), address(port), &request("ours:t", PWD, &[]));
        }
        assert!(agent.knows(address(1)) && agent.knows(address(99)));
        assert_eq!(agent.peers.len(), MAX_PEERS);
    }
}
