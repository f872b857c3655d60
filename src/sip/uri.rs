//! SIP, SIPS and tel URIs ([RFC 3261 section 19.1](https://www.rfc-editor.org/rfc/rfc3261#section-19.1),
//! [RFC 3966](https://www.rfc-editor.org/rfc/rfc3966)), kept as they were written.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Why a text is no URI, host or parameter list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UriError {
    /// There is no `scheme:`.
    #[error("no scheme")]
    Scheme,
    /// The user part has a character that must be escaped, or a broken escape.
    #[error("bad user part")]
    User,
    /// Neither a host name nor an IP address.
    #[error("bad host")]
    Host,
    /// Not a port number.
    #[error("bad port")]
    Port,
    /// A parameter that is no token, or whose value is broken.
    #[error("bad parameter")]
    Param,
    /// Header fields (`?name=value`) where none may be.
    #[error("header fields in the URI")]
    Headers,
    /// White space, control characters or angle brackets.
    #[error("bad character")]
    Character,
}

/// The scheme of a URI.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other, in lower case.
    Other(String),
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(name) => name,
        })
    }
}

/// The host of a URI or Via.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, in the case it was written in.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, in brackets when written.
    V6(Ipv6Addr),
}

impl From<std::net::IpAddr> for Host {
    fn from(ip: std::net::IpAddr) -> Host {
        match ip {
            std::net::IpAddr::V4(ip) => Host::V4(ip),
            std::net::IpAddr::V6(ip) => Host::V6(ip),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(ip) => ip.fmt(f),
            Host::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

impl FromStr for Host {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Host, UriError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(UriError::Host)?;
            // RFC 3261's grammar wants a third colon before an embedded IPv4 address by mistake
            // (RFC 5118 section 4.10): both are taken.
            let ip = inner.parse().or_else(|error| match inner.contains('.') {
                true => inner.replacen(":::", "::", 1).parse(),
                false => Err(error),
            });
            return ip.map(Host::V6).map_err(|_| UriError::Host);
        }
        if let Ok(ip) = text.parse() {
            return Ok(Host::V4(ip));
        }
        // Labels of letters, digits and hyphens; the underscore is no part of the grammar but of many a peer's name.
        let label = |l: &str| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() <= 253 && name.split('.').all(label) { Ok(Host::Name(text.into())) } else { Err(UriError::Host) }
    }
}

/// `;name=value` parameters in order, names compared without case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// None.
    pub fn new() -> Params {
        Params::default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_deref()))
    }

    /// `None`: not there; `Some(None)`: there without a value.
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_deref())
    }

    /// The value of a parameter that has one.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.get(name).flatten()
    }

    /// Replaces or appends. A value with CR, LF or NUL is refused: the parameter stays as it was.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        if value.is_some_and(has_line_break) || has_line_break(name) {
            return;
        }
        let value = value.map(str::to_owned);
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Removes it, if there.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Reads `;a=b;c` (what stands after the first `;` or an empty text), quoted values included.
    pub(super) fn parse(text: &str) -> Result<Params, UriError> {
        let mut params = Vec::new();
        for part in split_outside_quotes(text, ';').ok_or(UriError::Param)? {
            let part = part.trim();
            if part.is_empty() {
                // An empty parameter is harmless and seen in the field: ";;lr".
                continue;
            }
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (part, None),
            };
            if name.is_empty() || !name.chars().all(is_param_char) || value.is_some_and(|v| !is_param_value(v)) {
                return Err(UriError::Param);
            }
            params.push((name.to_owned(), value.map(str::to_owned)));
        }
        Ok(Params(params))
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Some(value) => write!(f, ";{name}={value}")?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

/// A URI. Parts are kept as written, escapes included; [`Uri::decoded_user`] decodes.
#[derive(Debug, Clone)]
pub struct Uri {
    /// The scheme.
    pub scheme: Scheme,
    /// The user part as written. For `tel:` and other schemes: all that follows the scheme up to the parameters.
    pub user: Option<String>,
    /// The password, which nobody should use.
    pub password: Option<String>,
    /// The host; of a `tel:` or other URI an empty name.
    pub host: Host,
    /// The port, where one is written.
    pub port: Option<u16>,
    /// `;name=value`
    pub params: Params,
    /// What follows `?`.
    pub headers: Option<String>,
    /// Host and port as written ("05060", "[2001:DB8::1]"): used while they still mean the same.
    written: Option<(String, Host, Option<u16>)>,
    /// The scheme as written ("SIP"): used while it still means the same.
    written_scheme: Option<String>,
}

impl PartialEq for Uri {
    fn eq(&self, other: &Uri) -> bool {
        self.scheme == other.scheme
            && self.user == other.user
            && self.password == other.password
            && self.host == other.host
            && self.port == other.port
            && self.params == other.params
            && self.headers == other.headers
    }
}

impl Eq for Uri {}

impl Uri {
    /// `sip:user@host:port`. What may not stand in a user part is escaped.
    ///
    /// # Errors
    /// [`UriError::User`] for an empty user or one with CR, LF or NUL; [`UriError::Host`] for a name that is none.
    pub fn sip(user: Option<&str>, host: Host, port: Option<u16>) -> Result<Uri, UriError> {
        if user.is_some_and(|u| u.is_empty() || has_line_break(u)) {
            return Err(UriError::User);
        }
        if let Host::Name(name) = &host {
            name.parse::<Host>()?;
        }
        Ok(Uri {
            scheme: Scheme::Sip,
            user: user.map(escape_user),
            password: None,
            host,
            port,
            params: Params::new(),
            headers: None,
            written: None,
            written_scheme: None,
        })
    }

    /// The user part with its escapes resolved; `None` without one, or where it is no UTF-8.
    pub fn decoded_user(&self) -> Option<String> {
        unescape(self.user.as_deref()?)
    }

    /// Whether it is `sip:` or `sips:`.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    fn parse_sip(scheme: Scheme, rest: &str) -> Result<Uri, UriError> {
        let (userinfo, hostpart) = match rest.split_once('@') {
            Some((userinfo, hostpart)) => (Some(userinfo), hostpart),
            None => (None, rest),
        };
        let (user, password) = match userinfo.map(|u| u.split_once(':').map_or((u, None), |(u, p)| (u, Some(p)))) {
            Some((user, password)) if !user.is_empty() && is_escaped_text(user) => (Some(user), password),
            None => (None, None),
            _ => return Err(UriError::User),
        };
        if password.is_some_and(|p| !is_escaped_text(p)) {
            return Err(UriError::User);
        }
        let (hostpart, headers) = match hostpart.split_once('?') {
            Some((hostpart, headers)) if is_escaped_text(headers) => (hostpart, Some(headers)),
            Some(_) => return Err(UriError::Character),
            None => (hostpart, None),
        };
        let (hostport, params) = hostpart.split_once(';').unwrap_or((hostpart, ""));
        let (host, port) = parse_hostport(hostport)?;
        Ok(Uri {
            scheme,
            user: user.map(Into::into),
            password: password.map(Into::into),
            written_scheme: None,
            written: Some((hostport.into(), host.clone(), port)),
            host,
            port,
            params: Params::parse(params)?,
            headers: headers.map(Into::into),
        })
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>')) {
            return Err(UriError::Character);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let scheme_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(scheme_char) {
            return Err(UriError::Scheme);
        }
        let written = scheme;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "sip" => Scheme::Sip,
            "sips" => Scheme::Sips,
            "tel" => Scheme::Tel,
            other => Scheme::Other(other.into()),
        };
        let uri = match scheme {
            Scheme::Sip | Scheme::Sips => Uri::parse_sip(scheme, rest)?,
            Scheme::Tel | Scheme::Other(_) => Uri::parse_other(scheme, rest)?,
        };
        Ok(Uri { written_scheme: (written != uri.scheme.to_string()).then(|| written.to_owned()), ..uri })
    }
}

impl Uri {
    fn parse_other(scheme: Scheme, rest: &str) -> Result<Uri, UriError> {
        let (number, params) =
            if scheme == Scheme::Tel { rest.split_once(';').unwrap_or((rest, "")) } else { (rest, "") };
        // What another scheme's text may be (mailto:bob@example.com) is none of our business, as far as it stays in its place.
        let opaque = number.replace('@', "");
        let text = if scheme == Scheme::Tel { number } else { opaque.as_str() };
        if number.is_empty() || !is_escaped_text(text) {
            return Err(UriError::User);
        }
        Ok(Uri {
            scheme,
            user: Some(number.into()),
            password: None,
            host: Host::Name(String::new()),
            port: None,
            params: Params::parse(params)?,
            headers: None,
            written: None,
            written_scheme: None,
        })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.to_string();
        let written = self.written_scheme.as_deref().filter(|written| written.eq_ignore_ascii_case(&scheme));
        write!(f, "{}:", written.unwrap_or(&scheme))?;
        if !self.is_sip() {
            return write!(f, "{}{}", self.user.as_deref().unwrap_or(""), self.params);
        }
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            f.write_str("@")?;
        }
        match &self.written {
            Some((text, host, port)) if *host == self.host && *port == self.port => f.write_str(text)?,
            _ => write_hostport(f, &self.host, self.port)?,
        }
        self.params.fmt(f)?;
        match &self.headers {
            Some(headers) => write!(f, "?{headers}"),
            None => Ok(()),
        }
    }
}

pub(super) fn write_hostport(f: &mut fmt::Formatter<'_>, host: &Host, port: Option<u16>) -> fmt::Result {
    match port {
        Some(port) => write!(f, "{host}:{port}"),
        None => write!(f, "{host}"),
    }
}

/// `host[:port]`, brackets around IPv6.
pub(super) fn parse_hostport(text: &str) -> Result<(Host, Option<u16>), UriError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let digits = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    let port = match port {
        Some(port) if digits(port) => Some(port.parse().map_err(|_| UriError::Port)?),
        Some(_) => return Err(UriError::Port),
        None => None,
    };
    Ok((host.parse()?, port))
}

/// CR, LF or NUL: what must never enter a header.
pub(super) fn has_line_break(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0))
}

/// No quotes, at-sign or control characters, and each `%` followed by two hex digits.
fn is_escaped_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '<' | '>' | '@'));
    let hex = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_hexdigit);
    plain && bytes.iter().enumerate().all(|(i, b)| *b != b'%' || (hex(i + 1) && hex(i + 2)))
}

/// RFC 3261 `paramchar` and `token`, and the few others that peers write.
fn is_param_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.!~*'()%+`[]/:&$".contains(c)
}

/// A quoted string, or characters that need no quotes ("generic" hosts and `<...>` included).
fn is_param_value(value: &str) -> bool {
    let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
    quoted || value.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | ',' | '<' | '>'))
}

/// RFC 3261 `mark`, and `user-unreserved` beside it.
const MARK: &[u8] = b"-_.!~*'()";
const USER: &[u8] = b"-_.!~*'()&=+$,;?/";

/// A user part: what RFC 3261 does not allow there is escaped.
fn escape_user(user: &str) -> String {
    escape_but(USER, user)
}

/// Escapes all that RFC 3261's `unreserved` does not have.
pub(super) fn escape(text: &str) -> String {
    escape_but(MARK, text)
}

fn escape_but(plain: &[u8], text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Resolves `%` escapes; `None` for a broken one, and for what is no UTF-8.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Splits at `separator` outside of quoted strings and `<...>`; `None` when a quote or bracket stays open.
pub(super) fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut bracketed, mut escaped) = (Vec::new(), 0, false, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            c if c == separator && !quoted && !bracketed => {
                parts.push(text.get(start..i)?);
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    if quoted || bracketed {
        return None;
    }
    parts.push(text.get(start..)?);
    Some(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn uris_come_back_as_written() {
        let table = [
            "sip:alice@atlanta.com",
            "sip:alice:secretword@atlanta.com;transport=tcp",
            "sips:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:+1-212-555-1212:1234@gateway.com;user=phone",
            "sip:alice;day=tuesday@atlanta.com",
            "sip:1%20@host;x=%20",
            "sip:[2001:DB8::0:1]:05060;lr",
            "sip:[2001:db8:::192.0.2.1]",
            "sip:*21#@192.0.2.1",
            "tel:+358-555-1234567;postd=pp22",
            "sip:user@example_host.com.",
            "nobodyKnowsThisScheme:totallyopaquecontent",
            "SIP:a@b",
            "tEl:+1",
        ];
        for text in table {
            assert_eq!(text.parse::<Uri>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        use UriError::*;
        let table = [
            ("", Scheme),
            ("alice@atlanta.com", Scheme),
            ("sip:@host", User),
            ("sip:a%2@host", User),
            ("sip:a%zz@host", User),
            ("sip:a b@host", Character),
            ("<sip:a@host>", Character),
            ("sip:a@ho st", Character),
            ("sip:a@", Host),
            ("sip:a@[::1", Host),
            ("sip:a@::1", Host),
            ("sip:a@[:::1]", Host),
            ("sip:a@host:99999", Port),
            ("sip:a@host:+5060", Port),
            ("sip:a@host:x", Port),
            ("tel:", User),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<Uri>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_users_text_is_escaped_and_line_breaks_are_refused() {
        let host = || Host::Name("gw.example".into());
        let uri = Uri::sip(Some("a b@c<>\"é"), host(), None).unwrap();
        assert_eq!(uri.to_string(), "sip:a%20b%40c%3C%3E%22%C3%A9@gw.example");
        assert_eq!(uri.to_string().parse::<Uri>().unwrap().decoded_user().unwrap(), "a b@c<>\"é");
        for bad in ["a\rb", "a\nb", "a\0b", ""] {
            assert_eq!(Uri::sip(Some(bad), host(), None), Err(UriError::User));
        }
        assert_eq!(Uri::sip(None, Host::Name("bad host".into()), None), Err(UriError::Host));
    }

    #[test]
    fn a_changed_port_is_written_anew() {
        let mut uri: Uri = "SIP:a@[2001:DB8::1]:05060".parse().unwrap();
        uri.port = Some(5070);
        uri.scheme = Scheme::Sips;
        assert_eq!(uri.to_string(), "sips:a@[2001:db8::1]:5070");
    }
}
