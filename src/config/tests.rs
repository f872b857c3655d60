#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::codec::Codec;
use crate::sip::{Transport, TrunkDns};
use crate::switch::{Asserted, FromUser, NumberFormat, Quota, Redirects, Refer, ReferIn, TrunkLimits};

const PLAN: &str = include_str!("../../dialplans/demo.toml");
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A folder with `ringback.toml` and the demo plan.
fn folder(toml: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("dialplans")).unwrap();
    fs::write(dir.path().join("dialplans/demo.toml"), PLAN).unwrap();
    let file = dir.path().join("ringback.toml");
    fs::write(&file, toml).unwrap();
    (dir, file)
}

fn load(toml: &str) -> Result<Config, String> {
    let (dir, file) = folder(toml);
    Config::load(&file).map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

/// A small configuration with these sections at its end, from a folder that also has these files.
pub(super) fn with_sections(files: &[(&str, &str)], sections: &str) -> Result<Config, String> {
    let (dir, file) =
        folder(&format!("[auth]\nopen = true\n[trunk.testphone]\naddress = \"127.0.0.1:5070\"\n{sections}"));
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    Config::load(&file).map_err(|error| error.to_string())
}

/// What a whole file needs besides the line under test.
fn whole(extra: &str) -> String {
    format!("{extra}\n[auth]\nhs256_secret = \"{SECRET}\"\n[trunk.testphone]\naddress = \"127.0.0.1:5070\"\n")
}

#[test]
fn the_embedded_default_is_on_loopback_only_and_has_the_test_phone() {
    let config = Config::embedded().unwrap();
    assert!(config.http.listen.ip().is_loopback());
    assert!(config.media.browser.ip().is_loopback() && config.media.rtp_address.is_loopback());
    assert!(config.sip.udp.iter().all(|a| a.ip().is_loopback()));
    assert!(config.test_phone && matches!(config.auth, Auth::Open));
}

#[test]
fn a_whole_file_is_taken() {
    let toml = format!(
        r#"
[http]
listen = "0.0.0.0:8443"
origins = ["https://Shop.example/"]
[sip]
udp = ["192.0.2.1:5060", "[2001:db8::1]:5060"]
tcp = ["192.0.2.1:5060"]
advertise = "203.0.113.5"
[media]
browser = "0.0.0.0:40000"
rtp_ports = "21001-21010"
advertise = ["203.0.113.5"]
workers = 2
[auth]
hs256_secret = "{SECRET}"
[cdr]
file = "cdr.jsonl"
[log]
format = "json"
[limits]
calls = 10
[shutdown]
grace_seconds = 30
[trunk.testphone]
address = "sip.carrier.example"
transport = "tcp"
user = "u"
password = "p"
codecs = ["Opus", "g722", "pcma"]
ptime = 30
srtp = "optional"
number_format = "national:44:0"
dtmf = "info"
sources = ["198.51.100.1", "203.0.113.0/24"]
media_sources = ["2001:db8::/32"]
domain = "carrier.example"
outbound_proxy = "proxy.carrier.example:5080"
identity = "pai"
from = "account"
main_number = "+442079460000"
trust_identity = true
headers = {{ "X-Tenant" = "acme" }}
refer = "never"
refer_in = "off"
redirects = "off"
calls = 30
calls_per_second = 5
options = 30
register = true
expires = 600
contact_user = "gateway"
"#
    );
    let config = load(&toml).unwrap();
    assert_eq!(config.http.origins.as_deref(), Some(["https://shop.example".to_owned()].as_slice()));
    assert_eq!(config.media.rtp_ports, 21001..=21010);
    assert_eq!(config.limits.calls, 10);
    assert_eq!(config.limits.sockets, Limits::default().sockets);
    let trunk = &config.trunks[0];
    let trunk = &trunk.trunk;
    let dns = TrunkDns { host: "proxy.carrier.example".into(), port: Some(5080), transport: Some(Transport::Tcp) };
    assert_eq!(trunk.dns, Some(dns));
    assert_eq!(trunk.domain.as_ref().unwrap().to_string(), "carrier.example");
    assert_eq!((trunk.ptime, trunk.options_every), (30, Some(Duration::from_secs(30))));
    assert!(trunk.sources[1].contains("203.0.113.77".parse().unwrap()));
    assert_eq!(trunk.limits, TrunkLimits { calls: Some(30), calls_per_second: Some(5) });
    let register = trunk.register.as_ref().unwrap();
    assert_eq!((register.user.as_str(), register.contact_user.as_str(), register.expires), ("u", "gateway", 600));
    assert_eq!(trunk.identity.from, FromUser::Account("u".into()));
    assert!(trunk.identity.asserted == Some(Asserted::Pai) && trunk.identity.trust && trunk.identity.privacy);
    assert_eq!((trunk.refer, trunk.refer_in, trunk.redirects), (Refer::Never, ReferIn::Off, Redirects::Off));
    assert_eq!(trunk.codecs, [Codec::Opus, Codec::G722, Codec::Pcma]);
    assert_eq!(trunk.srtp, crate::sdp::SrtpPolicy::Optional);
    assert_eq!(trunk.credentials.as_ref().unwrap().username, "u");
    assert!(
        matches!(config.cdr.lines, Some(CdrLines::File(_)))
            && config.cdr.sqlite.is_none()
            && config.log.json
            && !config.test_phone
    );
    assert_eq!(config.grace, Duration::from_secs(30));
}

#[test]
fn every_mistake_is_told_with_its_line_and_what_to_do() {
    let table: &[(&str, &str)] = &[
        ("[http]\nlisten = \"8080\"", "ringback.toml:2:10: `listen`: \"8080\" is not an address and port"),
        ("[http]\norigins = [\"shop.example\"]", "ringback.toml:2:12: `origins`: \"shop.example\" is not known"),
        ("[sip]\nudp = [\"host:5060\"]", "ringback.toml:2:8: `udp`"),
        ("[media]\nrtp_ports = \"9-8\"", "ringback.toml:2:13: `rtp_ports`: \"9-8\" is not a range"),
        ("[media]\nrtp_ports = \"20001-20002\"", "ringback.toml:2:13: `rtp_ports`"),
        ("[media]\ncpus = [0, 1024]", "ringback.toml:2:12: `cpus`: 1024 is out of range"),
        ("[trunk.x]\naddress = \"h\"\npass = \"fast\"", "ringback.toml:3:8: `pass`"),
        ("[media]\nworkers = 0", "ringback.toml:2:11: `workers`: 0 is out of range"),
        ("[media]\nhold_music = \"nowhere.wav\"", "nowhere.wav: cannot be read: No such file"),
        (
            "[media]\nhold_music = \"ringback.toml\"",
            "ringback.toml:2:14: `hold_music`: \"ringback.toml\" cannot be played: it is no WAV file",
        ),
        (
            "[trunk.x]\naddress = \"h\"\nsrtp = \"yes\"",
            "ringback.toml:3:8: `srtp`: \"yes\" is not known; it takes \"off\" or \"optional\" or \"required\"",
        ),
        ("[media]\nadvertise = [\"gw.example\"]", "ringback.toml:2:14: `advertise`"),
        (
            "[log]\nformat = \"xml\"",
            "ringback.toml:2:10: `format`: \"xml\" is not known; it takes \"text\" or \"json\"",
        ),
        ("[htp]\nlisten = 1", "ringback.toml:1:2: unknown field `htp`"),
        ("[http]\nlisten = ", "ringback.toml:2:10: "),
        ("[dialplan]\ndir = \"nowhere\"", "nowhere: cannot be read: No such file"),
        ("[trunk.x]\naddress = \"a b\"", "ringback.toml:2:11: `address`: \"a b\" is not an address"),
        ("[trunk.x]\naddress = \"h\"\ntransport = \"ws\"", "ringback.toml:3:13: `transport`: \"ws\" is not known"),
        ("[sip]\ntls = [\"0.0.0.0:5061\"]", "ringback.toml:2:8: [sip] tls, tls_certificate and tls_key go together"),
        ("[sip]\ntls_key = \"k\"", "ringback.toml:2:11: [sip] tls, tls_certificate and tls_key go together"),
        (
            "[sip]\ntls = [\"0.0.0.0:5061\"]\ntls_certificate = \"nowhere\"\ntls_key = \"k\"",
            "ringback.toml:3:19: nowhere cannot be read: No such file",
        ),
        ("[sip]\nadvertise = \"gateway\"", "ringback.toml:2:13: `advertise`: \"gateway\" is not known"),
        ("[sip]\nadvertise = [\"192.0.2.1\", \"192.0.2.2\"]", "ringback.toml:2:13: `advertise`: \"192.0.2.2\""),
        ("[sip]\ndns = [\"192.0.2.1\"]", "ringback.toml:2:8: `dns`: \"192.0.2.1\" is not an address and port"),
        (
            "[trunk.x]\naddress = \"h\"\ntransport = \"tls\"\ntls_ca = \"nowhere\"",
            "ringback.toml:4:10: nowhere cannot be read",
        ),
        (
            "[trunk.x]\naddress = \"h\"\ntransport = \"tls\"\ntls_ca = \"ringback.toml\"",
            "ringback.toml:4:10: ringback.toml has no certificate in it",
        ),
        (
            "[trunk.x]\naddress = \"h\"\ntransport = \"udp\"\ntls_name = \"a\"",
            "ringback.toml:4:12: trunk \"x\": this is of",
        ),
        (
            "[trunk.x]\naddress = \"h\"\ntransport = \"tls\"\ntls_verify = false\ntls_certificate = \"c\"",
            "ringback.toml:5:19: trunk \"x\": `tls_certificate` and `tls_key` go together",
        ),
        (
            "[trunk.x]\naddress = \"h\"\ntransport = \"tls\"\ntls_verify = false\ntls_name = \"a b\"",
            "ringback.toml:5:12: \"a b\" is not a host name or address",
        ),
        ("[trunk.x]\naddress = \"h\"\nuser = \"u\"", "trunk \"x\": `user` and `password`"),
        ("[trunk.x]\naddress = \"h\"\ncodecs = [\"G729\"]", "ringback.toml:3:11: `codecs`: \"G729\" is not known"),
        ("[trunk.x]\naddress = \"h\"\nnumber_format = \"national\"", "ringback.toml:3:17: `number_format`"),
        (
            "[trunk.x]\naddress = \"[2001:db8::1]:5060\"",
            "trunk \"x\" is reached over udp, but [sip] udp has no listener",
        ),
        (
            "[sip]\nudp = [\"[::]:5060\", \"0.0.0.0:5060\"]\n[trunk.x]\naddress = \"[2001:db8::1]:5060\"",
            "ringback.toml:3:1: trunk \"x\" and [media] rtp_address = \"0.0.0.0\" are not of one address family",
        ),
        ("[trunk.\"x y\"]\naddress = \"h\"", "trunk name \"x y\""),
        ("[trunk.x]\naddress = \"h\"\nptime = 25", "ringback.toml:3:9: `ptime`: 25 is out of range"),
        ("[trunk.x]\naddress = \"h\"\nsources = [\"10.0.0.1/8\"]", "ringback.toml:3:12: `sources`: \"10.0.0.1/8\""),
        ("[trunk.x]\naddress = \"h\"\nmedia_sources = [\"10.0.0.0/33\"]", "ringback.toml:3:18: `media_sources`"),
        (
            "[trunk.x]\naddress = \"h\"\nidentity = \"p\"",
            "ringback.toml:3:12: `identity`: \"p\" is not known; it takes",
        ),
        ("[trunk.x]\naddress = \"h\"\nfrom = \"account\"", "trunk \"x\": `user` and `password`"),
        ("[trunk.x]\naddress = \"h\"\nmain_number = \"a b\"", "ringback.toml:3:15: `main_number`"),
        (
            "[trunk.x]\naddress = \"h\"\nheaders = { Via = \"x\" }",
            "ringback.toml:3:19: `headers`: \"Via\" cannot be set",
        ),
        ("[trunk.x]\naddress = \"h\"\nheaders = { X = \"a\\r\\nY: b\" }", "`headers`: \"X\" cannot be set"),
        ("[trunk.x]\naddress = \"h\"\nheaders = { privacy = \"id\" }", "`headers`: \"privacy\" cannot be set"),
        ("[trunk.x]\naddress = \"h\"\nregister = true", "trunk \"x\": `register = true` needs `user`"),
        (
            "[trunk.x]\naddress = \"h\"\ndtmf = \"tones\"",
            "ringback.toml:3:8: `dtmf`: \"tones\" is not known; it takes \"rfc4733\" or \"info\" or \"inband\" or \"auto\"",
        ),
        (
            "[trunk.x]\naddress = \"h\"\ndtmf_suppress = true",
            "ringback.toml:3:17: trunk \"x\": `dtmf_suppress = true` is of use only with",
        ),
        ("[trunk.x]\naddress = \"h\"\nexpires = 600", "ringback.toml:3:11: trunk \"x\": `expires` is of use only with"),
        ("[trunk.x]\naddress = \"h\"\ncalls = 0", "ringback.toml:3:9: `calls`: 0 is out of range"),
        ("[trunk.x]\naddress = \"h\"\noptions = 4000", "ringback.toml:3:11: `options`: 4000 is out of range"),
        ("[trunk.x]\naddress = \"h\"\nrefer = \"maybe\"", "ringback.toml:3:9: `refer`: \"maybe\" is not known"),
    ];
    for (toml, expected) in table {
        let error = load(&whole(toml)).err().unwrap_or_else(|| panic!("taken: {toml}"));
        assert!(error.contains(expected), "{toml}\n   said: {error}\n wanted: {expected}");
    }
}

/// Certificates are read and compared with their keys before anything is bound.
#[test]
fn certificates_are_checked_with_the_file() {
    let (dir, file) = folder("");
    let certified = rcgen::generate_simple_self_signed(vec!["gw.example".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
    write("chain.pem", certified.cert.pem());
    write("key.pem", certified.signing_key.serialize_pem());
    write("other.pem", other.serialize_pem());
    let load = |key: &str| {
        let sip = format!("[sip]\ntls = [\"[::]:5061\"]\ntls_certificate = \"chain.pem\"\ntls_key = \"{key}\"");
        let trunk = format!("tls_ca = \"chain.pem\"\ntls_certificate = \"chain.pem\"\ntls_key = \"{key}\"");
        let trunk = format!("[trunk.x]\naddress = \"pbx.example\"\ntransport = \"tls\"\n{trunk}");
        fs::write(&file, whole(&format!("{sip}\ntls_client_ca = \"chain.pem\"\n{trunk}"))).unwrap();
        Config::load(&file).map_err(|error| error.to_string())
    };
    let config = load("key.pem").unwrap();
    assert!(config.sip.tls_server.as_ref().unwrap().authenticates());
    let tls = config.trunks.iter().find(|trunk| trunk.trunk.name == "x").unwrap().tls.as_ref().unwrap();
    assert!(tls.verifies() && tls.identity().is_some());
    let shown = format!("{config:?}");
    assert!(!shown.contains("PRIVATE") && !shown.contains("SecretKey"), "{shown}");
    let error = load("other.pem").unwrap_err();
    assert!(error.contains("ringback.toml:4:11: the key in ") && error.contains("other.pem is not that of"), "{error}");
    let error = load("chain.pem").unwrap_err();
    assert!(error.contains("ringback.toml:4:11: ") && error.contains("chain.pem has no private key"), "{error}");
}

#[test]
fn authentication_is_stated_exactly_once_and_open_stays_on_loopback() {
    let trunk = "[trunk.testphone]\naddress = \"127.0.0.1:5070\"\n";
    let table = [
        (String::new(), "there is no [auth] section"),
        ("[auth]\nhs256_secret = \"short\"\n".into(), "the HS256 secret has 5 bytes"),
        (format!("[auth]\nopen = true\nhs256_secret = \"{SECRET}\"\n"), "takes exactly one of"),
        ("[auth]\nopen = false\n".into(), "takes exactly one of"),
        ("[http]\nlisten = \"0.0.0.0:80\"\n[auth]\nopen = true\n".into(), "only while [http] listen is a loopback"),
        ("[auth]\nhs256_secret_file = \"nowhere\"\n".into(), "nowhere: cannot be read"),
        ("[auth]\neddsa_public_key_file = \"ringback.toml\"\n".into(), "`eddsa_public_key_file`"),
    ];
    for (auth, expected) in table {
        let error = load(&format!("{auth}{trunk}")).err().unwrap_or_else(|| panic!("taken: {auth}"));
        assert!(error.contains(expected), "{auth}\n   said: {error}\n wanted: {expected}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_the_line_that_names_it() {
    for toml in [
        "[auth]\nhs256_secret_file = \"nowhere\"\n".to_owned(),
        whole("[trunk.x]\naddress = \"h\"\nuser = \"u\"\npassword_file = \"nowhere\""),
        whole("[media]\nhold_music = \"nowhere\""),
        whole("[registrar]\nrealm = \"r\"\nusers_file = \"nowhere\""),
    ] {
        let at = toml.lines().position(|l| l.contains("nowhere")).unwrap() + 1;
        let error = load(&toml).unwrap_err();
        assert!(
            error.contains(&format!("ringback.toml:{at}:")) && error.contains("nowhere: cannot be read"),
            "{error}"
        );
    }
}

#[test]
fn a_plan_that_names_an_unknown_trunk_is_refused_with_its_line() {
    let error = load(&format!("[auth]\nhs256_secret = \"{SECRET}\"\n")).unwrap_err();
    assert!(error.contains("dialplans/demo.toml:") && error.contains("testphone"), "{error}");
}

#[test]
fn secrets_are_not_in_the_debug_text() {
    let toml = whole("[trunk.x]\naddress = \"h\"\nuser = \"u\"\npassword = \"canary-password\"");
    let text = format!("{:?}", load(&toml).unwrap());
    assert!(!text.contains("canary-password") && !text.contains(SECRET), "{text}");
}

#[test]
fn a_registrar_has_a_realm_and_users_with_good_passwords() {
    let with = |extra: &str| whole(&format!("[registrar]\nrealm = \"phones.example\"\n{extra}"));
    let config = load(&with(
        "max_bindings = 2\ncalls_per_user = 3\n[registrar.users]\n\
         alice = { password = \"canary-password\", class = \"staff\", caller_id = \"+442079460100\" }\n\
         bob = { ha1 = \"0123456789ABCDEF0123456789abcdef\" }\n",
    ))
    .unwrap();
    let phones = config.phones.as_ref().unwrap();
    assert_eq!((phones.registrar.max_bindings, phones.calls_per_user), (2, 3));
    assert_eq!(phones.registrar.users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(phones.rights["alice"].class.as_deref(), Some("staff"));
    assert!(!format!("{config:?}").contains("canary-password"));
    assert!(load(&whole("")).unwrap().phones.is_none(), "off by default");
    for (extra, expected) in [
        ("", "[registrar] has no users"),
        ("[registrar.users]\nalice = {}", "registrar user \"alice\" takes exactly one of password"),
        (
            "[registrar.users]\nalice = { password = \"1234\" }",
            "ringback.toml:4:9: registrar user \"alice\": a password has",
        ),
        ("[registrar.users]\n\"a b\" = { password = \"12345678\" }", "`users`: \"a b\" is not known"),
        ("[registrar.users]\nalice = { ha1 = \"xyz\" }", "`ha1`: \"...\" is not known; it takes 32 hexadecimal"),
        ("users_file = \"nowhere\"", "nowhere: cannot be read"),
        ("min_expires = 5\n[registrar.users]\nalice = { password = \"12345678\" }", "`min_expires`: 5 is out of range"),
    ] {
        let error = load(&with(extra)).err().unwrap_or_else(|| panic!("taken: {extra}"));
        assert!(error.contains(expected), "{extra}\n   said: {error}\n wanted: {expected}");
    }
    let error = load(&whole("[registrar]\nrealm = \"a\\\"b\"\n")).unwrap_err();
    assert!(error.contains("ringback.toml:2:9: `realm`"), "{error}");
}

#[test]
fn the_users_of_phones_may_stand_in_a_file_of_their_own() {
    let (dir, file) = folder(&whole("[registrar]\nrealm = \"phones.example\"\nusers_file = \"phones.toml\""));
    fs::write(dir.path().join("phones.toml"), "[alice]\npassword_file = \"alice\"\n").unwrap();
    fs::write(dir.path().join("alice"), "12345678\n").unwrap();
    assert!(Config::load(&file).unwrap().phones.unwrap().registrar.users.contains_key("alice"));
    fs::write(dir.path().join("phones.toml"), "[alice]\npasword = \"12345678\"\n").unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    assert!(error.contains("phones.toml:2:1: unknown field `pasword`"), "{error}");
}

/// Every profile that comes with the gateway makes a good trunk, with no more than an address, a user and a password.
#[test]
fn every_profile_makes_a_trunk() {
    let notes = profile::notes().unwrap();
    assert_eq!(notes.len(), profile::EMBEDDED.len());
    for note in notes {
        let name = &note.name;
        let toml = format!(
            "[sip]\nudp = [\"0.0.0.0:5060\"]\ntcp = [\"0.0.0.0:5060\"]\n[trunk.x]\nprofile = \"{name}\"\n\
             address = \"peer.example\"\nuser = \"u\"\npassword = \"p\"\n"
        );
        let config = load(&whole(&toml)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let trunk = config.trunks.iter().find(|trunk| trunk.trunk.name == "x").unwrap();
        assert_eq!(trunk.profile.as_ref(), Some(&note));
        assert!(!note.title.is_empty() && !note.source.is_empty(), "{name}");
        // What was verified is only what this repository's tests can show.
        let shown = ["generic", "asterisk"].contains(&name.as_str());
        assert_eq!(!note.verified.is_empty(), shown, "{name}");
    }
}

#[test]
fn a_trunk_takes_its_profiles_values_where_it_says_nothing_itself() {
    let toml = "[trunk.x]\nprofile = \"vonage\"\nuser = \"key\"\npassword = \"secret\"\ncodecs = [\"PCMU\"]\n";
    let config = load(&whole(toml)).unwrap();
    let trunk = &config.trunks.iter().find(|trunk| trunk.trunk.name == "x").unwrap().trunk;
    assert_eq!(trunk.codecs, [Codec::Pcmu], "its own word goes first");
    assert_eq!(trunk.number_format, NumberFormat::Plain);
    assert_eq!(trunk.refer_in, ReferIn::Off);
}

#[test]
fn a_profile_of_ones_own_goes_before_and_its_mistakes_are_told_with_their_place() {
    let (dir, file) = folder(&whole("[trunk.x]\nprofile = \"vonage\"\n"));
    let folder = dir.path().join("profiles");
    fs::create_dir(&folder).unwrap();
    let profile = |keys: &str| {
        let text = format!("title = \"t\"\nverified = \"\"\nsource = [\"s\"]\nneeds = []\n[trunk]\n{keys}\n");
        fs::write(folder.join("vonage.toml"), text).unwrap();
        Config::load(&file).map_err(|e| e.to_string().replace(&format!("{}/", dir.path().display()), ""))
    };
    let config = profile("address = \"192.0.2.77\"\nptime = 30").unwrap();
    assert_eq!(config.trunks.iter().find(|trunk| trunk.trunk.name == "x").unwrap().trunk.ptime, 30);
    let error = profile("address = \"192.0.2.77\"\nptime = 25").unwrap_err();
    assert!(error.contains("profiles/vonage.toml:7:9: `ptime`: 25"), "{error}");
    let error = profile("adress = \"192.0.2.77\"").unwrap_err();
    assert!(error.contains("profiles/vonage.toml:6:1: unknown field `adress`"), "{error}");
    let error = profile("").unwrap_err();
    assert!(error.contains("ringback.toml:1:1: trunk \"x\" has no `address`, nor has its profile"), "{error}");
    let error = load(&whole("[trunk.x]\naddress = \"h\"\nprofile = \"acme\"\n")).unwrap_err();
    assert!(error.contains("ringback.toml:3:11: `profile`: \"acme\" is not known; it takes a file in "), "{error}");
}

/// The table in docs/sip-interop.md is what the profiles say of themselves.
#[test]
fn the_profiles_stand_in_the_documentation() {
    let docs = include_str!("../../docs/sip-interop.md");
    for note in profile::notes().unwrap() {
        let verified = if note.verified.is_empty() { "from documentation only" } else { &note.verified };
        let row = format!("| `{}` | {} | {verified} |", note.name, note.title);
        assert!(docs.contains(&row), "docs/sip-interop.md lacks:\n{row}");
    }
}

#[test]
fn turn_servers_are_named_with_one_secret() {
    let turn = |keys: &str| load(&whole("").replace("[auth]", &format!("[turn]\n{keys}\n[auth]")));
    let good = "urls = [\"turn:turn.example:3478?transport=udp\", \"stun:turn.example\"]\n";
    let config = turn(&format!("{good}secret = \"sixteen bytes ..\"\nttl = 600")).unwrap();
    let servers = config.turn.unwrap().ice_servers("alice", 1_000);
    assert_eq!(servers.iter().filter_map(|server| server.username.as_deref()).collect::<Vec<_>>(), ["1600:alice"]);
    assert!(load(&whole("")).unwrap().turn.is_none());
    for (keys, wrong) in [
        (good.to_owned(), "exactly one of secret and secret_file"),
        (format!("{good}secret = \"x\"\nsecret_file = \"y\""), "exactly one of secret and secret_file"),
        (format!("{good}secret = \"short\""), "the TURN secret has 5 bytes"),
        ("urls = []\nsecret = \"sixteen bytes ..\"".into(), "[turn] names no server"),
        ("urls = [\"turn.example\"]\nsecret = \"sixteen bytes ..\"".into(), "`urls`: \"turn.example\""),
        (format!("{good}secret = \"sixteen bytes ..\"\nttl = 5"), "`ttl`: 5 is out of range"),
    ] {
        let error = turn(&keys).unwrap_err();
        assert!(error.contains(wrong) && error.starts_with("ringback.toml:"), "{error}");
    }
}

#[test]
fn https_takes_a_certificate_and_its_key() {
    for half in ["tls_certificate = \"a.pem\"", "tls_key = \"a.key\""] {
        let error = load(&whole(&format!("[http]\n{half}"))).unwrap_err();
        assert!(error.contains("[http] tls_certificate and tls_key go together"), "{error}");
    }
    let error = load(&whole("[http]\ntls_certificate = \"a.pem\"\ntls_key = \"a.key\"")).unwrap_err();
    assert!(error.contains("a.pem"), "{error}");
}

#[test]
fn limits_against_fraud_are_read_by_whom_they_hold_for() {
    let sections = "[limits.user]\ncalls = 2\nlongest_call = 3600\n[limits.token]\nminutes_per_day = 5\n\
        [limits.gateway]\ncalls_per_minute = 100\n[limits.trunk.testphone]\nnew_countries_per_day = 3\n\
        [store]\npath = \"store.db\"\n";
    let config = load(&whole(sections)).unwrap();
    let none = Quota::default();
    let trunk = Quota { new_countries_per_day: Some(3), ..none };
    let wanted = Quotas {
        gateway: Quota { calls_per_minute: Some(100), ..none },
        user: Quota { calls: Some(2), longest_call: Some(Duration::from_secs(3600)), ..none },
        token: Quota { minutes_per_day: Some(5), ..none },
        classes: [].into(),
        trunks: [("testphone".to_owned(), trunk)].into(),
    };
    assert_eq!(config.quotas, wanted);
    assert!(config.store.is_some_and(|path| path.ends_with("store.db")));
}

#[test]
fn call_records_go_to_each_place_that_is_named() {
    let config = load(&whole("[cdr]\nsqlite = \"a.sqlite\"\nfile = \"-\"\nkeep_days = 2\nqueue = 500")).unwrap().cdr;
    assert!(config.sqlite.unwrap().ends_with("a.sqlite") && config.postgres.is_none());
    assert_eq!((config.lines, config.queue), (Some(CdrLines::Stdout), 500));
    assert_eq!(config.keep, Some(Duration::from_secs(2 * 24 * 3600)));
    let config = load(&whole("[cdr]\nsqlite = \"a.sqlite\"")).unwrap().cdr;
    assert_eq!(config.lines, None);
    let config = load(&whole("")).unwrap().cdr;
    assert!(config.lines == Some(CdrLines::Stdout) && config.sqlite.is_none());
}

#[test]
fn a_database_on_another_machine_is_reached_by_tls_alone_and_its_password_is_shown_nowhere() {
    use tokio_postgres::config::SslMode;
    let postgres = |url: &str| load(&whole(&format!("[cdr]\npostgres = \"{url}\""))).map(|config| config.cdr);
    let mode = |url: &str| postgres(url).unwrap().postgres.unwrap().database.get_ssl_mode();
    assert_eq!(mode("postgres://u:canary@db.example/cdr"), SslMode::Require);
    assert_eq!(mode("postgres://u:canary@db.example/cdr?sslmode=disable"), SslMode::Disable);
    for here in ["127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgresql"] {
        assert_eq!(mode(&format!("postgres://u@{here}/cdr")), SslMode::Disable, "{here}");
    }
    let config = postgres("postgres://u:canary@db.example/cdr").unwrap();
    assert!(config.lines.is_none() && config.sqlite.is_none());
    assert!(!format!("{config:?}").contains("canary"));
    for wrong in ["postgres://u:canary@db.example/cdr?sslmode=maybe", "nonsense:canary", "postgres://u:canary@/cdr"] {
        let error = postgres(wrong).unwrap_err();
        assert!(error.contains("ringback.toml:2:") && !error.contains("canary"), "{error}");
    }
    let error = load(&whole("[cdr]\npostgres_password_file = \"x\"")).unwrap_err();
    assert!(error.contains("which [cdr] does not have"), "{error}");
}

#[test]
fn a_secret_of_the_wrong_type_is_not_told() {
    for (files, sections) in [
        (&[][..], "[registrar]\nrealm = \"lab\"\n[registrar.users]\nalice = \"canary, expected 48151623\"\n"),
        (&[], "[registrar]\nrealm = \"lab\"\n[registrar.users.alice]\npassword = 48151623\n"),
        (&[("users.toml", "alice = \"canary\"\n")], "[registrar]\nrealm = \"lab\"\nusers_file = \"users.toml\"\n"),
        (
            &[("users.toml", "[alice]\npassword = 4815.1623\n")],
            "[registrar]\nrealm = \"lab\"\nusers_file = \"users.toml\"\n",
        ),
        (&[], "[turn]\nurls = [\"turn:192.0.2.1\"]\nsecret = 48151623\n"),
        (&[], "[otlp]\nendpoint = \"http://127.0.0.1:4318\"\nheaders = \"Basic canary\"\n"),
        (&[], "[hep]\naddress = \"127.0.0.1:9060\"\npassword = [\"canary\"]\n"),
        (&[], "[trunk.other]\naddress = \"192.0.2.1\"\nuser = \"us\"\npassword = 48151623\n"),
    ] {
        let error = with_sections(files, sections).unwrap_err();
        assert!(error.contains("invalid type") && error.contains(", expected "), "{sections}: {error}");
        assert!(!["canary", "4815"].iter().any(|secret| error.contains(secret)), "{sections}: {error}");
    }
}
