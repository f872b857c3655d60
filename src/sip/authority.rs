//! Digest authentication as a server ([RFC 7616](https://www.rfc-editor.org/rfc/rfc7616),
//! [RFC 8760](https://www.rfc-editor.org/rfc/rfc8760)): nonces that carry their own time and proof, so that a challenge
//! costs no memory, and a bounded memory of those that were used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sha2::Sha256;

use super::digest::{Algorithm, Fields};
use super::{Headers, Request, Uri};

/// How long a nonce is taken.
const LIFETIME: Duration = Duration::from_secs(300);
/// Used nonces that are remembered. When there are more, the oldest are no longer taken at all.
const MAX_USED: usize = 16_384;
/// How far behind the highest count of a nonce a late request may come.
const WINDOW: u32 = 64;
/// Hex digits of a nonce: seconds, randomness, proof.
const NONCE_PARTS: (usize, usize, usize) = (8, 16, 32);

/// Where an answer to a challenge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 401: `WWW-Authenticate`, `Authorization`.
    Server,
    /// 407: `Proxy-Authenticate`, `Proxy-Authorization`.
    Proxy,
}

impl Kind {
    pub(super) fn status(self) -> u16 {
        match self {
            Kind::Server => 401,
            Kind::Proxy => 407,
        }
    }

    fn challenge(self) -> &'static str {
        match self {
            Kind::Server => "WWW-Authenticate",
            Kind::Proxy => "Proxy-Authenticate",
        }
    }

    fn answer(self) -> &'static str {
        match self {
            Kind::Server => "Authorization",
            Kind::Proxy => "Proxy-Authorization",
        }
    }
}

/// What a request's answer to a challenge is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The password was known.
    Right,
    /// It was not, or there is no such user.
    Wrong,
    /// The nonce is too old, another's or used before: nothing was compared.
    Stale,
    /// Not an answer that can be read.
    Malformed,
}

/// The answer to a challenge of our realm.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) username: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Option<Algorithm>,
    /// qop, cnonce and nc go together.
    counted: Option<(String, String, String)>,
    /// Something is missing or not of its grammar.
    broken: bool,
}

/// Which counts of a nonce were used: the highest, and a bit for each of those below it.
#[derive(Clone, Copy, Debug)]
struct Used {
    highest: u32,
    seen: u64,
}

/// Challenges of one realm.
#[derive(Debug)]
pub(super) struct Authority {
    realm: String,
    algorithms: Vec<Algorithm>,
    key: Key,
    rng: StdRng,
    /// The origin of the seconds in nonces.
    epoch: Option<Instant>,
    /// By time of issue, then randomness.
    used: BTreeMap<(u32, u64), Used>,
    /// Nonces up to this second are stale, as their use may be forgotten.
    floor: u32,
}

struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Authority {
    /// Challenges with these algorithms, the best first.
    pub(super) fn new(realm: &str, mut algorithms: Vec<Algorithm>, seed: [u8; 32]) -> Authority {
        algorithms.sort_unstable_by(|a, b| b.cmp(a));
        algorithms.dedup();
        let mut rng = StdRng::from_seed(seed);
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        Authority {
            realm: realm.to_owned(),
            algorithms,
            key: Key(key),
            rng,
            epoch: None,
            used: BTreeMap::new(),
            floor: 0,
        }
    }

    /// One challenge for each algorithm, the best first (RFC 8760 section 2.3), all with one nonce.
    ///
    /// `md5`: of several hashes MD5 alone, as the libraries of browsers know no other and look at the first challenge only.
    pub(super) fn challenge(&mut self, now: Instant, kind: Kind, stale: bool, md5: bool, headers: &mut Headers) {
        let nonce = self.nonce(now);
        let stale = if stale { ", stale=true" } else { "" };
        let md5 = md5 && self.algorithms.contains(&Algorithm::Md5);
        for algorithm in self.algorithms.iter().filter(|algorithm| !md5 || **algorithm == Algorithm::Md5) {
            let (realm, name) = (&self.realm, algorithm.name());
            let value = format!(r#"Digest realm="{realm}", nonce="{nonce}", algorithm={name}, qop="auth"{stale}"#);
            headers.push(kind.challenge(), value);
        }
    }

    /// The answer that a request gives to our challenges; `None`: it has none.
    pub(super) fn answer(&self, kind: Kind, request: &Request) -> Option<Answer> {
        let all = request.headers.get_all(kind.answer()).filter_map(Fields::parse);
        let fields = all.into_iter().find(|fields| fields.get("realm").as_ref() == Some(&self.realm))?;
        let algorithm = fields.get("algorithm").unwrap_or_else(|| Algorithm::Md5.name().to_owned());
        let algorithm = self.algorithms.iter().find(|it| it.name().eq_ignore_ascii_case(&algorithm)).copied();
        let counted = fields.get("qop").map(|qop| {
            let get = |name| fields.get(name).unwrap_or_default();
            (qop.to_ascii_lowercase(), get("cnonce"), get("nc"))
        });
        let get = |name| fields.get(name).unwrap_or_default();
        let mut answer = Answer {
            username: get("username"),
            nonce: get("nonce"),
            uri: get("uri"),
            response: get("response").to_ascii_lowercase(),
            algorithm,
            counted,
            broken: false,
        };
        answer.broken = !answer.is_sound(request);
        Some(answer)
    }

    /// Judges an answer. `ha1` gives what stands for the user's password; without one (no such user) the same work is
    /// done as with one.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        request: &Request,
        answer: &Answer,
        ha1: impl FnOnce(Algorithm) -> Option<String>,
    ) -> Verdict {
        let (false, Some(algorithm)) = (answer.broken, answer.algorithm) else { return Verdict::Malformed };
        let Some(nonce) = self.known_nonce(now, &answer.nonce) else { return Verdict::Stale };
        let secret = ha1(algorithm);
        let stand_in = algorithm.hex(&self.key.0);
        let expected = answer.expected(algorithm, secret.as_deref().unwrap_or(&stand_in), request);
        let is_right = same(&expected, &answer.response) & secret.is_some();
        // A right answer counts once; a wrong one must not use up another's count.
        match is_right {
            true if self.take(nonce, answer.count()) => Verdict::Right,
            true => Verdict::Stale,
            false => Verdict::Wrong,
        }
    }

    fn seconds(&mut self, now: Instant) -> u32 {
        let epoch = *self.epoch.get_or_insert(now);
        // 1 and up: the floor of 0 is below all of them.
        u32::try_from(now.saturating_duration_since(epoch).as_secs()).unwrap_or(u32::MAX).saturating_add(1)
    }

    fn nonce(&mut self, now: Instant) -> String {
        let issued = self.seconds(now);
        let random: u64 = self.rng.random();
        let proof = self.proof(issued, random);
        format!("{issued:08x}{random:016x}{proof}")
    }

    fn proof(&self, issued: u32, random: u64) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key.0);
        let mut mac = mac.unwrap_or_else(|_| Hmac::new(&Default::default()));
        mac.update(&issued.to_be_bytes());
        mac.update(&random.to_be_bytes());
        mac.update(self.realm.as_bytes());
        mac.finalize().into_bytes().iter().take(NONCE_PARTS.2 / 2).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The nonce's time and randomness, if it is ours and fresh.
    fn known_nonce(&mut self, now: Instant, nonce: &str) -> Option<(u32, u64)> {
        let (time, random, proof) = NONCE_PARTS;
        if nonce.len() != time + random + proof || !nonce.is_ascii() {
            return None;
        }
        let issued = u32::from_str_radix(nonce.get(..time)?, 16).ok()?;
        let number = u64::from_str_radix(nonce.get(time..time + random)?, 16).ok()?;
        if !same(&self.proof(issued, number), nonce.get(time + random..)?) {
            return None;
        }
        let age = self.seconds(now).checked_sub(issued)?;
        (u64::from(age) <= LIFETIME.as_secs() && issued > self.floor).then_some((issued, number))
    }

    /// Notes the use of a nonce with this count; false if it was used before.
    fn take(&mut self, nonce: (u32, u64), count: u32) -> bool {
        if let Some(used) = self.used.get_mut(&nonce) {
            return used.take(count);
        }
        self.used = self.used.split_off(&(oldest_of_interest(nonce.0), 0));
        if self.used.len() >= MAX_USED
            && let Some(((issued, _), _)) = self.used.pop_first()
        {
            self.floor = self.floor.max(issued);
            if nonce.0 <= self.floor {
                return false;
            }
        }
        self.used.insert(nonce, Used { highest: count, seen: 1 });
        true
    }
}

/// When a nonce issued at this second is in use, those of before the result are too old to be asked about again.
fn oldest_of_interest(issued: u32) -> u32 {
    issued.saturating_sub(u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX))
}

impl Used {
    /// Bit n of `seen` stands for the count n below the highest.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let by = count - self.highest;
            self.seen = if by < WINDOW { self.seen << by | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let bit = 1u64.checked_shl(behind).unwrap_or_default();
        let fresh = behind < WINDOW && self.seen & bit == 0;
        self.seen |= bit;
        fresh
    }
}

impl Answer {
    fn is_sound(&self, request: &Request) -> bool {
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let counted = match &self.counted {
            Some((qop, cnonce, nc)) => qop == "auth" && !cnonce.is_empty() && nc.len() == 8 && hex(nc),
            // RFC 2069: no count, so each nonce is good for one request.
            None => true,
        };
        let length = self.algorithm.map_or(0, |algorithm| if algorithm == Algorithm::Md5 { 32 } else { 64 });
        let response = self.response.len() == length && hex(&self.response);
        let username = !self.username.is_empty() && self.username.len() <= 128;
        counted && response && username && self.is_for(&request.uri)
    }

    /// RFC 7616 section 3.4.6: the digest is of this request's URI, which proxies on the way may have changed in its
    /// parameters.
    fn is_for(&self, uri: &Uri) -> bool {
        let host = |uri: &Uri| uri.host.to_string().to_ascii_lowercase();
        self.uri.parse::<Uri>().is_ok_and(|it| it.user == uri.user && host(&it) == host(uri))
    }

    fn count(&self) -> u32 {
        self.counted.as_ref().and_then(|(_, _, nc)| u32::from_str_radix(nc, 16).ok()).unwrap_or(1)
    }

    fn expected(&self, algorithm: Algorithm, ha1: &str, request: &Request) -> String {
        let ha2 = algorithm.hex(format!("{}:{}", request.method, self.uri).as_bytes());
        let nonce = &self.nonce;
        let text = match &self.counted {
            Some((qop, cnonce, nc)) => format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}"),
            None => format!("{ha1}:{nonce}:{ha2}"),
        };
        algorithm.hex(text.as_bytes())
    }
}

/// Compares in a time that does not tell where two texts differ.
fn same(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(a.len() ^ b.len(), |differ, (a, b)| differ | usize::from(a ^ b));
    std::hint::black_box(differ) == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::sip::{Credentials, Method, digest};

    #[allow(clippy::disallowed_methods)] // the origin of virtual time
    fn origin() -> Instant {
        Instant::now()
    }

    fn authority() -> Authority {
        Authority::new("r.example", vec![Algorithm::Md5, Algorithm::Sha256], [7; 32])
    }

    fn request(authorization: &str) -> Request {
        let mut request = Request::new(Method::Register, "sip:r.example".parse().unwrap());
        request.headers.push("Authorization", authorization);
        request
    }

    /// What a client makes of the challenge with this hash.
    fn answered(headers: &Headers, algorithm: Algorithm, password: &str, nc: u32) -> Request {
        let challenges = headers.challenges("WWW-Authenticate");
        let challenge = challenges.iter().find(|it| it.algorithm.as_deref() == Some(algorithm.name())).unwrap();
        let who = Credentials { username: "alice".into(), password: password.into(), realm: None };
        request(&digest::answer(challenge, &who, &Method::Register, "sip:r.example", b"", "c", nc).unwrap())
    }

    fn judge(authority: &mut Authority, now: Instant, request: &Request) -> Verdict {
        let answer = authority.answer(Kind::Server, request).unwrap();
        authority.judge(now, request, &answer, |algorithm| {
            (answer.username == "alice").then(|| algorithm.ha1("alice", "r.example", "secret"))
        })
    }

    fn challenged(authority: &mut Authority, now: Instant) -> Headers {
        let mut headers = Headers::new();
        authority.challenge(now, Kind::Server, false, false, &mut headers);
        headers
    }

    /// RFC 7616 section 3.9.1 and RFC 2617 section 3.5, as the server computes them.
    #[test]
    fn the_vectors_of_rfc_7616_seen_by_the_server() {
        let (nonce, cnonce) =
            ("7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
        let old = ("dcd98b7102dd2f0e8b11d0f600bfb0c093", "0a4f113b");
        let table = [
            (
                Algorithm::Md5,
                "http-auth@example.org",
                "Circle of Life",
                (nonce, cnonce),
                "8ca523f5e9506fed4657c9700eebdbec",
            ),
            (
                Algorithm::Sha256,
                "http-auth@example.org",
                "Circle of Life",
                (nonce, cnonce),
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
            (Algorithm::Md5, "testrealm@host.com", "Circle Of Life", old, "6629fae49393a05397450978507c4ef1"),
        ];
        for (algorithm, realm, password, (nonce, cnonce), expected) in table {
            let answer = Answer {
                username: "Mufasa".into(),
                nonce: nonce.into(),
                uri: "/dir/index.html".into(),
                response: String::new(),
                algorithm: Some(algorithm),
                counted: Some(("auth".into(), cnonce.into(), "00000001".into())),
                broken: false,
            };
            let get = Request::new(Method::Other("GET".into()), "sip:x".parse().unwrap());
            assert_eq!(answer.expected(algorithm, &algorithm.ha1("Mufasa", realm, password), &get), expected);
        }
    }

    /// RFC 8760 section 2.3: the best comes first.
    #[test]
    fn challenges_are_signed_and_sorted_and_cost_no_memory() {
        let mut authority = authority();
        let now = origin();
        let headers = challenged(&mut authority, now);
        let algorithms: Vec<_> =
            headers.challenges("WWW-Authenticate").into_iter().map(|it| it.algorithm.unwrap()).collect();
        assert_eq!(algorithms, ["SHA-256", "MD5"]);
        for _ in 0..1_000 {
            challenged(&mut authority, now);
        }
        assert!(authority.used.is_empty());
        assert!(!format!("{authority:?}").contains("[7, "));
    }

    #[test]
    fn answers_are_judged() {
        let mut authority = authority();
        let start = origin();
        let headers = challenged(&mut authority, start);
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let headers = challenged(&mut authority, start);
            let right = answered(&headers, algorithm, "secret", 1);
            assert_eq!(judge(&mut authority, start, &answered(&headers, algorithm, "guess", 1)), Verdict::Wrong);
            assert_eq!(judge(&mut authority, start, &right), Verdict::Right);
            assert_eq!(judge(&mut authority, start, &right), Verdict::Stale, "replayed");
            assert_eq!(judge(&mut authority, start, &answered(&headers, algorithm, "secret", 2)), Verdict::Right);
        }
        let late = start + LIFETIME + Duration::from_secs(2);
        assert_eq!(judge(&mut authority, late, &answered(&headers, Algorithm::Md5, "secret", 1)), Verdict::Stale);
        let right = answered(&headers, Algorithm::Md5, "secret", 9).headers.get("Authorization").unwrap().to_owned();
        let nonce = right.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let table = [
            ("username=\"alice\"", "username=\"bob\"", Some(Verdict::Wrong)),
            ("username=\"alice\"", "username=\"\"", Some(Verdict::Malformed)),
            ("realm=\"r.example\"", "realm=\"other\"", None),
            ("Digest ", "Basic ", None),
            (nonce.as_str(), "0000000100000000000000000123456789abcdef0123456789abcdef", Some(Verdict::Stale)),
            (nonce.as_str(), "", Some(Verdict::Stale)),
            (nonce.as_str(), "äöüäöüäöüäöüäöüäöüäöüäöüäöüä", Some(Verdict::Stale)),
            ("uri=\"sip:r.example\"", "uri=\"sip:elsewhere.example\"", Some(Verdict::Malformed)),
            ("uri=\"sip:r.example\"", "uri=\"sip:R.EXAMPLE;transport=tcp\"", Some(Verdict::Wrong)),
            ("response=\"", "response=\"0", Some(Verdict::Malformed)),
            ("algorithm=MD5", "algorithm=SHA-512-256", Some(Verdict::Malformed)),
            ("algorithm=MD5", "algorithm=SHA-256", Some(Verdict::Malformed)),
            ("qop=auth", "qop=auth-int", Some(Verdict::Malformed)),
            ("nc=00000009", "nc=9", Some(Verdict::Malformed)),
            ("cnonce=\"c\"", "cnonce=\"\"", Some(Verdict::Malformed)),
            ("nc=00000009", "nc=0000000a", Some(Verdict::Wrong)),
        ];
        for (from, to, expected) in table {
            assert!(right.contains(from), "{from}");
            let request = request(&right.replacen(from, to, 1));
            let verdict =
                authority.answer(Kind::Server, &request).is_some().then(|| judge(&mut authority, start, &request));
            assert_eq!(verdict, expected, "{from} -> {to}");
        }
        assert_eq!(judge(&mut authority, start, &request(&right)), Verdict::Right, "none of these used it up");
    }

    /// RFC 2069: no count, so its nonce is good for one request.
    #[test]
    fn an_answer_without_qop_is_taken_once() {
        let mut authority = authority();
        let now = origin();
        let headers = challenged(&mut authority, now);
        let plain: Vec<String> =
            headers.get_all("WWW-Authenticate").map(|it| it.replace(", qop=\"auth\"", "")).collect();
        let mut old = Headers::new();
        plain.into_iter().for_each(|value| old.push("WWW-Authenticate", value));
        let request = answered(&old, Algorithm::Md5, "secret", 1);
        assert!(!request.headers.get("Authorization").unwrap().contains("qop"));
        assert_eq!(judge(&mut authority, now, &request), Verdict::Right);
        assert_eq!(judge(&mut authority, now, &request), Verdict::Stale);
    }

    #[test]
    fn counts_may_come_late_but_never_twice() {
        let mut used = Used { highest: 1, seen: 1 };
        let table = [
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (100, true),
            (37, true),
            (36, false),
            (37, false),
            (101, true),
        ];
        for (count, expected) in table {
            assert_eq!(used.take(count), expected, "{count}");
        }
    }

    #[test]
    fn what_was_used_is_remembered_within_bounds_and_never_taken_again() {
        let mut authority = authority();
        let start = origin();
        let first = challenged(&mut authority, start);
        let first = answered(&first, Algorithm::Md5, "secret", 1);
        assert_eq!(judge(&mut authority, start, &first), Verdict::Right);
        authority.floor = 0;
        for random in 0..MAX_USED as u64 + 10 {
            authority.take((5, random), 1);
        }
        assert!(authority.used.len() <= MAX_USED);
        assert_eq!(judge(&mut authority, start, &first), Verdict::Stale);
        assert!(!authority.take((1, 77), 1), "older than what was forgotten");
    }
}
