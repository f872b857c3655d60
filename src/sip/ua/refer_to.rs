//! Refer-To and Referred-By: [RFC 3515 section 2.1](https://www.rfc-editor.org/rfc/rfc3515#section-2.1),
//! [RFC 3892](https://www.rfc-editor.org/rfc/rfc3892), with a Replaces inside
//! ([RFC 5589 section 7](https://www.rfc-editor.org/rfc/rfc5589#section-7)).

use super::replaces::Replaces;
use super::types::UaError;
use crate::sip::uri::{escape, unescape};
use crate::sip::{HeaderError, Headers, NameAddr, Scheme, Uri};

/// Whom a REFER wants called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferTo {
    /// Where: `sip`, `sips` or `tel`, without header fields of its own.
    pub uri: Uri,
    /// The call that the new one shall take the place of: an attended transfer.
    pub replaces: Option<Replaces>,
}

impl ReferTo {
    /// The one Refer-To of a REFER. `Err`: the status to refuse it with; 400 for none or several (section 2.4.2), 416 for
    /// a scheme that is not ours, 403 for a method other than INVITE.
    pub(super) fn of(headers: &Headers) -> Result<ReferTo, u16> {
        let mut all = headers.get_all("Refer-To");
        let (Some(value), None) = (all.next(), all.next()) else { return Err(400) };
        let NameAddr { mut uri, .. } = value.parse().map_err(|_| 400u16)?;
        match uri.scheme {
            Scheme::Sip | Scheme::Sips | Scheme::Tel => {}
            Scheme::Other(_) => return Err(416),
        }
        if uri.params.value("method").is_some_and(|method| !method.eq_ignore_ascii_case("INVITE")) {
            return Err(403);
        }
        uri.params.remove("method");
        let fields = uri.headers.take().unwrap_or_default();
        Ok(ReferTo { uri, replaces: embedded_replaces(&fields)? })
    }

    /// As a header's value.
    pub(super) fn value(&self) -> Result<String, UaError> {
        let bad = || UaError::Header { name: "Refer-To".to_owned() };
        let mut uri = self.uri.clone();
        if uri.headers.is_some() || matches!(uri.scheme, Scheme::Other(_)) {
            return Err(bad());
        }
        if let Some(replaces) = &self.replaces {
            if !replaces.is_sound() || !uri.is_sip() {
                return Err(bad());
            }
            uri.headers = Some(format!("Replaces={}", escape(&replaces.to_string())));
        }
        let value = NameAddr::new(uri.clone()).to_string();
        let same = value.parse::<NameAddr>().is_ok_and(|read| read.uri == uri);
        if same { Ok(value) } else { Err(bad()) }
    }
}

/// The Replaces among the header fields of a URI. Others are passed over: RFC 3261 section 19.1.5 leaves it to us what
/// to honour.
fn embedded_replaces(fields: &str) -> Result<Option<Replaces>, u16> {
    let mut found = None;
    for (name, value) in fields.split('&').filter_map(|field| field.split_once('=')) {
        if !plain(name).ok_or(400u16)?.eq_ignore_ascii_case("Replaces") {
            continue;
        }
        let value = plain(value).ok_or(400u16)?;
        if found.replace(value.parse().map_err(|_: HeaderError| 400u16)?).is_some() {
            return Err(400);
        }
    }
    Ok(found)
}

/// Without escapes; `None` where they are broken, or hide control characters.
fn plain(text: &str) -> Option<String> {
    unescape(text).filter(|text| !text.contains(char::is_control))
}

/// The Referred-By of a request, where it can be read.
pub(super) fn referred_by(headers: &Headers) -> Option<String> {
    headers.get("Referred-By").filter(|value| value.parse::<NameAddr>().is_ok()).map(str::to_owned)
}

/// Refuses a Referred-By that would not be read as an address.
pub(super) fn check_referred_by(value: &str) -> Result<(), UaError> {
    match value.parse::<NameAddr>() {
        Ok(address) if !address.to_string().contains(char::is_control) && !value.contains(char::is_control) => Ok(()),
        _ => Err(UaError::Header { name: "Referred-By".to_owned() }),
    }
}
