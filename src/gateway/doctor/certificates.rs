//! The certificates that we show: how long they last, whom they are signed by, whether they are for our names. That each
//! has its key is seen when the configuration is read.

use std::time::{Duration, SystemTime};

use super::{Finding, Verdict};
use crate::config::Config;
use crate::gateway::listeners::EXPIRES_SOON;
use crate::net::tls::{Identity, Standing};
use crate::sip::Host;

const DAY: u64 = 24 * 3600;

pub(super) fn examine(config: &Config, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(server) = &config.http.tls {
        let key = "[http] tls_certificate";
        findings.push(lasts(key, server.identity(), now));
        findings.push(signed(key, "browsers", server.identity(), now));
    }
    if let Some(server) = &config.sip.tls_server {
        let key = "[sip] tls_certificate";
        findings.push(lasts(key, server.identity(), now));
        findings.push(signed(key, "peers", server.identity(), now));
        findings.extend(named(key, server.identity(), &config.sip.advertise));
    }
    for trunk in &config.trunks {
        let shown = trunk.tls.as_ref().and_then(|tls| tls.identity());
        findings.extend(shown.map(|shown| lasts(&format!("trunk {} tls_certificate", trunk.trunk.name), shown, now)));
    }
    findings
}

/// How long it is good.
fn lasts(key: &str, shown: &Identity, now: SystemTime) -> Finding {
    let subject = format!("{key} {}", shown.file().display());
    let remedy = "have it renewed; the new file is taken without a restart";
    match shown.expires().duration_since(now) {
        Err(ago) => {
            let days = ago.duration().as_secs() / DAY;
            Finding::fail(subject, format!("has expired {days} days ago: peers refuse it"), remedy)
        }
        Ok(left) if left < EXPIRES_SOON => Finding::warn(subject, format!("expires in {}", days(left)), remedy),
        Ok(left) => Finding::ok(subject, format!("good for {} more, its key matches", days(left))),
    }
}

fn days(time: Duration) -> String {
    format!("{} days", time.as_secs() / DAY)
}

/// Whether those who come will believe it.
fn signed(key: &str, who: &str, shown: &Identity, now: SystemTime) -> Finding {
    let names = shown.names();
    let subject = format!("{key} for {}", if names.is_empty() { "no host name".to_owned() } else { names.join(", ") });
    match shown.standing(now) {
        Standing::Trusted => Finding::ok(subject, "signed by an authority that this system trusts"),
        Standing::NoRoots => Finding::untested(subject, "this system has no root certificates to judge it by"),
        Standing::Unknown => {
            let text = format!("{who} believe it only where they were given its authority");
            let remedy =
                "is the chain whole? The file has the own certificate first, then those between it and the root";
            Finding::warn(subject, text, remedy)
        }
        Standing::Bad(why) => Finding::fail(subject, format!("{who} refuse it: {why}"), "have another one made"),
    }
}

/// The name by which peers know us must be in it ([RFC 5922](https://www.rfc-editor.org/rfc/rfc5922#section-7.2)).
fn named(key: &str, shown: &Identity, advertise: &[Host]) -> Option<Finding> {
    let name = advertise.iter().find_map(|host| match host {
        Host::Name(name) => Some(name.as_str()),
        Host::V4(_) | Host::V6(_) => None,
    })?;
    let subject = format!("{key} and [sip] advertise {name}");
    let remedy = "peers that verify us refuse it: have one made with this name";
    Some(match shown.is_for(name) {
        true => Finding::new(subject, Verdict::Ok, "is for this name"),
        false => Finding::fail(subject, "is not for this name", remedy),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// A certificate for a name, signed by itself, good until the end of a year.
    fn identity(name: &str, until: i32) -> (tempfile::TempDir, Identity) {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let (chain, secret) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&secret, key.serialize_pem()).unwrap();
        let read = Identity::read(&chain, &secret).unwrap();
        (folder, read)
    }

    #[test]
    fn dates_issuer_and_name_are_judged() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000); // January 2027
        let (_good, good) = identity("sbc.example", 2040);
        let (_old, old) = identity("sbc.example", 2020);
        assert_eq!(lasts("[sip]", &good, now).verdict, Verdict::Ok);
        assert_eq!(lasts("[sip]", &old, now).verdict, Verdict::Fail);
        let soon = good.expires() - Duration::from_secs(3 * DAY);
        assert_eq!(lasts("[sip]", &good, soon).verdict, Verdict::Warn);
        assert_eq!(good.names(), ["sbc.example"]);
        assert!(matches!(good.standing(now), Standing::Unknown | Standing::NoRoots | Standing::Bad(_)));
        let host = |text: &str| text.parse::<Host>().unwrap();
        assert_eq!(named("[sip]", &good, &[host("sbc.example")]).unwrap().verdict, Verdict::Ok);
        assert_eq!(named("[sip]", &good, &[host("other.example")]).unwrap().verdict, Verdict::Fail);
        assert_eq!(named("[sip]", &good, &[host("192.0.2.1")]), None);
    }
}
