//! `[trunk.NAME]`: a SIP peer.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::profile::ProfileNote;
use super::{ConfigError, Problem, Reader, Sip, raw};
use crate::codec::Codec;
use crate::net::tls::TlsClient;
use crate::sdp::{Pass, SrtpPolicy};
use crate::sip::{Credentials, Host, Refresher, Reliable, SessionOptions, SessionTimer, Transport, TrunkDns};
use crate::switch::{
    Asserted, DtmfMethod, FromUser, Identity, Network, NumberFormat, Redirects, Refer, ReferIn, Register, Trunk,
    TrunkLimits,
};

/// A trunk as configured; its name is not looked up yet.
#[derive(Debug, Clone)]
pub struct TrunkConfig {
    /// What the core is told of it: the name to look up, and no targets.
    pub trunk: Trunk,
    /// The profile whose values it takes.
    pub profile: Option<ProfileNote>,
    /// How connections to it are made safe, where it has an opinion.
    pub tls: Option<TlsClient>,
}

/// What the trunk comes to, in a few lines without secrets.
impl fmt::Display for TrunkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trunk = &self.trunk;
        let or_none = |limit: Option<u32>| limit.map_or_else(|| "no limit of".to_owned(), |limit| limit.to_string());
        write!(f, "trunk {}: ", trunk.name)?;
        if let Some(dns) = &trunk.dns {
            write!(f, "{dns}")?;
        }
        if let Some(profile) = &self.profile {
            let verified = if profile.verified.is_empty() { "from documentation only" } else { "verified in part" };
            write!(f, ", profile {} ({verified})", profile.name)?;
        }
        let codecs: Vec<String> = trunk.codecs.iter().map(|codec| format!("{codec:?}").to_uppercase()).collect();
        write!(
            f,
            "\n  {}, {} ms, digits {:?}, SRTP {:?}, 100rel {:?}, session timer {}",
            codecs.join(" "),
            trunk.ptime,
            trunk.dtmf,
            trunk.srtp,
            trunk.options.reliable,
            trunk.options.timer.map_or_else(|| "not asked for".to_owned(), |timer| format!("{} s", timer.expires)),
        )?;
        write!(
            f,
            "\n  numbers {:?}, From {:?}, asserted {:?}, trusts {}",
            trunk.number_format, trunk.identity.from, trunk.identity.asserted, trunk.identity.trust,
        )?;
        match &trunk.register {
            Some(register) => write!(f, "\n  registers {} for {} s", register.user, register.expires)?,
            None => write!(f, "\n  does not register")?,
        }
        match trunk.options_every {
            Some(every) => write!(f, ", OPTIONS each {} s", every.as_secs())?,
            None => write!(f, ", no OPTIONS")?,
        }
        let limits = trunk.limits;
        write!(f, "; {} calls at once, {} a second", or_none(limits.calls), or_none(limits.calls_per_second))?;
        for need in self.profile.iter().flat_map(|profile| &profile.needs) {
            write!(f, "\n  the profile needs: {need}")?;
        }
        Ok(())
    }
}

/// Seconds between two OPTIONS where nothing is said.
const OPTIONS: usize = 60;
/// Seconds that a registration is asked for where nothing is said.
const EXPIRES: usize = 3600;

/// Header fields that other keys decide upon.
const DECIDED: &[&str] = &["P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy", "Route"];

impl Reader<'_> {
    /// A trunk with what its profile says.
    pub(super) fn profiled_trunk(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        profiles: &Path,
        sip: &Sip,
    ) -> Result<TrunkConfig, ConfigError> {
        let Some(profile) = &section.get_ref().profile else { return self.trunk(name, section, sip) };
        let (note, base) = self.profile(profile, profiles, sip)?;
        let whole = Spanned::new(section.span(), section.get_ref().clone().or(&base));
        Ok(TrunkConfig { profile: Some(note), ..self.trunk(name, &whole, sip)? })
    }

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
        let transport = self.transport(raw.transport.as_ref())?;
        let address = raw.address.as_ref().ok_or_else(|| self.error(section, Problem::NoAddress(name.into())))?;
        let peer = self.host_port("address", address, transport)?;
        let proxy = raw.outbound_proxy.as_ref().map(|v| self.host_port("outbound_proxy", v, transport)).transpose()?;
        let credentials = self.credentials(name, section)?;
        let domain = raw.domain.as_ref().map(|d| self.domain(d)).transpose()?;
        // Sent to a proxy, the URIs still name the peer behind it.
        let domain = domain.or_else(|| proxy.as_ref().and_then(|_| uri_host(&peer.host)));
        let dns = proxy.unwrap_or(peer);
        self.has_listener(name, section, &dns, sip)?;
        let every = self.number("options", &raw.options, OPTIONS, 0..=3600, "0 (off) to 3600 seconds")?;
        let trunk = Trunk {
            dns: Some(dns),
            domain,
            from_domain: raw.from_domain.as_ref().map(|d| self.domain(d)).transpose()?,
            register: self.register(name, section, credentials.as_ref())?,
            identity: self.identity(name, section, credentials.as_ref())?,
            credentials,
            codecs: self.codecs(raw.codecs.as_deref())?,
            ptime: self.ptime(&raw.ptime)?,
            pass: self.word("pass", raw.pass.as_ref(), &[("quality", Pass::Quality), ("cost", Pass::Cost)])?,
            srtp: self.word(
                "srtp",
                raw.srtp.as_ref(),
                &[("off", SrtpPolicy::Off), ("optional", SrtpPolicy::Optional), ("required", SrtpPolicy::Required)],
            )?,
            number_format: self.number_format(raw.number_format.as_ref())?,
            dtmf: self.word(
                "dtmf",
                raw.dtmf.as_ref(),
                &[
                    ("rfc4733", DtmfMethod::Rfc4733),
                    ("info", DtmfMethod::Info),
                    ("inband", DtmfMethod::InBand),
                    ("auto", DtmfMethod::Auto),
                ],
            )?,
            dtmf_suppress: raw.dtmf_suppress.as_ref().is_some_and(|suppress| *suppress.get_ref()),
            sources: self.networks("sources", raw.sources.as_deref())?,
            media_sources: self.networks("media_sources", raw.media_sources.as_deref())?,
            headers: self.headers(raw.headers.as_ref())?,
            params: raw.params.unwrap_or(false),
            options: self.session_options(raw)?,
            udp_only: raw.udp_only.unwrap_or(false),
            refer: self.word("refer", raw.refer.as_ref(), &[("ask", Refer::Ask), ("never", Refer::Never)])?,
            refer_in: self.word(
                "refer_in",
                raw.refer_in.as_ref(),
                &[("follow", ReferIn::Follow), ("off", ReferIn::Off)],
            )?,
            redirects: self.word(
                "redirects",
                raw.redirects.as_ref(),
                &[("trunk", Redirects::Trunk), ("off", Redirects::Off)],
            )?,
            limits: TrunkLimits {
                calls: self.limit("calls", &raw.calls, 100_000)?,
                calls_per_second: self.limit("calls_per_second", &raw.calls_per_second, 1000)?,
            },
            options_every: (every > 0).then(|| Duration::from_secs(every as u64)),
            ..Trunk::new(name)
        };
        if let Some(at) = raw.dtmf_suppress.as_ref().filter(|_| trunk.dtmf_suppress)
            && !matches!(trunk.dtmf, DtmfMethod::InBand | DtmfMethod::Auto)
        {
            return Err(self.error(at, Problem::SuppressWithoutTones(name.into())));
        }
        Ok(TrunkConfig { profile: None, trunk, tls: self.tls_client(name, section, transport)? })
    }

    fn host_port(
        &self,
        key: &'static str,
        value: &Spanned<String>,
        transport: Option<Transport>,
    ) -> Result<TrunkDns, ConfigError> {
        let (host, port) = host_and_port(value.get_ref()).ok_or_else(|| {
            let example = "\"sip.carrier.example:5060\" or \"[2001:db8::1]:5060\"";
            self.error(value, Problem::Address { key, value: value.get_ref().clone(), example })
        })?;
        Ok(TrunkDns { host, port, transport })
    }

    /// `None`: what the DNS says, else UDP.
    fn transport(&self, raw: Option<&Spanned<String>>) -> Result<Option<Transport>, ConfigError> {
        let words = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];
        raw.map(|_| self.word("transport", raw, &words)).transpose()
    }

    /// One of some words; the first where nothing is said.
    fn word<T: Clone>(
        &self,
        key: &'static str,
        raw: Option<&Spanned<String>>,
        words: &[(&'static str, T)],
    ) -> Result<T, ConfigError> {
        let found = match raw {
            None => words.first(),
            Some(value) => words.iter().find(|(word, _)| word == value.get_ref()),
        };
        match (found, raw) {
            (Some((_, meaning)), _) => Ok(meaning.clone()),
            (None, Some(value)) => {
                let takes = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
                Err(self.error(value, Problem::Word { key, value: value.get_ref().clone(), takes: takes.into() }))
            }
            (None, None) => Err(super::whole_file(self.path, Problem::Toml(format!("`{key}` takes no word")))),
        }
    }

    fn session_options(&self, raw: &raw::Trunk) -> Result<SessionOptions, ConfigError> {
        let reliable = [("supported", Reliable::Supported), ("off", Reliable::Off), ("required", Reliable::Required)];
        let refreshers = [("any", None), ("us", Some(Refresher::Us)), ("them", Some(Refresher::Them))];
        let many = "90 to 86400 seconds (RFC 4028 section 4)";
        let min_se = self.number("min_se", &raw.min_se, 90, 90..=86_400, many)?;
        let expires =
            self.number("session_expires", &raw.session_expires, 0, min_se..=86_400, "min_se to 86400 seconds")?;
        let refresher = self.word("refresher", raw.refresher.as_ref(), &refreshers)?;
        let seconds = |value| u32::try_from(value).unwrap_or(u32::MAX);
        let timer = SessionTimer { expires: seconds(expires), min_se: seconds(min_se), refresher };
        Ok(SessionOptions {
            reliable: self.word("reliable", raw.reliable.as_ref(), &reliable)?,
            timer: raw.session_expires.is_some().then_some(timer),
            ..SessionOptions::default()
        })
    }

    fn limit(&self, key: &'static str, raw: &Option<Spanned<usize>>, most: usize) -> Result<Option<u32>, ConfigError> {
        let value = self.number(key, raw, 0, 1..=most, "1 or more, or is left out")?;
        Ok(u32::try_from(value).ok().filter(|limit| *limit > 0))
    }

    fn ptime(&self, raw: &Option<Spanned<usize>>) -> Result<u8, ConfigError> {
        let ptime = self.number("ptime", raw, 20, 10..=60, "10, 20, 30, 40 or 60")?;
        match (raw, ptime) {
            (_, 10 | 20 | 30 | 40 | 60) => Ok(u8::try_from(ptime).unwrap_or(20)),
            (Some(at), value) => {
                Err(self.error(at, Problem::Number { key: "ptime", value, takes: "10, 20, 30, 40 or 60" }))
            }
            (None, _) => Ok(20),
        }
    }

    pub(super) fn networks(
        &self,
        key: &'static str,
        raw: Option<&[Spanned<String>]>,
    ) -> Result<Vec<Network>, ConfigError> {
        let network = |value: &Spanned<String>| {
            let text = value.get_ref();
            let network = text.parse::<Network>();
            network.map_err(|reason| self.error(value, Problem::Network { key, value: text.clone(), reason }))
        };
        raw.into_iter().flatten().map(network).collect()
    }

    fn headers(&self, raw: Option<&BTreeMap<String, Spanned<String>>>) -> Result<Vec<(String, String)>, ConfigError> {
        let mut headers = Vec::new();
        for (name, value) in raw.into_iter().flatten() {
            let header = (name.clone(), value.get_ref().clone());
            let decided = DECIDED.iter().any(|decided| decided.eq_ignore_ascii_case(name));
            if decided || crate::sip::ua::check_headers(std::slice::from_ref(&header)).is_err() {
                let reason =
                    "its name or value has a character that a header field cannot have, or it is the gateway's own";
                return Err(self.error(value, Problem::Header { name: name.clone(), reason }));
            }
            headers.push(header);
        }
        Ok(headers)
    }

    fn register(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        credentials: Option<&Credentials>,
    ) -> Result<Option<Register>, ConfigError> {
        let raw = section.get_ref();
        if !raw.register.as_ref().is_some_and(|register| *register.get_ref()) {
            let useless = |key| Problem::NotRegistering { trunk: name.into(), key };
            return match (&raw.expires, &raw.contact_user) {
                (Some(at), _) => Err(self.error(at, useless("expires"))),
                (_, Some(at)) => Err(self.error(at, useless("contact_user"))),
                _ => Ok(None),
            };
        }
        let Some(credentials) = credentials else {
            return Err(self.error(section, Problem::RegisterWithoutUser(name.into())));
        };
        let user = credentials.username.clone();
        let contact_user = match &raw.contact_user {
            Some(v) => self.user("contact_user", v)?,
            None => user.clone(),
        };
        let expires = self.number("expires", &raw.expires, EXPIRES, 60..=86_400, "60 to 86400 seconds")?;
        Ok(Some(Register { user, contact_user, expires: u32::try_from(expires).unwrap_or(u32::MAX) }))
    }

    /// The user part of a URI.
    pub(super) fn user(&self, key: &'static str, value: &Spanned<String>) -> Result<String, ConfigError> {
        let text = value.get_ref();
        let good = |c: char| c.is_ascii_alphanumeric() || "+-_.!~*'()&=$,/#".contains(c);
        if !text.is_empty() && text.len() <= 128 && text.chars().all(good) {
            return Ok(text.clone());
        }
        let takes = "the user part of a SIP address";
        Err(self.error(value, Problem::Word { key, value: text.clone(), takes: takes.into() }))
    }

    fn identity(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        credentials: Option<&Credentials>,
    ) -> Result<Identity, ConfigError> {
        let raw = section.get_ref();
        let words = [
            ("from", None),
            ("pai", Some(Asserted::Pai)),
            ("ppi", Some(Asserted::Ppi)),
            ("rpid", Some(Asserted::Rpid)),
        ];
        let account = self.word("from", raw.from.as_ref(), &[("caller", false), ("account", true)])?;
        let from = match (account, credentials, &raw.from) {
            (false, ..) => FromUser::Caller,
            (true, Some(credentials), _) => FromUser::Account(credentials.username.clone()),
            (true, None, _) => return Err(self.error(section, Problem::HalfCredentials(name.into()))),
        };
        Ok(Identity {
            from,
            asserted: self.word("identity", raw.identity.as_ref(), &words)?,
            main_number: raw.main_number.as_ref().map(|v| self.user("main_number", v)).transpose()?,
            privacy: raw.privacy.unwrap_or(true),
            user_phone: raw.user_phone.unwrap_or(false),
            trust: raw.trust_identity.unwrap_or(false),
        })
    }

    /// There must be something to send from. A name may have addresses of either family; and a connection by TLS is opened
    /// without a listener as well.
    fn has_listener(
        &self,
        name: &str,
        section: &Spanned<raw::Trunk>,
        dns: &TrunkDns,
        sip: &Sip,
    ) -> Result<(), ConfigError> {
        let (listeners, word) = match dns.transport {
            None | Some(Transport::Udp) => (sip.udp.clone(), "udp"),
            Some(Transport::Tcp) => (sip.tcp.clone(), "tcp"),
            Some(_) => ([sip.tls.as_slice(), &sip.tcp, &sip.udp].concat(), "tls"),
        };
        let literal: Option<IpAddr> = dns.host.parse().ok();
        let any = dns.transport.is_none() && literal.is_none();
        if any || listeners.iter().any(|l| literal.is_none_or(|ip| ip.is_ipv4() == l.is_ipv4())) {
            return Ok(());
        }
        Err(self.error(section, Problem::NoListener { trunk: name.into(), transport: word }))
    }

    fn domain(&self, value: &Spanned<String>) -> Result<Host, ConfigError> {
        let text = value.get_ref();
        let takes = "a host name or address without a port".into();
        text.parse().map_err(|_| self.error(value, Problem::Word { key: "domain", value: text.clone(), takes }))
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

    pub(super) fn codecs(&self, raw: Option<&[Spanned<String>]>) -> Result<Vec<Codec>, ConfigError> {
        let Some(list) = raw else { return Ok(vec![Codec::Pcmu, Codec::Pcma]) };
        let codec = |v: &Spanned<String>| match v.get_ref().to_ascii_uppercase().as_str() {
            "OPUS" => Ok(Codec::Opus),
            "G722" => Ok(Codec::G722),
            "PCMU" => Ok(Codec::Pcmu),
            "PCMA" => Ok(Codec::Pcma),
            _ => {
                let value = v.get_ref().clone();
                let takes = "\"opus\", \"G722\", \"PCMU\" and \"PCMA\"".into();
                Err(self.error(v, Problem::Word { key: "codecs", value, takes }))
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
                        Err(self
                            .error(v, Problem::Word { key: "number_format", value: text.into(), takes: takes.into() }))
                    }
                }
            }
        }
    }
}

/// `host` or `host:port`; the host without brackets. `None` when it is neither a host nor an address.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() > 0).then(|| (address.ip().to_canonical().to_string(), Some(address.port())));
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some((ip.to_canonical().to_string(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse::<u16>().ok().filter(|p| *p > 0)?)),
        None => (text, None),
    };
    let host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.len() < 254 && host.chars().all(host_char)).then(|| (host.to_owned(), port))
}

/// A host as URIs write it.
fn uri_host(host: &str) -> Option<Host> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(Host::from(ip)),
        Err(_) => host.parse().ok(),
    }
}
