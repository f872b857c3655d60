//! `[trunk.NAME]`: a SIP peer.

use std::net::{IpAddr, SocketAddr};

use toml::Spanned;

use super::{ConfigError, Problem, Reader, Sip, raw};
use crate::codec::Codec;
use crate::sip::{Credentials, Transport};
use crate::switch::{DtmfMethod, NumberFormat};

/// A trunk as configured; its host name is not resolved yet.
#[derive(Debug, Clone)]
pub struct TrunkConfig {
    /// The name by which dial plans know it.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// UDP or TCP.
    pub transport: Transport,
    /// The listener to use: requests leave from it and its address stands in Via and Contact.
    pub listener: SocketAddr,
    /// The host part of the URIs we send; the address where there is none.
    pub domain: Option<String>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// What to offer, most wanted first.
    pub codecs: Vec<Codec>,
    /// How numbers are written for it.
    pub number_format: NumberFormat,
    /// How digits travel.
    pub dtmf: DtmfMethod,
    /// Further addresses its requests come from.
    pub sources: Vec<IpAddr>,
}

impl Reader<'_> {
    pub(super) fn trunk(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        sip: &Sip,
    ) -> Result<TrunkConfig, ConfigError> {
        let name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(name_char) {
            return Err(self.error(section, Problem::TrunkName(name.into())));
        }
        let raw = section.get_ref();
        let address = with_port(raw.address.get_ref()).ok_or_else(|| {
            let value = raw.address.get_ref().clone();
            let example = "\"sip.carrier.example:5060\" or \"[2001:db8::1]:5060\"";
            self.error(&raw.address, Problem::Address { key: "address", value, example })
        })?;
        let transport = match &raw.transport {
            None => Transport::Udp,
            Some(v) => match v.get_ref().as_str() {
                "udp" => Transport::Udp,
                "tcp" => Transport::Tcp,
                other => {
                    let value = other.to_owned();
                    return Err(self.error(v, Problem::Word { key: "transport", value, takes: "\"udp\" or \"tcp\"" }));
                }
            },
        };
        Ok(TrunkConfig {
            name: name.into(),
            listener: self.listener(name, section, &address, transport, sip)?,
            address,
            transport,
            domain: raw.domain.as_ref().map(|d| self.domain(d)).transpose()?,
            credentials: self.credentials(name, section)?,
            codecs: self.codecs(raw.codecs.as_deref())?,
            number_format: self.number_format(raw.number_format.as_ref())?,
            dtmf: self.dtmf(raw.dtmf.as_ref())?,
            sources: raw.sources.iter().flatten().map(|v| self.ip("sources", v)).collect::<Result<_, _>>()?,
        })
    }

    fn listener(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        address: &str,
        transport: Transport,
        sip: &Sip,
    ) -> Result<SocketAddr, ConfigError> {
        let (listeners, word) = match transport {
            Transport::Udp => (&sip.udp, "udp"),
            _ => (&sip.tcp, "tcp"),
        };
        // A host name may resolve to either family; the resolver is told which one the listener has.
        let literal: Option<SocketAddr> = address.parse().ok();
        let fits = |l: &&SocketAddr| literal.is_none_or(|a| a.is_ipv4() == l.is_ipv4());
        listeners
            .iter()
            .find(fits)
            .copied()
            .ok_or_else(|| self.error(section, Problem::NoListener { trunk: name.into(), transport: word }))
    }

    fn domain(&self, value: &Spanned<String>) -> Result<String, ConfigError> {
        let text = value.get_ref();
        if text.parse::<crate::sip::Host>().is_ok() {
            return Ok(text.clone());
        }
        Err(self.error(
            value,
            Problem::Word { key: "domain", value: text.clone(), takes: "a host name or address without a port" },
        ))
    }

    fn credentials(&self, name: &str, section: &Spanned<raw::Trunk>) -> Result<Option<Credentials>, ConfigError> {
        let raw = section.get_ref();
        let password = match (&raw.password, &raw.password_file) {
            (Some(p), None) => Some(p.get_ref().clone()),
            (None, Some(file)) => Some(self.secret_file(file)?),
            (None, None) => None,
            (Some(p), Some(_)) => return Err(self.error(p, Problem::HalfCredentials(name.into()))),
        };
        match (&raw.user, password) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => {
                Ok(Some(Credentials { username: user.get_ref().clone(), password, realm: raw.realm.clone() }))
            }
            _ => Err(self.error(section, Problem::HalfCredentials(name.into()))),
        }
    }

    fn codecs(&self, raw: Option<&[Spanned<String>]>) -> Result<Vec<Codec>, ConfigError> {
        let Some(list) = raw else { return Ok(vec![Codec::Pcmu, Codec::Pcma]) };
        let codec = |v: &Spanned<String>| match v.get_ref().to_ascii_uppercase().as_str() {
            "PCMU" => Ok(Codec::Pcmu),
            "PCMA" => Ok(Codec::Pcma),
            _ => {
                let value = v.get_ref().clone();
                Err(self.error(v, Problem::Word { key: "codecs", value, takes: "\"PCMU\" and \"PCMA\"" }))
            }
        };
        list.iter().map(codec).collect()
    }

    fn number_format(&self, raw: Option<&Spanned<String>>) -> Result<NumberFormat, ConfigError> {
        let Some(v) = raw else { return Ok(NumberFormat::E164) };
        let text = v.get_ref().as_str();
        match text {
            "e164" => Ok(NumberFormat::E164),
            "plain" => Ok(NumberFormat::Plain),
            "as-dialled" => Ok(NumberFormat::AsDialled),
            _ => {
                // "national:44:0": country code and national prefix
                let parts: Vec<&str> = text.split(':').collect();
                let digits = |s: &str| s.len() <= 4 && s.chars().all(|c| c.is_ascii_digit());
                match parts.as_slice() {
                    ["national", country, prefix] if !country.is_empty() && digits(country) && digits(prefix) => {
                        Ok(NumberFormat::National { country: (*country).into(), prefix: (*prefix).into() })
                    }
                    _ => {
                        let takes = "\"e164\" (+442079460000), \"plain\" (442079460000), \"national:44:0\" \
                                     (02079460000) or \"as-dialled\"";
                        Err(self.error(v, Problem::Word { key: "number_format", value: text.into(), takes }))
                    }
                }
            }
        }
    }

    fn dtmf(&self, raw: Option<&Spanned<String>>) -> Result<DtmfMethod, ConfigError> {
        match raw.map(|v| (v, v.get_ref().as_str())) {
            None | Some((_, "rfc4733")) => Ok(DtmfMethod::Rfc4733),
            Some((_, "info")) => Ok(DtmfMethod::Info),
            Some((v, other)) => {
                let takes = "\"rfc4733\" or \"info\"";
                Err(self.error(v, Problem::Word { key: "dtmf", value: other.into(), takes }))
            }
        }
    }
}

/// `host:port`, with 5060 where no port is given; `None` when it is neither a host nor an address.
fn with_port(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.to_string());
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 5060).to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|p| *p > 0)?),
        None => (text, 5060),
    };
    let host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(host_char)).then(|| format!("{host}:{port}"))
}
