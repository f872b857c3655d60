//! Why a call ended: one value, one table.
//!
//! Every call ends with exactly one [`Cause`]. The SIP status on the trunk, the Q.850 value in Reason headers and
//! call records, and the word the browser shows all come from [`TABLE`]:
//! [RFC 3398](https://www.rfc-editor.org/rfc/rfc3398) sections 7.2.4.1 (Q.850 to SIP) and 8.2.6.1 (SIP to Q.850);
//! Reason in requests is [RFC 3326](https://www.rfc-editor.org/rfc/rfc3326), in responses
//! [RFC 6432](https://www.rfc-editor.org/rfc/rfc6432); its `location` parameter
//! ([RFC 8606](https://www.rfc-editor.org/rfc/rfc8606)) is read past.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who brought the call to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The browser's user (told to the browser as `us`).
    Browser,
    /// The party behind the trunk, or the trunk itself (told to the browser as `them`).
    Trunk,
    /// This gateway: its dial plan, its limits, its operator.
    Gateway,
    /// Nobody: something between the parties was lost.
    Network,
}

impl Origin {
    /// Its name in records and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Browser => "browser",
            Origin::Trunk => "trunk",
            Origin::Gateway => "gateway",
            Origin::Network => "network",
        }
    }
}

/// Why a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who ended it.
    pub origin: Origin,
    /// The SIP status that says so; `None` for the normal end of an answered call.
    pub sip: Option<u16>,
    /// The Q.850 cause value, 1 to 127.
    pub q850: u8,
    /// The browser's word for it, kebab-case, one of those in [`TABLE`] or of [`Special`].
    pub word: &'static str,
    /// For people: what happened, in one short sentence or the peer's own words.
    pub reason: String,
    /// Seconds after which it is worth another try, where that is known: the Retry-After of a refusal.
    pub retry_after: Option<u32>,
}

/// Which way a row of [`TABLE`] may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The status and the cause value stand for one another.
    Both,
    /// Only from a SIP status to Q.850 and the word.
    FromSip,
    /// Only from a Q.850 value to SIP and the word.
    FromQ850,
}

/// One row of the table of causes.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// SIP status.
    pub sip: u16,
    /// Q.850 cause value.
    pub q850: u8,
    /// Which way the row may be read.
    pub way: Way,
    /// The browser's word.
    pub word: &'static str,
    /// For people.
    pub text: &'static str,
}

const fn row(sip: u16, q850: u8, way: Way, word: &'static str, text: &'static str) -> Row {
    Row { sip, q850, way, word, text }
}

/// The one table: SIP status, Q.850 value, the browser's word.
pub const TABLE: &[Row] = &{
    use Way::{Both, FromQ850, FromSip};
    [
        row(400, 41, FromSip, "refused-by-network", "The trunk did not understand the call"),
        row(401, 21, FromSip, "trunk-auth-failed", "The trunk did not accept our credentials"),
        row(402, 21, FromSip, "refused", "The trunk asks for payment"),
        row(403, 21, Both, "not-allowed", "This call is not allowed"),
        row(404, 1, Both, "unknown-number", "This number does not exist"),
        row(404, 2, FromQ850, "unknown-number", "No route to this network"),
        row(404, 3, FromQ850, "unknown-number", "No route to this destination"),
        row(405, 63, FromSip, "refused-by-network", "The trunk does not offer this service"),
        row(406, 79, FromSip, "refused-by-network", "The trunk does not offer this service"),
        row(407, 21, FromSip, "trunk-auth-failed", "The trunk did not accept our credentials"),
        row(408, 18, FromQ850, "no-answer", "Nobody answered"),
        row(408, 102, FromSip, "timeout", "The called side did not respond in time"),
        row(410, 22, Both, "number-changed", "This number has changed"),
        row(410, 23, FromQ850, "number-changed", "This number has moved"),
        row(413, 127, FromSip, "refused-by-network", "The trunk found the call too large"),
        row(414, 127, FromSip, "refused-by-network", "The trunk found the number too long"),
        row(415, 79, FromSip, "no-common-media", "The trunk does not take this kind of call"),
        row(416, 127, FromSip, "refused-by-network", "The trunk does not take this kind of address"),
        row(420, 127, FromSip, "refused-by-network", "The trunk lacks something the call needs"),
        row(421, 127, FromSip, "refused-by-network", "The trunk asks for something we lack"),
        row(422, 127, FromSip, "refused-by-network", "The trunk refused the session timer"),
        row(423, 127, FromSip, "refused-by-network", "The trunk refused the interval"),
        row(480, 18, FromSip, "unavailable", "The called person is not available"),
        row(480, 19, FromQ850, "no-answer", "Nobody answered"),
        row(480, 20, FromQ850, "unavailable", "The called person cannot be reached"),
        row(480, 31, FromQ850, "unavailable", "The call could not be completed"),
        row(481, 41, FromSip, "refused-by-network", "The trunk has lost this call"),
        row(482, 25, FromSip, "loop", "The call ran in a circle"),
        row(483, 25, FromSip, "loop", "The call ran through too many systems"),
        row(484, 28, Both, "invalid-number", "The number is incomplete"),
        row(485, 1, FromSip, "unknown-number", "The number is ambiguous"),
        row(486, 17, Both, "busy", "The called person is busy"),
        row(487, 16, FromSip, "cancelled", "The call was given up before it was answered"),
        row(488, 65, Both, "no-common-media", "There is no codec both sides know"),
        row(488, 70, FromQ850, "no-common-media", "The network offers no such media"),
        row(500, 41, FromSip, "network-failure", "The trunk has an internal fault"),
        row(500, 111, FromQ850, "network-failure", "A protocol fault in the network"),
        row(500, 127, FromQ850, "network-failure", "The network gave no reason"),
        row(501, 79, Both, "refused-by-network", "The trunk does not offer this service"),
        row(501, 29, FromQ850, "refused-by-network", "The facility was refused"),
        row(502, 38, FromSip, "network-failure", "The network behind the trunk is out of order"),
        row(502, 27, FromQ850, "unavailable", "The destination is out of order"),
        row(503, 41, Both, "congestion", "The network has no capacity at present"),
        row(503, 34, FromQ850, "congestion", "No line is free"),
        row(503, 38, FromQ850, "network-failure", "The network is out of order"),
        row(503, 42, FromQ850, "congestion", "The exchange is congested"),
        row(503, 47, FromQ850, "congestion", "The network has no capacity at present"),
        row(503, 58, FromQ850, "congestion", "The network cannot carry this call at present"),
        row(503, 88, FromQ850, "no-common-media", "The destination is incompatible"),
        row(504, 102, Both, "timeout", "The trunk did not respond in time"),
        row(505, 127, FromSip, "refused-by-network", "The trunk speaks another version of SIP"),
        row(513, 127, FromSip, "refused-by-network", "The trunk found the call too large"),
        row(600, 17, FromSip, "busy", "The called person is busy everywhere"),
        row(603, 21, FromSip, "declined", "The called person declined"),
        row(604, 1, FromSip, "unknown-number", "This number does not exist anywhere"),
        row(606, 65, FromSip, "no-common-media", "The called side cannot take this kind of call"),
        row(607, 21, FromSip, "unwanted", "The called person does not want such calls"),
        row(608, 21, FromSip, "blocked", "The network's analytics blocked the call"),
        row(403, 55, FromQ850, "not-allowed", "Incoming calls are barred"),
        row(403, 57, FromQ850, "not-allowed", "This kind of call is not allowed"),
        row(403, 87, FromQ850, "not-allowed", "The caller is no member of this group"),
        row(404, 26, FromQ850, "unknown-number", "The call was not selected"),
    ]
};

/// Ends that no SIP status alone tells apart; they carry their own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// An answered call was hung up.
    Normal,
    /// The caller gave up before the answer.
    Cancelled,
    /// Another browser of the user took the call.
    AnsweredElsewhere,
    /// Nobody answered within the ring time.
    NoAnswer,
    /// The browser's connection went away.
    BrowserGone,
    /// The browser's user declined.
    Declined,
    /// The longest duration allowed has been reached.
    MaxDuration,
    /// The gateway takes no new calls since it is about to stop.
    Draining,
    /// The gateway stops.
    Shutdown,
    /// The gateway was killed, or its machine stopped: the next start says so in the call's record.
    GatewayLost,
    /// All calls this gateway may carry are taken.
    TooManyCalls,
    /// A limit against fraud leaves no room for this call at present.
    LimitForNow,
    /// A limit against fraud leaves no room for this call today.
    LimitForToday,
    /// The minutes of the day were used up while the parties talked.
    MinutesUsedUp,
    /// The token was good for one call, and has been used.
    TokenUsed,
    /// Media ports or workers are used up.
    NoResources,
    /// The media path broke.
    MediaLost,
    /// The trunk cannot be reached.
    TrunkUnreachable,
    /// The trunk's session description cannot be used.
    BadTrunkMedia,
    /// The caller id asked for is not the caller's.
    CallerIdNotAllowed,
    /// The user's class may not transfer.
    TransferNotAllowed,
    /// The number is no number.
    InvalidNumber,
    /// The other party was connected with somebody else.
    Transferred,
    /// A fault of our own.
    GatewayFault,
}

impl Special {
    /// Seconds after which it is worth another try: where the gateway is full, a call may end at any moment. It is short, since
    /// a peer that keeps to RFC 3261 section 21.5.4 sends nothing else meanwhile.
    const fn retry_after(self) -> Option<u32> {
        match self {
            Special::TooManyCalls | Special::NoResources => Some(5),
            _ => None,
        }
    }

    /// SIP status, Q.850 value, word, text.
    const fn row(self) -> (Option<u16>, u8, &'static str, &'static str) {
        match self {
            Special::Normal => (None, 16, "normal", "The call was hung up"),
            Special::Cancelled => (Some(487), 16, "cancelled", "The call was given up before it was answered"),
            Special::AnsweredElsewhere => (Some(200), 26, "answered-elsewhere", "Answered elsewhere"),
            Special::NoAnswer => (Some(480), 19, "no-answer", "Nobody answered"),
            Special::BrowserGone => (Some(480), 27, "browser-gone", "The browser's connection was lost"),
            Special::Declined => (Some(603), 21, "declined", "The called person declined"),
            Special::MaxDuration => (None, 31, "max-duration", "The longest duration allowed has been reached"),
            Special::Draining => (Some(503), 42, "draining", "The gateway takes no new calls"),
            Special::Shutdown => (Some(503), 41, "shutdown", "The gateway stops"),
            Special::GatewayLost => (Some(500), 41, "gateway-lost", "The gateway was lost while the call stood"),
            Special::TooManyCalls => (Some(503), 42, "too-many-calls", "All lines are taken"),
            Special::LimitForNow => (Some(503), 42, "limit-reached", "A limit leaves no room for this call now"),
            Special::LimitForToday => (Some(403), 21, "limit-reached", "A limit leaves no room for this call today"),
            Special::MinutesUsedUp => (None, 31, "limit-reached", "The minutes of this day are used up"),
            Special::TokenUsed => (Some(403), 21, "token-used", "The token was good for one call, and is used"),
            Special::NoResources => (Some(503), 47, "no-resources", "No media ports are free"),
            Special::MediaLost => (Some(500), 41, "media-lost", "The media path broke"),
            Special::TrunkUnreachable => (Some(503), 38, "trunk-unreachable", "The trunk cannot be reached"),
            Special::BadTrunkMedia => (Some(488), 65, "no-common-media", "The trunk's media cannot be used"),
            Special::CallerIdNotAllowed => (Some(403), 21, "caller-id-not-allowed", "This caller id is not yours"),
            Special::TransferNotAllowed => (Some(403), 21, "transfer-not-allowed", "You may not transfer calls"),
            Special::InvalidNumber => (Some(484), 28, "invalid-number", "This is no number"),
            Special::Transferred => (None, 16, "transferred", "The call was transferred"),
            Special::GatewayFault => (Some(500), 41, "gateway-fault", "The gateway could not carry on with this call"),
        }
    }
}

/// The row a SIP status reads as; a status the table does not know reads as the x00 of its class (RFC 3261 8.1.3.2).
pub fn by_status(status: u16) -> &'static Row {
    let find = |status: u16| TABLE.iter().find(|row| row.sip == status && row.way != Way::FromQ850);
    let class = match status {
        600.. => 603,
        500..=599 => 500,
        _ => 400,
    };
    find(status).or_else(|| find(class)).unwrap_or(&FALLBACK)
}

/// The row a Q.850 cause value reads as; unknown values read as 31, "normal, unspecified".
pub fn by_q850(value: u8) -> &'static Row {
    let find = |value: u8| TABLE.iter().find(|row| row.q850 == value && row.way != Way::FromSip);
    find(value).or_else(|| find(31)).unwrap_or(&FALLBACK)
}

const FALLBACK: Row = row(500, 127, Way::Both, "network-failure", "The network gave no reason");

/// A Reason header ([RFC 3326](https://www.rfc-editor.org/rfc/rfc3326#section-2)) as far as a call needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasonHeader {
    /// `cause` of the `SIP` value.
    pub sip: Option<u16>,
    /// `cause` of the `Q.850` value.
    pub q850: Option<u8>,
    /// The first `text`.
    pub text: Option<String>,
}

impl ReasonHeader {
    /// Reads a Reason header's value; several values stand in one, comma-separated. What cannot be read is left out.
    pub fn read(value: &str) -> ReasonHeader {
        let mut found = ReasonHeader::default();
        for part in split_outside_quotes(value, ',') {
            let mut fields = split_outside_quotes(part, ';').into_iter().map(str::trim);
            let protocol = fields.next().unwrap_or_default();
            for field in fields {
                match field.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                    Some((name, value)) if name.eq_ignore_ascii_case("cause") => {
                        if protocol.eq_ignore_ascii_case("Q.850") {
                            found.q850 = value.parse().ok().filter(|value| (1..=127).contains(value)).or(found.q850);
                        } else if protocol.eq_ignore_ascii_case("SIP") {
                            found.sip = value.parse().ok().filter(|status| (200..700).contains(status)).or(found.sip);
                        }
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("text") && found.text.is_none() => {
                        found.text = Some(plain_text(value.trim_matches('"'))).filter(|text| !text.is_empty());
                    }
                    _ => {}
                }
            }
        }
        found
    }
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |letter: char| {
        let hit = letter == separator && !quoted;
        if letter == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = letter == '\\' && !escaped;
        hit
    })
    .collect()
}

/// A peer's words, fit to be shown: no control characters, at most 200 characters.
pub fn plain_text(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect::<String>().trim().to_owned()
}

impl Cause {
    /// The cause a SIP status stands for.
    pub fn from_status(origin: Origin, status: u16) -> Cause {
        let row = by_status(status);
        Cause::new(origin, (Some(status), row.q850, row.word, row.text))
    }

    /// The cause a Q.850 value stands for.
    pub fn from_q850(origin: Origin, value: u8) -> Cause {
        if value == 16 {
            return Cause::special(origin, Special::Normal);
        }
        let row = by_q850(value);
        Cause::new(origin, (Some(row.sip), value, row.word, row.text))
    }

    /// One of the ends that have a word of their own.
    pub fn special(origin: Origin, special: Special) -> Cause {
        Cause { retry_after: special.retry_after(), ..Cause::new(origin, special.row()) }
    }

    fn new(origin: Origin, (sip, q850, word, text): (Option<u16>, u8, &'static str, &str)) -> Cause {
        Cause { origin, sip, q850, word, reason: text.to_owned(), retry_after: None }
    }

    /// The cause in a trunk's final refusal: its status, refined by its Reason header (RFC 6432) and by a reason
    /// phrase that says more than the standard one. With it what the trunk says for people: the text of its Reason header,
    /// or the phrase beside its status.
    pub fn from_refusal(status: u16, phrase: &str, reason: Option<&str>) -> (Cause, String) {
        let mut cause = Cause::from_status(Origin::Trunk, status);
        let given = reason.map(ReasonHeader::read).unwrap_or_default();
        if let Some(value) = given.q850 {
            cause.q850 = value;
        }
        let said = given.text.unwrap_or_else(|| plain_text(phrase));
        // "603+": the network's analytics, not the person, refused (ATIS-1000099); RFC 8688 has 608 for it.
        let lower = said.to_ascii_lowercase();
        if status == 603 && (lower.contains("network blocked") || lower.contains("analytics")) {
            let row = by_status(608);
            (cause.word, cause.reason) = (row.word, row.text.to_owned());
        }
        (cause, said)
    }

    /// The cause of a hang-up by the trunk: normal, unless its Reason header says otherwise.
    pub fn from_hangup(reason: Option<&str>) -> Cause {
        match reason.map(ReasonHeader::read) {
            Some(ReasonHeader { q850: Some(value), .. }) => Cause::from_q850(Origin::Trunk, value),
            Some(ReasonHeader { sip: Some(status), .. }) if status >= 300 => Cause::from_status(Origin::Trunk, status),
            _ => Cause::special(Origin::Trunk, Special::Normal),
        }
    }

    /// The same cause in other words; control characters are left out, the length is bounded.
    pub fn in_words(mut self, words: &str) -> Cause {
        let words = plain_text(words);
        if !words.is_empty() {
            self.reason = words;
        }
        self
    }

    /// The value of the Reason header this cause goes out with (RFC 3326; RFC 6432 for responses).
    pub fn reason_header(&self) -> String {
        let text: String =
            self.reason.chars().filter(|letter| !matches!(letter, '"' | '\\') && letter.is_ascii()).collect();
        let q850 = format!("Q.850;cause={};text=\"{text}\"", self.q850);
        match self.word {
            // RFC 3326 section 3.1: what makes a phone log the call as taken, not as missed.
            "answered-elsewhere" => format!("SIP;cause=200;text=\"Call completed elsewhere\", {q850}"),
            _ => q850,
        }
    }

    /// Who ended the call, as the browser is told.
    pub fn by(&self) -> &'static str {
        match self.origin {
            Origin::Browser => "us",
            Origin::Trunk => "them",
            Origin::Gateway => "gateway",
            Origin::Network => "network",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3398 section 8.2.6.1.
    #[test]
    fn sip_to_q850_follows_rfc_3398() {
        let table: &[(u16, u8)] = &[
            (400, 41),
            (401, 21),
            (402, 21),
            (403, 21),
            (404, 1),
            (405, 63),
            (406, 79),
            (407, 21),
            (408, 102),
            (410, 22),
            (413, 127),
            (414, 127),
            (415, 79),
            (416, 127),
            (420, 127),
            (421, 127),
            (423, 127),
            (480, 18),
            (481, 41),
            (482, 25),
            (483, 25),
            (484, 28),
            (485, 1),
            (486, 17),
            (500, 41),
            (501, 79),
            (502, 38),
            (503, 41),
            (504, 102),
            (505, 127),
            (513, 127),
            (600, 17),
            (603, 21),
            (604, 1),
        ];
        for (status, value) in table {
            assert_eq!(by_status(*status).q850, *value, "{status}");
        }
    }

    /// RFC 3398 section 7.2.4.1.
    #[test]
    fn q850_to_sip_follows_rfc_3398() {
        let table: &[(u8, u16)] = &[
            (1, 404),
            (2, 404),
            (3, 404),
            (17, 486),
            (18, 408),
            (19, 480),
            (20, 480),
            (21, 403),
            (22, 410),
            (23, 410),
            (26, 404),
            (27, 502),
            (28, 484),
            (29, 501),
            (31, 480),
            (34, 503),
            (38, 503),
            (41, 503),
            (42, 503),
            (47, 503),
            (55, 403),
            (57, 403),
            (58, 503),
            (65, 488),
            (70, 488),
            (79, 501),
            (87, 403),
            (88, 503),
            (102, 504),
            (111, 500),
            (127, 500),
        ];
        for (value, status) in table {
            assert_eq!(by_q850(*value).sip, *status, "{value}");
        }
    }

    #[test]
    fn every_final_status_and_every_value_has_a_cause() {
        for status in 300..700 {
            let cause = Cause::from_status(Origin::Trunk, status);
            assert_eq!(cause.sip, Some(status));
            assert!((1..=127).contains(&cause.q850) && !cause.reason.is_empty(), "{status}");
        }
        for value in 1..=127 {
            assert_eq!(Cause::from_q850(Origin::Trunk, value).q850, value);
        }
        assert_eq!(by_status(499).sip, 400);
        assert_eq!(by_status(599).sip, 500);
    }

    #[test]
    fn no_key_is_ambiguous_in_its_direction() {
        for (at, row) in TABLE.iter().enumerate() {
            for other in TABLE.iter().skip(at + 1) {
                let sip = row.way != Way::FromQ850 && other.way != Way::FromQ850 && row.sip == other.sip;
                let q850 = row.way != Way::FromSip && other.way != Way::FromSip && row.q850 == other.q850;
                assert!(!sip && !q850, "{row:?} and {other:?}");
            }
        }
    }

    #[test]
    fn reason_headers_are_read() {
        let all = ReasonHeader::read(r#"SIP;cause=487 ;text="a, \"b\"; c", Q.850 ; cause=17;location=RPN"#);
        assert_eq!((all.sip, all.q850), (Some(487), Some(17)));
        for odd in [
            "",
            ";",
            "Q.850",
            "Q.850;cause=",
            "Q.850;cause=999",
            "SIP;cause=x",
            "\"",
            "Q.850;cause=0",
            "Q.850;cause=128",
        ] {
            assert_eq!(ReasonHeader::read(odd), ReasonHeader::default(), "{odd}");
        }
        assert_eq!(ReasonHeader::read("Q.850;text=\"a\u{7}b\"").text.as_deref(), Some("ab"));
    }

    #[test]
    fn a_hangup_is_normal_unless_it_says_otherwise() {
        assert_eq!(Cause::from_hangup(None).word, "normal");
        assert_eq!(Cause::from_hangup(Some("Q.850;cause=16")).sip, None);
        assert_eq!(Cause::from_hangup(Some("Q.850;cause=34")).sip, Some(503));
        assert_eq!(Cause::from_hangup(Some("SIP;cause=200")).word, "normal");
    }

    #[test]
    fn analytics_are_not_the_users_decline() {
        let word = |phrase, reason| Cause::from_refusal(603, phrase, reason).0.word;
        assert_eq!(word("Decline", None), "declined");
        assert_eq!(word("Network Blocked", None), "blocked");
        assert_eq!(word("Decline", Some("SIP;cause=603;text=\"analytics-block\"")), "blocked");
        let (cause, said) = Cause::from_refusal(480, "x", Some("Q.850;cause=20"));
        assert_eq!((cause.q850, said.as_str()), (20, "x"));
        assert_eq!(Cause::from_refusal(480, "x", Some("SIP;text=\"not here\"")).1, "not here");
    }

    #[test]
    fn what_goes_out_reads_back() {
        let cause = Cause::from_status(Origin::Gateway, 503).in_words("a \"b\"\r\nX-Evil: 1 \\");
        let header = cause.reason_header();
        assert!(!header.contains(['\r', '\n', '\\']), "{header}");
        assert_eq!(ReasonHeader::read(&header).q850, Some(41));
        assert_eq!(
            ReasonHeader::read(&Cause::special(Origin::Gateway, Special::AnsweredElsewhere).reason_header()).sip,
            Some(200)
        );
    }
}
