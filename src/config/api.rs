//! `[api]`, `[[webhook]]` and `[events]`: who may control calls from outside, and who is told of them.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::{ConfigError, Problem, Reader, Secret, raw};
use crate::switch::NOTICES;

/// The shortest token and the shortest secret of a web hook, in bytes.
const SHORTEST_SECRET: usize = 32;
/// The most web hooks.
const MOST_HOOKS: usize = 16;

/// `[api]`: call control over HTTP.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Who may: at least one.
    pub tokens: Vec<ApiToken>,
}

/// `[[api.token]]`
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// The name that stands in the log.
    pub name: String,
    /// SHA-256 of the token: that itself is not kept.
    pub digest: [u8; 32],
    /// Whether calls may be made and changed; all tokens may read.
    pub control: bool,
    /// Whether it sees what was said about calls, as `ringback trace` shows it.
    pub trace: bool,
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiToken").field("name", &self.name).field("control", &self.control).finish_non_exhaustive()
    }
}

impl ApiToken {
    /// One that may do everything.
    pub fn operator(name: &str, token: &str) -> ApiToken {
        let digest = Sha256::digest(token.as_bytes()).into();
        ApiToken { name: name.to_owned(), digest, control: true, trace: true }
    }

    /// Whether this is it. All bytes are looked at, whichever differs first.
    pub fn is(&self, token: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.digest.iter().zip(shown).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }
}

/// `[[webhook]]`
#[derive(Clone)]
pub struct Webhook {
    /// Where events are sent: an http or https URL.
    pub url: String,
    /// What they are signed with.
    pub secret: Secret,
    /// Which: names, or beginnings followed by `*`; empty: all.
    pub events: Vec<String>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("events", &self.events).finish_non_exhaustive()
    }
}

/// Whether an event is among those that are wanted; none named: all are.
pub fn wants(events: &[String], name: &str) -> bool {
    let matches = |wanted: &String| match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => wanted == name,
    };
    events.is_empty() || events.iter().any(matches)
}

impl Reader<'_> {
    /// `[api]`; never without a token.
    pub(super) fn api(&self, section: &Spanned<raw::Api>) -> Result<Api, ConfigError> {
        let raw = section.get_ref();
        let listen = self.address("listen", "\"127.0.0.1:8081\"", &raw.listen)?;
        let tokens = raw.token.iter().map(|token| self.api_token(token)).collect::<Result<Vec<_>, _>>()?;
        if tokens.is_empty() {
            return Err(self.error(section, Problem::NoApiToken));
        }
        Ok(Api { listen, tokens })
    }

    fn api_token(&self, section: &Spanned<raw::ApiToken>) -> Result<ApiToken, ConfigError> {
        let raw = section.get_ref();
        let digest = match (&raw.sha256, &raw.token_file, &raw.token_env) {
            (Some(hex), None, None) => {
                let takes = "the SHA-256 of the token in 64 hexadecimal digits: printf %s TOKEN | sha256sum";
                let wrong = || Problem::Word { key: "sha256", value: hex.get_ref().clone(), takes: takes.into() };
                unhex(hex.get_ref()).ok_or_else(|| self.error(hex, wrong()))?
            }
            (None, Some(file), None) => self.digest(file, &self.secret_file(file)?)?,
            (None, None, Some(name)) => self.digest(name, &self.environment(name)?)?,
            _ => return Err(self.error(section, Problem::ApiTokenChoice)),
        };
        let (mut control, mut trace) = (false, false);
        for scope in raw.scopes.iter().flatten() {
            match scope.get_ref().as_str() {
                "read" => {}
                "control" => control = true,
                "trace" => trace = true,
                other => {
                    let takes = "\"read\", \"control\" and \"trace\"".into();
                    return Err(self.error(scope, Problem::Word { key: "scopes", value: other.into(), takes }));
                }
            }
        }
        Ok(ApiToken { name: raw.name.clone(), digest, control, trace })
    }

    fn digest<T>(&self, at: &Spanned<T>, token: &str) -> Result<[u8; 32], ConfigError> {
        match token.len() {
            SHORTEST_SECRET.. => Ok(Sha256::digest(token.as_bytes()).into()),
            bytes => Err(self.error(at, Problem::ShortToken(bytes))),
        }
    }

    fn environment(&self, name: &Spanned<String>) -> Result<String, ConfigError> {
        std::env::var(name.get_ref()).map_err(|_| self.error(name, Problem::NoVariable(name.get_ref().clone())))
    }

    /// `[[webhook]]`, each URL once.
    pub(super) fn webhooks(&self, sections: &[Spanned<raw::Webhook>]) -> Result<Vec<Webhook>, ConfigError> {
        let mut hooks: Vec<Webhook> = Vec::new();
        for section in sections {
            let hook = self.webhook(section)?;
            if hooks.len() >= MOST_HOOKS || hooks.iter().any(|other| other.url == hook.url) {
                return Err(self.error(section, Problem::TooManyHooks(MOST_HOOKS)));
            }
            hooks.push(hook);
        }
        Ok(hooks)
    }

    fn webhook(&self, section: &Spanned<raw::Webhook>) -> Result<Webhook, ConfigError> {
        let raw = section.get_ref();
        let url = raw.url.get_ref();
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let written = url.bytes().all(|byte| byte.is_ascii_graphic());
        if !written || host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains('@')) {
            // The value is not shown: a URL may hold a secret.
            return Err(self.error(&raw.url, Problem::HookUrl));
        }
        let (at, secret) = match (&raw.secret, &raw.secret_file, &raw.secret_env) {
            (Some(secret), None, None) => (secret, secret.get_ref().clone()),
            (None, Some(file), None) => (file, self.secret_file(file)?),
            (None, None, Some(name)) => (name, self.environment(name)?),
            _ => return Err(self.error(section, Problem::HookSecretChoice)),
        };
        if secret.len() < SHORTEST_SECRET {
            return Err(self.error(at, Problem::ShortToken(secret.len())));
        }
        let mut events = Vec::new();
        for event in raw.events.iter().flatten() {
            let name = event.get_ref();
            if !NOTICES.iter().any(|known| wants(std::slice::from_ref(name), known)) {
                let takes = format!("{}, or a beginning such as \"call.*\"", NOTICES.join(", ")).into();
                return Err(self.error(event, Problem::Word { key: "events", value: name.clone(), takes }));
            }
            events.push(name.clone());
        }
        Ok(Webhook { url: url.clone(), secret: Secret::of(secret.as_bytes()), events })
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::config::Config;
    use crate::config::tests::with_sections;

    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"; // "test"

    fn load(sections: &str) -> Result<Config, String> {
        with_sections(&[("token", "0123456789abcdef0123456789abcdef\n"), ("short", "hunter2\n")], sections)
    }

    fn wrong(sections: &str) -> String {
        load(sections).unwrap_err()
    }

    #[test]
    fn tokens_are_kept_as_digests_and_told_by_all_their_bytes() {
        let config = load(&format!(
            "[api]\nlisten = \"127.0.0.1:0\"\n[[api.token]]\nname = \"crm\"\nsha256 = \"{DIGEST}\"\nscopes = [\"read\"]\n\
             [[api.token]]\nname = \"admin\"\ntoken_file = \"token\"\nscopes = [\"read\", \"control\"]\n\
             [[api.token]]\nname = \"desk\"\ntoken_file = \"token\"\nscopes = [\"trace\"]\n"
        ));
        let api = config.unwrap().api.unwrap();
        assert!(api.tokens[0].is("test") && !api.tokens[0].is("tesu") && !api.tokens[0].control);
        assert!(api.tokens[1].is("0123456789abcdef0123456789abcdef") && api.tokens[1].control);
        assert_eq!(api.tokens.iter().map(|token| token.trace).collect::<Vec<_>>(), [false, false, true]);
        assert!(!format!("{api:?}").contains("9f86") && !format!("{api:?}").contains("digest"), "{api:?}");
    }

    #[test]
    fn there_is_no_api_without_a_token_and_no_weak_one() {
        let api = "[api]\nlisten = \"127.0.0.1:0\"\n";
        assert!(wrong(api).contains("ringback.toml:5:1: [api] has no token"), "{}", wrong(api));
        let token = |more: &str| wrong(&format!("{api}[[api.token]]\nname = \"x\"\n{more}"));
        assert!(token("").contains("exactly one of sha256, token_file and token_env"));
        assert!(token("token_file = \"short\"\n").contains("7 bytes"));
        assert!(token("sha256 = \"abc\"\n").contains("64 hexadecimal digits"));
        assert!(token("token_env = \"RINGBACK_NO_SUCH_VARIABLE\"\n").contains("RINGBACK_NO_SUCH_VARIABLE"));
        assert!(token(&format!("sha256 = \"{DIGEST}\"\nscopes = [\"root\"]\n")).contains("\"root\" is not known"));
    }

    #[test]
    fn a_web_hook_has_a_url_a_secret_and_events_that_exist() {
        let hook = |more: &str| format!("[[webhook]]\n{more}");
        let good = "url = \"https://crm.example/hook?key=s3cret\"\nsecret_file = \"token\"\n";
        let config = load(&hook(&format!("{good}events = [\"call.ended\", \"trunk.*\"]\n"))).unwrap();
        let webhook = &config.webhooks[0];
        assert!(!format!("{webhook:?}").contains("s3cret"));
        let wanted = |name| wants(&webhook.events, name);
        assert!(wanted("call.ended") && wanted("trunk.down") && !wanted("call.started") && wants(&[], "call.started"));
        assert!(wrong(&hook(&format!("{good}events = [\"call.parked\"]\n"))).contains("call.parked"));
        assert!(wrong(&format!("{0}{0}", hook(good))).contains("each URL once"));
        assert!(wrong(&hook("url = \"ftp://x\"\nsecret_file = \"token\"\n")).contains("http:// or https://"));
        assert!(wrong(&hook("url = \"http://x/\"\nsecret = \"short\"\n")).contains("5 bytes"));
        assert!(wrong(&hook("url = \"http://x/\"\n")).contains("exactly one of secret"));
    }
}
