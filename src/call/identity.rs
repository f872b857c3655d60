//! Who calls, as a trunk is told and as it is believed: From, P-Asserted-Identity and P-Preferred-Identity
//! ([RFC 3325](https://www.rfc-editor.org/rfc/rfc3325)), Remote-Party-ID (draft-ietf-sip-privacy-04), Privacy
//! ([RFC 3323](https://www.rfc-editor.org/rfc/rfc3323)).

use std::net::IpAddr;

use super::Trunk;
use super::context::ip_host;
use super::number::{caller_number, display_name};
use crate::signal::Verified;
use crate::sip::{Headers, Host, NameAddr, Request, Scheme, Target, Uri};

/// The caller id of a dial plan that shows none.
const ANONYMOUS: &str = "anonymous";

/// How it is told who calls, and what the trunk is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose name stands in From.
    pub from: FromUser,
    /// The header field that has the caller's number beside From.
    pub asserted: Option<Asserted>,
    /// The number to assert for a caller who shows none.
    pub main_number: Option<String>,
    /// Say `Privacy: id` for a caller who shows no number.
    pub privacy: bool,
    /// Numbers are marked with `user=phone` (RFC 3261 section 19.1.1).
    pub user_phone: bool,
    /// Believe the trunk's P-Asserted-Identity and Remote-Party-ID.
    pub trust: bool,
}

/// Whose name stands in From.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FromUser {
    /// The caller's number.
    #[default]
    Caller,
    /// The account's, whoever calls.
    Account(String),
}

/// The header field that tells the caller's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asserted {
    /// P-Asserted-Identity: we are of the trunk's trust domain.
    Pai,
    /// P-Preferred-Identity: what the trunk may assert for us.
    Ppi,
    /// Remote-Party-ID, which older peers know instead.
    Rpid,
}

impl Default for Identity {
    fn default() -> Identity {
        Identity {
            from: FromUser::Caller,
            asserted: None,
            main_number: None,
            privacy: true,
            user_phone: false,
            trust: false,
        }
    }
}

/// Who calls, in the words of an INVITE.
#[derive(Clone, Debug)]
pub struct Told {
    /// From, without a tag.
    pub from: NameAddr,
    /// Identity and privacy.
    pub headers: Vec<(String, String)>,
}

impl Trunk {
    /// The host and port of the URIs that we send to a target of this trunk.
    pub fn host_at(&self, target: &Target) -> (Host, Option<u16>) {
        let odd_port = (target.remote.port() != target.transport.default_port()).then(|| target.remote.port());
        match (&self.domain, &self.dns) {
            (Some(domain), _) => (domain.clone(), None),
            (None, Some(dns)) if dns.host.parse::<IpAddr>().is_err() => (Host::Name(dns.host.clone()), dns.port),
            (None, _) => (ip_host(target.remote.ip()), odd_port),
        }
    }

    /// The host of From: ours as configured, or the trunk's domain, also where we are registered as one of its users; else
    /// `own`.
    pub fn own_host(&self, target: &Target, own: Host) -> Host {
        match (self.from_domain.as_ref().or(self.domain.as_ref()), &self.register) {
            (Some(domain), _) => domain.clone(),
            (None, Some(_)) => self.host_at(target).0,
            (None, None) => own,
        }
    }

    /// A number as a URI for this trunk; `None` where it cannot stand in one.
    pub fn uri(&self, number: &str, host: Host, port: Option<u16>) -> Option<Uri> {
        let mut uri = Uri::sip(Some(number), host, port).ok()?;
        if self.identity.user_phone && is_phone(number) {
            uri.params.set("user", Some("phone"));
        }
        Some(uri)
    }

    /// How this trunk is told that `caller` calls: a number, a name or `anonymous`. `host` is the host of From where the
    /// caller shows himself; `None` where the caller cannot stand in a URI.
    pub fn tell(&self, caller: &str, host: Host) -> Option<Told> {
        let identity = &self.identity;
        let hidden = caller == ANONYMOUS;
        let shown = match (hidden, &identity.main_number) {
            (true, main) => main.as_deref(),
            (false, _) => Some(caller),
        };
        let from = match &identity.from {
            _ if hidden => anonymous()?,
            FromUser::Account(user) => NameAddr::new(Uri::sip(Some(user), host.clone(), None).ok()?),
            FromUser::Caller => NameAddr::new(self.uri(&self.number_format.present(caller), host.clone(), None)?),
        };
        let mut headers = Vec::new();
        if let (Some(asserted), Some(number)) = (identity.asserted, shown) {
            let uri = self.uri(&self.number_format.present(number), host, None)?;
            headers.push(match asserted {
                Asserted::Pai => ("P-Asserted-Identity".to_owned(), NameAddr::new(uri).to_string()),
                Asserted::Ppi => ("P-Preferred-Identity".to_owned(), NameAddr::new(uri).to_string()),
                Asserted::Rpid => {
                    let privacy = if hidden { "full" } else { "off" };
                    let value = format!("{};party=calling;screen=yes;privacy={privacy}", NameAddr::new(uri));
                    ("Remote-Party-ID".to_owned(), value)
                }
            });
        }
        if hidden && identity.privacy {
            headers.push(("Privacy".to_owned(), "id".to_owned()));
        }
        Some(Told { from, headers })
    }

    /// Whom a call of this trunk is for: the user part of the Request-URI. Where that is only our own Contact, as we
    /// registered it, the number is in P-Called-Party-ID (RFC 7315 section 4.2) or To.
    pub fn called(&self, request: &Request) -> Option<String> {
        let target = user_of(&request.uri);
        let register =
            self.register.as_ref().filter(|own| target.as_ref().is_none_or(|user| *user == own.contact_user));
        if register.is_none() {
            return target;
        }
        let party = request.headers.addresses("P-Called-Party-ID").into_iter().next();
        let party = party.or_else(|| request.headers.to().ok());
        party.and_then(|party| user_of(&party.uri)).or(target)
    }

    /// Who calls, as this trunk says it: number and display name, each `None` where it is withheld or unusable.
    ///
    /// An asserted identity goes before From where the trunk is trusted. A caller who asked for privacy (`Privacy: id` or
    /// `user`, `privacy=full`) is shown to nobody, trusted or not.
    pub fn caller(&self, headers: &Headers) -> (Option<String>, Option<String>) {
        if wants_privacy(headers) {
            return (None, None);
        }
        let Some(party) = self.calling(headers) else { return (None, None) };
        let number = user_of(&party.uri).as_deref().and_then(caller_number);
        let name = party.display.as_deref().and_then(display_name);
        (number.map(|number| self.number_format.normalise(&number)), name)
    }

    /// The one party whose number and name stand for the caller.
    fn calling(&self, headers: &Headers) -> Option<NameAddr> {
        let asserted = if self.identity.trust { asserted(headers) } else { None };
        asserted.or_else(|| headers.from().ok())
    }
}

impl Trunk {
    /// How far a trunk that is believed vouches for the number of a caller who shows one: the `verstat` of the very
    /// party whose number is shown, and of no other ([TS 24.229](https://www.3gpp.org/dynareport/24229.htm) section 7.2A.20, with the level of
    /// attestation that ATIS-1000074 adds).
    pub fn verified(&self, headers: &Headers) -> Option<Verified> {
        if !self.identity.trust || wants_privacy(headers) {
            return None;
        }
        let party = self.calling(headers)?;
        user_of(&party.uri).as_deref().and_then(caller_number)?;
        verstat(&party)
    }
}

/// The attestation in a party's `verstat`: among the parameters of its number, its URI or its address.
fn verstat(party: &NameAddr) -> Option<Verified> {
    let user = party.uri.decoded_user().unwrap_or_default();
    let of_number = user.split(';').skip(1).find_map(|param| {
        let (name, value) = param.split_once('=')?;
        name.eq_ignore_ascii_case("verstat").then_some(value)
    });
    let value = of_number.or(party.uri.params.value("verstat")).or(party.params.value("verstat"))?;
    match value.to_ascii_lowercase().as_str() {
        "tn-validation-passed-a" => Some(Verified::A),
        "tn-validation-passed-b" => Some(Verified::B),
        "tn-validation-passed-c" => Some(Verified::C),
        _ => None,
    }
}

/// A caller who shows nothing of himself ([RFC 3323 section
/// 4.1.1.3](https://www.rfc-editor.org/rfc/rfc3323#section-4.1.1.3)).
fn anonymous() -> Option<NameAddr> {
    let host = Host::Name("anonymous.invalid".to_owned());
    let mut from = NameAddr::new(Uri::sip(Some(ANONYMOUS), host, None).ok()?);
    from.display = Some("Anonymous".to_owned());
    Some(from)
}

/// Digits, with or without a plus.
fn is_phone(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or(number);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn wants_privacy(headers: &Headers) -> bool {
    let asked = headers.get_all("Privacy").flat_map(|value| value.split([';', ',']));
    asked.map(str::trim).any(|word| word.eq_ignore_ascii_case("id") || word.eq_ignore_ascii_case("user"))
        || remote_party(headers).is_some_and(|party| party.params.value("privacy").is_some_and(hides))
}

/// The words of Remote-Party-ID's `privacy` parameter that withhold the number.
fn hides(privacy: &str) -> bool {
    let privacy = privacy.trim_matches('"');
    privacy.split(['-', ',']).any(|word| ["full", "uri"].iter().any(|hiding| word.eq_ignore_ascii_case(hiding)))
}

/// The first asserted identity with a usable user part.
fn asserted(headers: &Headers) -> Option<NameAddr> {
    let usable = |party: &NameAddr| user_of(&party.uri).as_deref().and_then(caller_number).is_some();
    headers.addresses("P-Asserted-Identity").into_iter().find(usable).or_else(|| remote_party(headers).filter(usable))
}

/// The Remote-Party-ID of the caller.
fn remote_party(headers: &Headers) -> Option<NameAddr> {
    let of_caller =
        |party: &NameAddr| party.params.value("party").is_none_or(|party| party.eq_ignore_ascii_case("calling"));
    headers.addresses("Remote-Party-ID").into_iter().find(of_caller)
}

/// The user part of a URI without the parameters of a telephone-subscriber (RFC 3261 section 19.1.6); a tel URI's number
/// without its visual separators (RFC 3966 section 5.1.1).
pub fn user_of(uri: &Uri) -> Option<String> {
    let user = uri.decoded_user()?.split(';').next().unwrap_or_default().to_owned();
    Some(match uri.scheme {
        Scheme::Tel => user.replace(['-', '.', '(', ')'], ""),
        _ => user,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sip::Message;

    fn host() -> Host {
        "sip.example".parse().unwrap()
    }

    fn trunk(identity: Identity) -> Trunk {
        Trunk { identity, ..Trunk::new("t") }
    }

    fn told(identity: Identity, caller: &str) -> (String, Vec<String>) {
        let told = trunk(identity).tell(caller, host()).unwrap();
        (told.from.to_string(), told.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect())
    }

    /// RFC 3325 sections 9.1 and 9.2, draft-ietf-sip-privacy-04, RFC 3323 section 4.1.1.3.
    #[test]
    fn a_trunk_is_told_who_calls_in_its_own_words() {
        let with = |asserted| Identity { asserted, ..Identity::default() };
        let number = "+442079460000";
        let from = "<sip:+442079460000@sip.example>";
        let line = |name: &str| vec![format!("{name}: {from}")];
        assert_eq!(told(with(None), number), (from.into(), vec![]));
        assert_eq!(told(with(Some(Asserted::Pai)), number), (from.into(), line("P-Asserted-Identity")));
        assert_eq!(told(with(Some(Asserted::Ppi)), number), (from.into(), line("P-Preferred-Identity")));
        let rpid = format!("Remote-Party-ID: {from};party=calling;screen=yes;privacy=off");
        assert_eq!(told(with(Some(Asserted::Rpid)), number), (from.into(), vec![rpid]));

        let account = Identity { from: FromUser::Account("4711".into()), ..with(Some(Asserted::Pai)) };
        assert_eq!(told(account, number), ("<sip:4711@sip.example>".into(), line("P-Asserted-Identity")));
        let phone = Identity { user_phone: true, ..with(None) };
        assert_eq!(told(phone.clone(), number).0, "<sip:+442079460000@sip.example;user=phone>");
        assert_eq!(told(phone, "alice").0, "<sip:alice@sip.example>");
    }

    #[test]
    fn a_hidden_caller_stands_nowhere_but_where_the_trunk_needs_a_number() {
        let nobody = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";
        let privacy = "Privacy: id".to_owned();
        assert_eq!(told(Identity::default(), "anonymous"), (nobody.into(), vec![privacy.clone()]));
        let silent = Identity { privacy: false, ..Identity::default() };
        assert_eq!(told(silent, "anonymous"), (nobody.into(), vec![]));
        let main = Identity {
            asserted: Some(Asserted::Pai),
            main_number: Some("+442079460001".into()),
            from: FromUser::Account("4711".into()),
            ..Identity::default()
        };
        let asserted = "P-Asserted-Identity: <sip:+442079460001@sip.example>".to_owned();
        assert_eq!(told(main.clone(), "anonymous"), (nobody.into(), vec![asserted, privacy]));
        let rpid = Identity { asserted: Some(Asserted::Rpid), privacy: false, ..main };
        assert!(told(rpid, "anonymous").1.concat().ends_with(";privacy=full"));
    }

    /// A registrar sends calls to our Contact (RFC 3261 section 16.5), which need not be the number.
    #[test]
    fn a_call_to_our_contact_is_for_the_number_in_to() {
        let register = super::super::Register { user: "4711".into(), contact_user: "4711".into(), expires: 60 };
        let registered = Trunk { register: Some(register), ..Trunk::new("t") };
        let called = |trunk: &Trunk, uri: &str, fields: &str| {
            let text = format!(
                "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:2@x>;tag=1\r\n\
                 To: <sip:+442079460100@x>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n{fields}\r\n"
            );
            let Ok(Message::Request(request)) = Message::parse(text.as_bytes()) else { unreachable!("{text}") };
            trunk.called(&request).unwrap()
        };
        assert_eq!(called(&registered, "sip:4711@192.0.2.1", ""), "+442079460100");
        assert_eq!(called(&registered, "sip:192.0.2.1", ""), "+442079460100");
        assert_eq!(called(&registered, "sip:4711@192.0.2.1", "P-Called-Party-ID: <tel:+44-20-1>\r\n"), "+44201");
        assert_eq!(called(&registered, "sip:+442079460200@192.0.2.1", ""), "+442079460200");
        assert_eq!(called(&Trunk::new("t"), "sip:4711@192.0.2.1", ""), "4711");
    }

    fn headers(fields: &str) -> Headers {
        let text = format!(
            "INVITE sip:1@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nTo: <sip:1@192.0.2.1>\r\n\
             Call-ID: a\r\nCSeq: 1 INVITE\r\n{fields}\r\n"
        );
        let Ok(Message::Request(request)) = Message::parse(text.as_bytes()) else { unreachable!("{text}") };
        request.headers
    }

    fn caller(trust: bool, fields: &str) -> (Option<String>, Option<String>) {
        trunk(Identity { trust, ..Identity::default() }).caller(&headers(fields))
    }

    /// TS 24.229 section 7.2A.20: an attestation is of the number that it stands with.
    #[test]
    fn an_attestation_is_of_the_number_that_is_shown() {
        let verified = |fields: &str| trunk(Identity { trust: true, ..Identity::default() }).verified(&headers(fields));
        let passed = ";verstat=TN-Validation-Passed-A";
        let from = format!("From: <sip:+15550100{passed}@x>;tag=1\r\n");
        let plain = "From: <sip:+15550100@x>;tag=1\r\n";
        assert_eq!(verified(&from), Some(Verified::A));
        assert_eq!(verified(&format!("{plain}P-Asserted-Identity: <tel:+15550199{passed}>\r\n")), Some(Verified::A));
        let another = "P-Asserted-Identity: <sip:+15550199@x>";
        assert_eq!(verified(&format!("{from}{another}\r\n")), None, "it is From's, and another number is shown");
        assert_eq!(verified(&format!("{plain}{another}, <tel:+15550177{passed}>\r\n")), None, "the second's");
    }

    /// RFC 3325 section 9.1: an asserted identity means something only from whom we trust.
    #[test]
    fn an_asserted_identity_is_believed_of_a_trusted_trunk_alone() {
        let from = "From: \"Mallory\" <sip:+15550100@x>;tag=1\r\n";
        let pai = format!("{from}P-Asserted-Identity: \"Ann\" <sip:+15550199@x>, <tel:+1-555-0199>\r\n");
        let shown = |number: &str, name: &str| (Some(number.to_owned()), Some(name.to_owned()));
        assert_eq!(caller(false, &pai), shown("+15550100", "Mallory"));
        assert_eq!(caller(true, &pai), shown("+15550199", "Ann"));
        assert_eq!(caller(true, from), shown("+15550100", "Mallory"));
        let tel = format!("{from}P-Asserted-Identity: <tel:+1-555-0199;ext=7>\r\n");
        assert_eq!(caller(true, &tel).0.as_deref(), Some("+15550199"));
        let rpid = format!(
            "{from}Remote-Party-ID: <sip:+15550177@x>;party=called\r\nRemote-Party-ID: <sip:+15550188@x>;party=calling;privacy=off\r\n"
        );
        assert_eq!(caller(true, &rpid).0.as_deref(), Some("+15550188"));
        assert_eq!(caller(false, &rpid).0.as_deref(), Some("+15550100"));
    }

    /// RFC 3323 section 4.2 and RFC 3325 section 9.3.
    #[test]
    fn a_caller_who_asked_for_privacy_is_shown_to_nobody() {
        let from = "From: \"Ann\" <sip:+15550100@x>;tag=1\r\n";
        for privacy in [
            "Privacy: id\r\n",
            "Privacy: critical;ID\r\n",
            "Privacy: user\r\n",
            "Remote-Party-ID: <sip:+1@x>;privacy=full\r\n",
            "Remote-Party-ID: <sip:+1@x>;party=calling;privacy=\"name-uri\"\r\n",
        ] {
            for trust in [true, false] {
                let fields = format!("{from}P-Asserted-Identity: <sip:+15550199@x>\r\n{privacy}");
                assert_eq!(caller(trust, &fields), (None, None), "{privacy}");
            }
        }
        for open in ["Privacy: none\r\n", "Privacy: header\r\n", "Remote-Party-ID: <sip:+1@x>;privacy=off\r\n"] {
            assert!(caller(false, &format!("{from}{open}")).0.is_some(), "{open}");
        }
    }
}
