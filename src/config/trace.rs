//! `[trace]` and `[hep]`: what of calls' signalling is kept to be looked at, and who else is sent it.

use std::net::SocketAddr;

use toml::Spanned;

use super::{ConfigError, Problem, Reader, Secret, raw};

/// `[trace]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// How many calls' signalling is kept; 0: nothing is.
    pub calls: usize,
    /// The most messages of one call: of more the first half and the last ones stay.
    pub messages: usize,
    /// The most bytes of all of it.
    pub bytes: usize,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { calls: 1000, messages: 200, bytes: 32 * 1024 * 1024 }
    }
}

/// `[hep]`: a collector that is sent every SIP message of calls (HEP version 3, as Homer takes it).
#[derive(Debug, Clone)]
pub struct Hep {
    /// Where it listens, UDP.
    pub address: SocketAddr,
    /// What it knows us by.
    pub password: Option<Secret>,
    /// Our number among those who send to it.
    pub capture_id: u32,
}

impl Reader<'_> {
    pub(super) fn trace(&self, raw: &raw::Trace) -> Result<Trace, ConfigError> {
        let default = Trace::default();
        let mib = 1024 * 1024;
        Ok(Trace {
            calls: self.number("calls", &raw.calls, default.calls, 0..=100_000, "0 to 100000")?,
            messages: self.number("messages", &raw.messages, default.messages, 10..=10_000, "10 to 10000")?,
            bytes: mib * self.number("memory_mb", &raw.memory_mb, default.bytes / mib, 1..=4096, "1 to 4096")?,
        })
    }

    pub(super) fn hep(&self, section: &Spanned<raw::Hep>, trace: Trace) -> Result<Hep, ConfigError> {
        if trace.calls == 0 {
            return Err(self.error(section, Problem::HepWithoutTrace));
        }
        let raw = section.get_ref();
        let address = self.address("address", "10.0.0.9:9060", &raw.address)?;
        let password = match (&raw.password, &raw.password_file) {
            (Some(_), Some(_)) => return Err(self.error(section, Problem::HepPasswordChoice)),
            (Some(password), None) => Some(password.get_ref().clone()),
            (None, Some(file)) => Some(self.secret_file(file)?),
            (None, None) => None,
        };
        let password = password.map(|password| Secret::of(password.as_bytes()));
        let many = "1 to 2147483647";
        let capture_id = self.number("capture_id", &raw.capture_id, 2001, 1..=0x7fff_ffff, many)?;
        Ok(Hep { address, password, capture_id: u32::try_from(capture_id).unwrap_or(u32::MAX) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::config::Config;
    use crate::config::tests::with_sections;

    fn load(sections: &str) -> Result<Config, String> {
        with_sections(&[("password", "hep-s3cret\n")], sections)
    }

    fn wrong(sections: &str) -> String {
        load(sections).unwrap_err()
    }

    #[test]
    fn what_is_kept_has_bounds_and_a_collector_a_password_that_is_not_shown() {
        let config = load("").unwrap();
        assert_eq!((config.trace, config.hep.is_none(), config.log.numbers), (Trace::default(), true, false));
        let hep = "[hep]\naddress = \"10.0.0.9:9060\"\n";
        let config = load(&format!("[trace]\ncalls = 5\nmemory_mb = 2\n{hep}password_file = \"password\"\n")).unwrap();
        assert_eq!(config.trace, Trace { calls: 5, messages: 200, bytes: 2 * 1024 * 1024 });
        assert!(!format!("{config:?}").contains("hep-s3cret"));
        let found = config.hep.unwrap();
        assert_eq!((found.password.unwrap().reveal(), found.capture_id), (&b"hep-s3cret"[..], 2001));
        assert!(wrong("[trace]\nmessages = 5\n").contains("ringback.toml:6:12: `messages`: 5 is out of range"));
        assert!(wrong(&format!("[trace]\ncalls = 0\n{hep}")).contains("[trace] calls must not be 0"));
        assert!(wrong("[hep]\naddress = \"homer\"\n").contains("10.0.0.9:9060"));
        let two = format!("{hep}password = \"a\"\npassword_file = \"password\"\n");
        assert!(wrong(&two).contains("password or password_file"), "{}", wrong(&two));
        assert!(wrong("[log]\nnumbers = \"some\"\n").contains("\"masked\" or \"plain\""));
    }
}
