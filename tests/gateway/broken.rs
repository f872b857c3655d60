//! Configurations that are wrong, each in its own way and at one place.

use std::fs;
use std::path::Path;

use crate::reload::Folder;

/// How a line that is wrong is marked.
const HERE: &str = "#!";

/// What is wrong.
pub struct Broken {
    name: &'static str,
    /// The file that has it.
    file: &'static str,
    /// What is replaced there, and by what: the wrong line is marked.
    old: &'static str,
    new: &'static str,
    /// Whether `new` stands before `old` and does not replace it.
    before: bool,
    /// What is told.
    told: &'static str,
}

const fn main(name: &'static str, old: &'static str, new: &'static str, told: &'static str) -> Broken {
    Broken { name, file: "ringback.toml", old, new, before: false, told }
}

const fn plan(name: &'static str, old: &'static str, new: &'static str, told: &'static str) -> Broken {
    Broken { name, file: "plans/plan.toml", old, new, before: false, told }
}

/// A further section.
const fn more(name: &'static str, section: &'static str, told: &'static str) -> Broken {
    Broken { name, file: "ringback.toml", old: "[log]", new: section, before: true, told }
}

impl Broken {
    /// The operator gives it to the gateway, which refuses it and says where; what was there before is put back.
    pub fn is_refused(&self, folder: &Folder) {
        let (name, right) = (self.name, fs::read_to_string(folder.dir.path().join(self.file)).unwrap());
        assert!(right.contains(self.old), "{name}");
        let new = if self.before { format!("{}\n{}", self.new, self.old) } else { self.new.to_owned() };
        let wrong = right.replacen(self.old, &new, 1);
        folder.write(self.file, &wrong);
        let (code, out, err) = folder.reload();
        folder.write(self.file, &right);
        assert_eq!(code, Some(1), "{name}: {out}{err}");
        assert!(err.contains(self.told), "{name}: {err}");
        if let Some(line) = wrong.lines().position(|line| line.contains(HERE)) {
            let place = format!("{}:{}", Path::new(self.file).file_name().unwrap().to_str().unwrap(), line + 1);
            assert!(err.contains(&place), "{name} is not told at {place}: {err}");
        }
    }
}

pub const BROKEN: &[Broken] = &[
    main("syntax", "calls = 100", "calls = = 3 #!", "extra `=`"),
    main("unknown key", "calls = 100", "callz = 5 #!", "unknown field"),
    main("unknown section", "[limits]", "[limitz] #!", "unknown field"),
    main("wrong type", "calls = 100", "calls = \"many\" #!", "invalid type"),
    main("out of range", "calls = 100", "calls = 0 #!", "out of range"),
    main("short secret", "open = true", "hs256_secret = \"short\" #!", "at least 32"),
    main("no secret", "open = true", "hs256_secret_file = \"nowhere\" #!", "nowhere: cannot be read"),
    main("no public key", "open = true", "eddsa_public_key_file = \"plans/plan.toml\" #!", "eddsa_public_key_file"),
    main("two ways in", "[auth]\nopen = true", "[auth] #!\nopen = true\nhs256_secret = \"x\"", "exactly one"),
    main("ports", "[limits]", "[media.x] #!\n[limits]", "unknown field"),
    main("an address", "browser = \"127.0.0.1:0\"", "browser = \"nonsense\" #!", "is not an address"),
    main("an IP address", "rtp_address = \"127.0.0.1\"", "rtp_address = \"300.1.1.1\" #!", "IPv4 or IPv6"),
    main("log level", "level = \"info\"", "level = \"ringback=loud\" #!", "a filter such as"),
    main("log format", "level = \"info\"", "format = \"xml\" #!", "\"text\" or \"json\""),
    main("a codec", "[trunk.testphone]", "[trunk.testphone]\ncodecs = [\"GSM\"] #!", "GSM"),
    main("a number format", "[trunk.testphone]", "[trunk.testphone]\nnumber_format = \"martian\" #!", "martian"),
    main("no password", "[trunk.testphone]", "[trunk.testphone] #!\nuser = \"me\"", "go together"),
    main("registration", "[trunk.testphone]", "[trunk.testphone] #!\nregister = true", "needs `user`"),
    main("a network", "[trunk.testphone]", "[trunk.testphone]\nsources = [\"10.0.0.1/99\"] #!", "10.0.0.1/99"),
    main("ptime", "[trunk.testphone]", "[trunk.testphone]\nptime = 13 #!", "13 is out of range"),
    main("TLS without a key", "[media]", "tls = [\"127.0.0.1:0\"] #!\n[media]", "go together"),
    main("music", "[auth]", "hold_music = \"plans/plan.toml\" #!\n[auth]", "cannot be played"),
    main("a profile", "[trunk.testphone]", "[trunk.testphone]\nprofile = \"nobody\" #!", "nobody"),
    main("an origin", "listen =", "origins = [\"shop\"] #!\nlisten =", "without a path"),
    main("no plan", "dir = \"plans\"", "dir = \"nowhere\"", "nowhere: cannot be read"),
    plan("plan's syntax", "[plan]", "[plan\n", "plan.toml:"),
    plan("plan's key", "[plan]", "[plan]\ncolour = \"red\" #!", "unknown"),
    plan("plan's trunk", "\"testphone\"", "\"nobody\"", "nobody"),
    main(
        "a weak password",
        "[log]",
        "[registrar]\nrealm = \"r\"\n[registrar.users]\na = { password = \"x\" } #!\n[log]",
        "8 characters",
    ),
    more("a limit", "[limits.user]\ncalls_per_minute = 0 #!", "1 to 10000"),
    more("a limit's name", "[limits.gateway]\ncalls_a_day = 5 #!", "unknown field"),
    more("a limit's class", "[limits.class.sales] #!\ncalls = 1", "the classes of the dial plan"),
    more("a limit's trunk", "[limits.trunk.elsewhere] #!\ncalls = 1", "the names of trunks"),
    more("the store", "[store]\nfile = \"store.db\" #!", "unknown field"),
    more("records that wait", "[cdr]\nqueue = 5 #!", "100 to 1000000"),
    more("a database", "[cdr]\npostgres = \"postgres://\" #!", "names no host"),
    more("a database's certificate", "[cdr]\npostgres_ca = \"ca.pem\" #!", "postgres"),
    more("what is kept", "[trace]\nmessages = 5 #!", "10 to 10000"),
    more("a collector", "[hep]\naddress = \"homer\" #!", "10.0.0.9:9060"),
    more(
        "a collector of nothing",
        "[trace]\ncalls = 0\n[hep] #!\naddress = \"10.0.0.9:9060\"",
        "[trace] calls must not be 0",
    ),
    main("numbers in the log", "level = \"info\"", "numbers = \"some\" #!", "\"masked\" or \"plain\""),
    more("nobody may control", "[api] #!\nlisten = \"127.0.0.1:0\"", "token"),
    more("a short token", "[api]\nlisten = \"127.0.0.1:0\"\n[[api.token]]\nname = \"n\"\nsha256 = \"00\" #!", "sha256"),
    more("a hook's secret", "[[webhook]]\nurl = \"http://127.0.0.1:9/\"\nsecret = \"short\" #!", "32"),
    more(
        "a hook's address",
        "[[webhook]]\nurl = \"ftp://127.0.0.1/\" #!\nsecret = \"0123456789abcdef0123456789abcdef\"",
        "http",
    ),
    more(
        "a hook's events",
        "[[webhook]]\nurl = \"http://127.0.0.1:9/\"\nevents = [\"call.lost\"] #!\nsecret = \"0123456789abcdef0123456789abcdef\"",
        "call.lost",
    ),
    more("a TURN server", "[turn]\nurls = [\"http://turn.example\"] #!\nsecret = \"0123456789abcdef\"", "turn:HOST"),
    more("a TURN server's secret", "[turn]\nurls = [\"turn:turn.example\"]\nsecret = \"short\" #!", "16"),
    more("how long calls stand", "[calls]\nresume_within = 601 #!", "0 to 600"),
    more("a receiver of traces", "[otlp]\nendpoint = \"collector:4318\" #!", "/v1/traces"),
    more("a journal", "[journal]\npath = \"calls.journal\" #!", "unknown field"),
    main(
        "https without a certificate",
        "[sip]",
        "tls_certificate = \"none.pem\"\ntls_key = \"none.pem\" #!\n[sip]",
        "none.pem",
    ),
    plan("plan's test", "expect = { rule = \"test phone\", to = \"606\" }", "expect = { rule = \"nothing\" }", "606"),
    plan("plan's table", "prefix = \"+\"", "prefix_file = \"rates.csv\" #!", "rates.csv"),
    plan("plan's expression", "regex  = \".*\"", "regex  = \"(\" #!", "no regular expression"),
];
