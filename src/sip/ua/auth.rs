//! Answering 401 and 407: [RFC 3261 section 22](https://www.rfc-editor.org/rfc/rfc3261#section-22), RFC 7616, RFC 8760.

use std::net::IpAddr;

use rand::Rng;
use rand::rngs::StdRng;

use crate::sip::{Credentials, Flow, Request, Response, digest};

/// How often a request is sent again with credentials.
const TRIES: u8 = 2;

/// The realms that this request has answered, to tell a wrong password from a further challenge.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered {
    tries: u8,
    realms: Vec<(&'static str, String)>,
}

/// True if a challenge from `source` to a request sent over `flow` may have an answer: it comes from where the request
/// went, and that is the peer that the credentials are for (a dialog's Contact may name anybody), unless they are bound
/// to a realm.
pub(super) fn is_ours(flow: Flow, peer: IpAddr, source: IpAddr, credentials: &Credentials) -> bool {
    let asked = flow.remote.ip().to_canonical();
    source.to_canonical() == asked && (credentials.realm.is_some() || asked == peer.to_canonical())
}

/// Puts credentials into `request` for every challenge of a 401 or 407. False: there is nothing (more) to try.
///
/// A realm answered before is answered again only if the server calls the nonce stale. Among several challenges of one
/// realm the first that can be answered counts: servers list the strongest first (RFC 8760 section 2.3).
pub(super) fn authorize(
    request: &mut Request,
    response: &Response,
    credentials: &Credentials,
    answered: &mut Answered,
    rng: &mut StdRng,
) -> bool {
    if answered.tries >= TRIES {
        return false;
    }
    let uri = request.uri.to_string();
    let mut values: Vec<(&'static str, String, String)> = Vec::new();
    for (challenged, answer) in [("WWW-Authenticate", "Authorization"), ("Proxy-Authenticate", "Proxy-Authorization")] {
        for challenge in response.headers.challenges(challenged) {
            let realm = challenge.realm.clone();
            if values.iter().any(|(name, done, _)| *name == answer && *done == realm) {
                continue;
            }
            let known = answered.realms.iter().any(|(name, done)| *name == answer && *done == realm);
            if known && !challenge.stale || credentials.realm.as_ref().is_some_and(|only| *only != realm) {
                continue;
            }
            let cnonce = format!("{:016x}", rng.next_u64());
            let value = digest::answer(&challenge, credentials, &request.method, &uri, &request.body, &cnonce, 1);
            if let Ok(value) = value {
                values.push((answer, realm, value));
            }
        }
    }
    if values.is_empty() {
        return false;
    }
    for name in ["Authorization", "Proxy-Authorization"] {
        // What this response challenges is replaced; an answer to the other kind stays.
        if values.iter().any(|(answer, _, _)| *answer == name) {
            request.headers.remove(name);
        }
    }
    for (name, realm, value) in values {
        request.headers.push(name, value);
        answered.realms.push((name, realm));
    }
    answered.tries += 1;
    true
}
