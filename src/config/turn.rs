//! `[turn]`: the TURN servers that browsers are told of.

use std::time::Duration;

use toml::Spanned;

use super::{ConfigError, Problem, Reader, raw};
use crate::signal::Turn;
use crate::signal::turn::valid_url;

/// The shortest secret: it is what keeps strangers from relaying at the operator's cost.
const MIN_SECRET: usize = 16;
/// How long credentials are good unless told: a day, so that a page that sleeps for half of one gets a call through.
const TTL: usize = 24 * 3600;

impl Reader<'_> {
    /// The whole section.
    pub(super) fn turn(&self, section: &Spanned<raw::Turn>) -> Result<Turn, ConfigError> {
        let raw = section.get_ref();
        let url = |value: &Spanned<String>| {
            if valid_url(value.get_ref()) {
                return Ok(value.get_ref().clone());
            }
            let takes = "\"turn:HOST[:PORT][?transport=udp|tcp]\", turns: alike, or \"stun:HOST[:PORT]\"".into();
            Err(self.error(value, Problem::Word { key: "urls", value: value.get_ref().clone(), takes }))
        };
        let urls = raw.urls.iter().map(url).collect::<Result<Vec<_>, _>>()?;
        if urls.is_empty() {
            return Err(self.error(section, Problem::NoTurn));
        }
        let (at, secret) = match (&raw.secret, &raw.secret_file) {
            (Some(secret), None) => (secret, secret.get_ref().clone()),
            (None, Some(file)) => (file, self.secret_file(file)?),
            _ => return Err(self.error(section, Problem::TurnSecret)),
        };
        if secret.len() < MIN_SECRET {
            return Err(self.error(at, Problem::ShortTurnSecret(secret.len())));
        }
        let ttl = self.number("ttl", &raw.ttl, TTL, 60..=7 * 24 * 3600, "60 to 604800 seconds")?;
        Ok(Turn::new(urls, secret.into_bytes(), Duration::from_secs(ttl as u64)))
    }
}
