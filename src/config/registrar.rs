//! `[registrar]`: SIP phones of users.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Spanned;

use super::{ConfigError, Problem, Reader, error, raw};
use crate::signal::valid_user;
use crate::sip::registrar::{Algorithm, RegistrarConfig, Secret};
use crate::switch::{NumberFormat, PhoneRights, PhonesConfig, Trunk};

/// The name of phones in call records and logs.
const PHONE: &str = "phone";

impl Reader<'_> {
    pub(super) fn registrar(&self, section: &Spanned<raw::Registrar>) -> Result<PhonesConfig, ConfigError> {
        let raw = section.get_ref();
        let realm = raw.realm.get_ref();
        let good = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if realm.is_empty() || realm.len() > 128 || !realm.chars().all(good) {
            let takes = "a name such as \"phones.example\"".into();
            return Err(self.error(&raw.realm, Problem::Word { key: "realm", value: realm.clone(), takes }));
        }
        let mut users = BTreeMap::new();
        for (name, user) in &raw.users {
            users.insert(name.clone(), self.phone_user(name, user, realm)?);
        }
        if let Some(file) = &raw.users_file {
            users.extend(self.users_file(file, realm)?);
        }
        if users.is_empty() {
            return Err(self.error(section, Problem::NoPhones));
        }
        let (secrets, rights) =
            users.into_iter().map(|(name, (secret, rights))| ((name.clone(), secret), (name, rights))).unzip();
        let seconds = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let d = RegistrarConfig::new(realm, secrets);
        let min = self.number("min_expires", &raw.min_expires, 60, 10..=3600, "10 to 3600 seconds")?;
        let max = self.number("max_expires", &raw.max_expires, 3600, min..=86_400, "min_expires to 86400 seconds")?;
        let registrar = RegistrarConfig {
            max_bindings: self.number("max_bindings", &raw.max_bindings, d.max_bindings, 1..=64, "1 to 64")?,
            min_expires: seconds(min),
            max_expires: seconds(max),
            default_expires: seconds(max),
            ..d
        };
        let phone = Trunk {
            codecs: self.codecs(raw.codecs.as_deref())?,
            number_format: NumberFormat::AsDialled,
            ..Trunk::new(PHONE)
        };
        let calls_per_user = self.number("calls_per_user", &raw.calls_per_user, 8, 1..=1000, "1 to 1000")?;
        Ok(PhonesConfig { registrar, rights, phone, calls_per_user })
    }

    /// A file of users: what `[registrar.users]` holds, at its top.
    fn users_file(
        &self,
        name: &Spanned<String>,
        realm: &str,
    ) -> Result<BTreeMap<String, (Secret, PhoneRights)>, ConfigError> {
        let path = self.beside(name.get_ref());
        let text = std::fs::read_to_string(&path).map_err(|e| self.unreadable(name, &path, e))?;
        let users: BTreeMap<String, Spanned<raw::PhoneUser>> =
            toml::from_str(&text).map_err(|e| error::toml(&path, &text, &e))?;
        let reader = Reader { path: &path, text: &text };
        users.iter().map(|(name, user)| Ok((name.clone(), reader.phone_user(name, user, realm)?))).collect()
    }

    fn phone_user(
        &self,
        name: &str,
        section: &Spanned<raw::PhoneUser>,
        realm: &str,
    ) -> Result<(Secret, PhoneRights), ConfigError> {
        if !valid_user(name) {
            let takes = "the name of a user".into();
            return Err(self.error(section, Problem::Word { key: "users", value: name.into(), takes }));
        }
        let raw = section.get_ref();
        let secret = match (&raw.password, &raw.password_file, &raw.ha1, &raw.ha1_sha256) {
            (Some(password), None, None, None) => Secret::Password(password.get_ref().clone()),
            (None, Some(file), None, None) => Secret::Password(self.secret_file(file)?),
            (None, None, md5, sha256) if md5.is_some() || sha256.is_some() => Secret::Ha1 {
                md5: md5.as_ref().map(|v| self.hex("ha1", v, 32)).transpose()?,
                sha256: sha256.as_ref().map(|v| self.hex("ha1_sha256", v, 64)).transpose()?,
            },
            _ => return Err(self.error(section, Problem::PhoneSecret(name.into()))),
        };
        if let Secret::Password(password) = &secret
            && password.len() < 8
        {
            return Err(self.error(section, Problem::WeakPassword(name.into())));
        }
        // Both hashes of the empty password are as weak as it is; a short one cannot be told from its hash.
        let empty = |algorithm: Algorithm| algorithm.ha1(name, realm, "");
        if let Secret::Ha1 { md5, sha256 } = &secret
            && (md5.as_deref() == Some(&empty(Algorithm::Md5)) || sha256.as_deref() == Some(&empty(Algorithm::Sha256)))
        {
            return Err(self.error(section, Problem::WeakPassword(name.into())));
        }
        let rights = PhoneRights {
            class: raw.class.clone(),
            caller_id: raw.caller_id.as_ref().map(|v| self.user("caller_id", v)).transpose()?,
            destinations: raw.destinations.clone(),
            longest: raw.max_duration.map(Duration::from_secs),
        };
        Ok((secret, rights))
    }

    fn hex(&self, key: &'static str, value: &Spanned<String>, digits: usize) -> Result<String, ConfigError> {
        let text = value.get_ref();
        if text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text.to_ascii_lowercase());
        }
        let takes = format!("{digits} hexadecimal digits, the hash of user:realm:password").into();
        // The value is a secret: it is not repeated.
        Err(self.error(value, Problem::Word { key, value: "...".into(), takes }))
    }
}
