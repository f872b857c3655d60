//! Header fields: an ordered, lossless list with typed views
//! ([RFC 3261 section 7.3](https://www.rfc-editor.org/rfc/rfc3261#section-7.3) and section 20).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::digest::Challenge;
use super::message::Method;
use super::uri::{Host, Params, Uri, has_line_break, parse_hostport, split_outside_quotes, write_hostport};

/// A header that is missing, there too often or not of its grammar.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// It must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// It must be there once.
    #[error("{0} stands more than once")]
    Repeated(&'static str),
    /// It is not of its grammar.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// Compact forms (RFC 3261 section 20 and later RFCs).
const COMPACT: &[(&str, &str)] = &[
    ("a", "accept-contact"),
    ("b", "referred-by"),
    ("c", "content-type"),
    ("e", "content-encoding"),
    ("f", "from"),
    ("i", "call-id"),
    ("k", "supported"),
    ("l", "content-length"),
    ("m", "contact"),
    ("o", "event"),
    ("r", "refer-to"),
    ("s", "subject"),
    ("t", "to"),
    ("u", "allow-events"),
    ("v", "via"),
    ("x", "session-expires"),
];

fn long_name(name: &str) -> &str {
    COMPACT.iter().find(|(short, _)| name.eq_ignore_ascii_case(short)).map_or(name, |(_, long)| long)
}

fn same_name(a: &str, b: &str) -> bool {
    // Only names of one letter have another form.
    a.eq_ignore_ascii_case(b) || ((a.len() == 1 || b.len() == 1) && long_name(a).eq_ignore_ascii_case(long_name(b)))
}

/// The header fields of a message in their order. Values are as written, unfolded; names keep their case and form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers {
    list: Vec<(String, String)>,
}

impl Headers {
    /// None.
    pub fn new() -> Headers {
        Headers::default()
    }

    /// The first value of that name, by long or compact form.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(n, _)| same_name(n, name)).map(|(_, v)| v.as_str())
    }

    /// Every value of that name, line by line.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.list.iter().filter(move |(n, _)| same_name(n, name)).map(|(_, v)| v.as_str())
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// How many lines.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends. A name or value with CR, LF or NUL is refused: nothing is appended.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let at = self.list.len();
        self.insert(at, name.into(), value.into());
    }

    /// Puts it before all others. Refuses as [`Headers::push`] does.
    pub fn push_front(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.insert(0, name.into(), value.into());
    }

    fn insert(&mut self, at: usize, name: String, value: String) {
        if !has_line_break(&name) && !has_line_break(&value) {
            self.list.insert(at, (name, value));
        }
    }

    /// Replaces all of that name by one, at the first one's place. Refuses as [`Headers::push`] does.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        if has_line_break(&name) || has_line_break(&value) {
            return;
        }
        let at = self.list.iter().position(|(n, _)| same_name(n, &name)).unwrap_or(self.list.len());
        self.remove(&name);
        self.list.insert(at.min(self.list.len()), (name, value));
    }

    /// Removes all of that name.
    pub fn remove(&mut self, name: &str) {
        self.list.retain(|(n, _)| !same_name(n, name));
    }

    /// Removes the first value of that name: a line, or the first of a comma-separated list.
    pub fn remove_first(&mut self, name: &str) {
        let Some(at) = self.list.iter().position(|(n, _)| same_name(n, name)) else { return };
        let Some((_, value)) = self.list.get_mut(at) else { return };
        let rest =
            split_outside_quotes(value, ',').filter(|p| p.len() > 1).map(|p| p.get(1..).unwrap_or_default().join(","));
        match rest {
            Some(rest) => *value = rest.trim().to_owned(),
            None => {
                self.list.remove(at);
            }
        }
    }

    /// Replaces the first value of that name, a line or the first of a comma-separated list, and leaves the rest as it
    /// is written. Refuses as [`Headers::push`] does.
    pub fn replace_first(&mut self, name: &str, value: &str) {
        if has_line_break(value) {
            return;
        }
        let Some((_, line)) = self.list.iter_mut().find(|(n, _)| same_name(n, name)) else { return };
        let rest = split_outside_quotes(line, ',').and_then(|parts| line.get(parts.first()?.len()..)).unwrap_or("");
        *line = format!("{value}{rest}");
    }

    fn single(&self, name: &'static str) -> Result<&str, HeaderError> {
        let mut all = self.get_all(name);
        let value = all.next().ok_or(HeaderError::Missing(name))?;
        if all.next().is_some() { Err(HeaderError::Repeated(name)) } else { Ok(value) }
    }

    /// Values of a comma-separated header over all of its lines.
    fn list<T: FromStr>(&self, name: &'static str) -> Result<Vec<T>, HeaderError> {
        let malformed = || HeaderError::Malformed(name);
        let mut values = Vec::new();
        for line in self.get_all(name) {
            for part in split_outside_quotes(line, ',').ok_or_else(malformed)? {
                values.push(part.trim().parse().map_err(|_| malformed())?);
            }
        }
        Ok(values)
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, HeaderError> {
        self.single(name)?.trim().parse().map_err(|_| HeaderError::Malformed(name))
    }

    fn number(&self, name: &'static str) -> Result<Option<u32>, HeaderError> {
        match self.get(name) {
            None => Ok(None),
            // Parameters may follow ("Session-Expires: 1800;refresher=uac").
            Some(text) => {
                decimal(text.split(';').next().unwrap_or("").trim()).map(Some).ok_or(HeaderError::Malformed(name))
            }
        }
    }

    /// From.
    ///
    /// # Errors
    /// Missing, repeated or malformed; so for all that follow.
    pub fn from(&self) -> Result<NameAddr, HeaderError> {
        self.parsed("From")
    }

    /// To.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn to(&self) -> Result<NameAddr, HeaderError> {
        self.parsed("To")
    }

    /// The addresses of a header field that lists any (`P-Asserted-Identity`, `Remote-Party-ID`); what cannot be read is
    /// left out with all that its line says.
    pub fn addresses(&self, name: &str) -> Vec<NameAddr> {
        let lines = self.get_all(name).filter_map(|line| split_outside_quotes(line, ','));
        lines.flatten().filter_map(|part| part.parse().ok()).collect()
    }

    /// All contacts; `*` (REGISTER only) is malformed here, ask [`Headers::get`] for it.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn contacts(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list("Contact")
    }

    /// All Via values, topmost first.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn vias(&self) -> Result<Vec<Via>, HeaderError> {
        self.list("Via")
    }

    /// The topmost Via, whatever the others look like: it is all that is needed to answer.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn top_via(&self) -> Result<Via, HeaderError> {
        let line = self.get("Via").ok_or(HeaderError::Missing("Via"))?;
        let values = split_outside_quotes(line, ',').ok_or(HeaderError::Malformed("Via"))?;
        values.first().ok_or(HeaderError::Missing("Via"))?.trim().parse()
    }

    /// CSeq.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        self.parsed("CSeq")
    }

    /// Call-ID.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn call_id(&self) -> Result<&str, HeaderError> {
        let text = self.single("Call-ID")?.trim();
        if text.is_empty() || text.contains(char::is_whitespace) {
            Err(HeaderError::Malformed("Call-ID"))
        } else {
            Ok(text)
        }
    }

    /// Max-Forwards, 0 to 255 (section 20.22).
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        let number = self.number("Max-Forwards")?;
        number.map(|n| u8::try_from(n).map_err(|_| HeaderError::Malformed("Max-Forwards"))).transpose()
    }

    /// Route, topmost first.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list("Route")
    }

    /// Record-Route, topmost first.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn record_routes(&self) -> Result<Vec<NameAddr>, HeaderError> {
        self.list("Record-Route")
    }

    /// The words of Require, Supported, Allow, Unsupported and the like.
    pub fn tokens(&self, name: &str) -> Vec<String> {
        let words = self.get_all(name).flat_map(|line| line.split(','));
        words.map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    }

    /// Content-Type as written.
    pub fn content_type(&self) -> Option<&str> {
        self.get("Content-Type").map(str::trim)
    }

    /// Content-Length; several that differ are malformed.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        let mut length = None;
        for text in self.get_all("Content-Length") {
            let number = decimal(text.trim()).ok_or(HeaderError::Malformed("Content-Length"))?;
            if length.is_some_and(|l| l != number) {
                return Err(HeaderError::Repeated("Content-Length"));
            }
            length = Some(number);
        }
        Ok(length.and_then(|l| usize::try_from(l).ok()))
    }

    /// Expires, seconds.
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        self.number("Expires")
    }

    /// Min-SE, seconds (RFC 4028).
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn min_se(&self) -> Result<Option<u32>, HeaderError> {
        self.number("Min-SE")
    }

    /// Retry-After; a comment or parameters may follow the seconds (section 20.33). `None`: there is none that can be read.
    pub fn retry_after(&self) -> Option<Duration> {
        let digits = self.get("Retry-After")?.trim().split(|c: char| !c.is_ascii_digit()).next()?;
        decimal(digits).map(|seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// RSeq (RFC 3262).
    ///
    /// # Errors
    /// See [`Headers::from`].
    pub fn rseq(&self) -> Result<Option<u32>, HeaderError> {
        self.number("RSeq")
    }

    /// The challenges of WWW-Authenticate or Proxy-Authenticate; unreadable ones are left out.
    pub fn challenges(&self, name: &str) -> Vec<Challenge> {
        self.get_all(name).filter_map(|v| v.parse().ok()).collect()
    }
}

/// Digits only, within 32 bits.
pub(super) fn decimal(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// `"Display" <uri>;params` or `uri;params` (section 20.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameAddr {
    /// The display name without its quotes, escapes resolved.
    pub display: Option<String>,
    /// The URI.
    pub uri: Uri,
    /// The header's own parameters.
    pub params: Params,
}

impl NameAddr {
    /// A bare URI in `<>`.
    pub fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, params: Params::new() }
    }

    /// The dialog's tag.
    pub fn tag(&self) -> Option<&str> {
        self.params.value("tag")
    }

    /// With that tag.
    pub fn with_tag(mut self, tag: &str) -> NameAddr {
        self.params.set("tag", Some(tag));
        self
    }
}

impl FromStr for NameAddr {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<NameAddr, HeaderError> {
        let bad = || HeaderError::Malformed("address");
        let text = text.trim();
        let (display, rest) = if let Some(quoted) = text.strip_prefix('"') {
            let (name, rest) = unquote(quoted).ok_or_else(bad)?;
            (Some(name), rest.trim_start())
        } else {
            match text.find('<') {
                Some(at) => {
                    let (name, rest) = text.split_at(at);
                    let name = name.trim();
                    // RFC 3261: tokens and white space; a comma or semicolon here is a broken list.
                    if name.contains(['"', ',', ';', ':', '>']) {
                        return Err(bad());
                    }
                    ((!name.is_empty()).then(|| name.to_owned()), rest)
                }
                None => (None, text),
            }
        };
        let (uri, params) = match rest.strip_prefix('<') {
            Some(inner) => {
                let (uri, params) = inner.split_once('>').ok_or_else(bad)?;
                let params = params.trim();
                if !params.is_empty() && !params.starts_with(';') {
                    return Err(bad());
                }
                (uri.trim(), params)
            }
            // Without brackets the parameters are the header's (section 20), and there is no display name.
            None if display.is_some() => return Err(bad()),
            // A URI with a comma or question mark must stand in brackets.
            None if rest.contains([',', '?']) => return Err(bad()),
            None => match rest.find(';') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            },
        };
        let uri: Uri = uri.trim().parse().map_err(|_| bad())?;
        let params = Params::parse(params.strip_prefix(';').unwrap_or(params)).map_err(|_| bad())?;
        Ok(NameAddr { display, uri, params })
    }
}

/// Reads up to the closing quote; gives the text with escapes resolved, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(i + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            f.write_str("\"")?;
            for c in display.chars() {
                if matches!(c, '"' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
            f.write_str("\" ")?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// One Via value (section 20.42).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// The version of SIP: `2.0`, and another only in a message that is refused for it.
    pub version: String,
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS` or another, as written.
    pub transport: String,
    /// The sender's host.
    pub host: Host,
    /// The sender's port.
    pub port: Option<u16>,
    /// `branch`, `received`, `rport` and others.
    pub params: Params,
}

impl Via {
    /// The transaction's branch.
    pub fn branch(&self) -> Option<&str> {
        self.params.value("branch")
    }

    /// Where it came from, as the receiver saw it.
    pub fn received(&self) -> Option<&str> {
        self.params.value("received")
    }

    /// `None`: not asked for; `Some(None)`: asked for; `Some(Some(port))`: filled in (RFC 3581).
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|v| v.and_then(|p| p.parse().ok()))
    }
}

impl FromStr for Via {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Via, HeaderError> {
        let bad = || HeaderError::Malformed("Via");
        // White space may stand around the slashes and the colon: "SIP  / 2.0 / UDP host : 5060".
        let mut parts = text.splitn(3, '/');
        let (name, version, rest) = (parts.next(), parts.next(), parts.next().ok_or_else(bad)?);
        let version = version.unwrap_or_default().trim();
        let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !name.is_some_and(|name| name.trim().eq_ignore_ascii_case("SIP")) || !is_version {
            return Err(bad());
        }
        let (transport, rest) = rest.trim_start().split_once(char::is_whitespace).ok_or_else(bad)?;
        let token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
        if transport.is_empty() || !transport.chars().all(token) {
            return Err(bad());
        }
        let (hostport, params) = rest.split_once(';').unwrap_or((rest, ""));
        let hostport: String = hostport.chars().filter(|c| !c.is_whitespace()).collect();
        let (host, port) = parse_hostport(&hostport).map_err(|_| bad())?;
        let params = Params::parse(params).map_err(|_| bad())?;
        Ok(Via { version: version.into(), transport: transport.into(), host, port, params })
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/{}/{} ", self.version, self.transport)?;
        write_hostport(f, &self.host, self.port)?;
        self.params.fmt(f)
    }
}

/// CSeq (section 20.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2^31.
    pub number: u32,
    /// The request's method.
    pub method: Method,
}

impl FromStr for CSeq {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<CSeq, HeaderError> {
        let bad = || HeaderError::Malformed("CSeq");
        let (number, method) = text.trim().split_once(char::is_whitespace).ok_or_else(bad)?;
        let number = decimal(number).filter(|n| *n < 1 << 31).ok_or_else(bad)?;
        let method = method.trim().parse().map_err(|_| bad())?;
        Ok(CSeq { number, method })
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_form() {
        let mut headers = Headers::new();
        headers.push("v", "SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/TCP b:5070");
        headers.push("VIA", "SIP / 2.0 / UDP  [::1] : 5060 ;rport;received=192.0.2.1");
        let vias = headers.vias().unwrap();
        assert_eq!(vias.len(), 3);
        assert_eq!(vias[0].branch(), Some("z9hG4bK1"));
        assert_eq!((vias[1].transport.as_str(), vias[1].port), ("TCP", Some(5070)));
        assert_eq!((vias[2].rport(), vias[2].received()), (Some(None), Some("192.0.2.1")));
        headers.replace_first("Via", "SIP/2.0/UDP z;branch=z9hG4bK2");
        assert_eq!(headers.get("Via"), Some("SIP/2.0/UDP z;branch=z9hG4bK2, SIP/2.0/TCP b:5070"));
        headers.replace_first("Via", "a\r\nb");
        headers.replace_first("Route", "x");
        assert_eq!(headers.vias().unwrap().len(), 3);
        headers.remove_first("Via");
        assert_eq!(headers.top_via().unwrap().transport, "TCP");
        headers.set("Via", "SIP/2.0/UDP c");
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn addresses_in_every_form() {
        let table = [
            ("sip:a@b;tag=1", None, "<sip:a@b>;tag=1"),
            ("<sip:a@b;x=y>;tag=1", None, "<sip:a@b;x=y>;tag=1"),
            ("Bob Smith <sip:a@b>", Some("Bob Smith"), "\"Bob Smith\" <sip:a@b>"),
            (
                "\"J \\\"Rosenberg\\\" \\\\\" <sip:a@b>",
                Some("J \"Rosenberg\" \\"),
                "\"J \\\"Rosenberg\\\" \\\\\" <sip:a@b>",
            ),
            ("\"a,b<c>\"<sip:a@b> ; tag = 1", Some("a,b<c>"), "\"a,b<c>\" <sip:a@b>;tag=1"),
            ("< sip:a@b >", None, "<sip:a@b>"),
        ];
        for (text, display, written) in table {
            let address: NameAddr = text.parse().unwrap();
            assert_eq!(address.display.as_deref(), display);
            assert_eq!(address.to_string(), written);
            assert_eq!(written.parse::<NameAddr>().unwrap(), address);
        }
        for bad in [
            "",
            "\"open <sip:a@b>",
            "Bell, Alexander <sip:a@b>",
            "<sip:a@b",
            "Bob sip:a@b",
            "<sip:a@b>x",
            "\"x\" sip:a@b",
            "sip:a@b?subject=x",
            "sip:a,c@b",
        ] {
            assert!(bad.parse::<NameAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_keep_to_their_limits() {
        let one = |name: &str, value: &str| {
            let mut headers = Headers::new();
            headers.push(name, value);
            headers
        };
        assert!(one("CSeq", "4294967296 INVITE").cseq().is_err());
        assert!(one("CSeq", "-1 INVITE").cseq().is_err());
        assert_eq!(one("cseq", "0009  INVITE").cseq().unwrap().number, 9);
        assert!(one("Max-Forwards", "256").max_forwards().is_err());
        assert!(one("Expires", "1000000000000").expires().is_err());
        assert!(one("l", "-999").content_length().is_err());
        assert_eq!(one("x", "1800;refresher=uac").number("Session-Expires"), Ok(Some(1800)));
        let table = [("120", 120), ("18000;duration=3600", 18_000), (" 90 (in a meeting)", 90)];
        for (value, seconds) in table {
            assert_eq!(one("Retry-After", value).retry_after(), Some(Duration::from_secs(seconds)));
        }
        for none in ["", "soon", "-1", "99999999999"] {
            assert_eq!(one("Retry-After", none).retry_after(), None);
        }
    }

    #[test]
    fn a_line_break_never_enters_a_header() {
        let mut headers = Headers::new();
        for value in ["a\r\nX: 1", "a\nb", "a\0"] {
            headers.push("Subject", value);
            headers.push_front("Subject", value);
            headers.set("Subject", value);
            headers.push(value, "x");
        }
        assert!(headers.is_empty());
    }
}
