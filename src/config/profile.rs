//! Profiles of trunks: what a kind of peer needs, as data (`profiles/*.toml`). A trunk that names one takes its values
//! where it says nothing itself.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{ConfigError, Problem, Reader, Sip, error, raw, whole_file};

/// The profiles that come with the gateway. A file of the same name in the profiles' folder goes before.
pub const EMBEDDED: &[(&str, &str)] = &[
    ("generic", include_str!("../../profiles/generic.toml")),
    ("asterisk", include_str!("../../profiles/asterisk.toml")),
    ("freeswitch", include_str!("../../profiles/freeswitch.toml")),
    ("twilio", include_str!("../../profiles/twilio.toml")),
    ("telnyx", include_str!("../../profiles/telnyx.toml")),
    ("vonage", include_str!("../../profiles/vonage.toml")),
    ("fritzbox", include_str!("../../profiles/fritzbox.toml")),
    ("teams-direct-routing", include_str!("../../profiles/teams-direct-routing.toml")),
    ("strict-ims", include_str!("../../profiles/strict-ims.toml")),
];

/// What a profile's file says beside the keys of a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileNote {
    /// The profile's name.
    pub name: String,
    /// The peer, in words.
    pub title: String,
    /// What was seen working here; empty: nothing.
    pub verified: String,
    /// The documents it was made from.
    pub source: Vec<String>,
    /// What is to be added or known.
    pub needs: Vec<String>,
}

/// A profile, read.
#[derive(Debug)]
pub(super) struct Profile {
    pub note: ProfileNote,
    pub trunk: raw::Trunk,
}

/// Reads a profile's text; `file` is for errors.
fn read(name: &str, file: &Path, text: &str) -> Result<Profile, ConfigError> {
    let raw: raw::Profile = toml::from_str(text).map_err(|e| error::toml(file, text, &e))?;
    let raw::Profile { title, verified, source, needs, trunk } = raw;
    Ok(Profile { note: ProfileNote { name: name.to_owned(), title, verified, source, needs }, trunk })
}

/// The notes of the profiles that come with the gateway.
///
/// # Errors
/// Only if one is broken, which a test rules out.
pub fn notes() -> Result<Vec<ProfileNote>, ConfigError> {
    let note = |(name, text): &(&str, &str)| read(name, Path::new(name), text).map(|profile| profile.note);
    EMBEDDED.iter().map(note).collect()
}

impl Reader<'_> {
    /// The profile that a trunk names: a file of the folder, else one that comes with the gateway.
    pub(super) fn profile(
        &self,
        name: &Spanned<String>,
        dir: &Path,
        sip: &Sip,
    ) -> Result<(ProfileNote, raw::Trunk), ConfigError> {
        let wanted = name.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let file = dir.join(format!("{wanted}.toml"));
        let own = match wanted.chars().all(plain).then(|| std::fs::read_to_string(&file)) {
            Some(Ok(text)) => Some(text),
            Some(Err(e)) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(whole_file(&file, Problem::Unreadable(e)));
            }
            _ => None,
        };
        let embedded = EMBEDDED.iter().find(|(known, _)| known == wanted).map(|(_, text)| (*text).to_owned());
        let (file, text) = match (own, embedded) {
            (Some(text), _) => (file, text),
            (None, Some(text)) => (PathBuf::from(format!("profiles/{wanted}.toml (embedded)")), text),
            (None, None) => {
                let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
                let takes = format!("a file in {} or one of {}", dir.display(), known.join(", ")).into();
                return Err(self.error(name, Problem::Word { key: "profile", value: wanted.clone(), takes }));
            }
        };
        let profile = read(wanted, &file, &text)?;
        Reader { path: &file, text: &text }.check_profile(wanted, &profile.trunk, sip)?;
        Ok((profile.note, profile.trunk))
    }

    /// Checks the values by themselves, so that a mistake is told with its place in the profile; what only a whole trunk
    /// can have (an address, a password, a listener) is given to it.
    fn check_profile(&self, name: &str, trunk: &raw::Trunk, sip: &Sip) -> Result<(), ConfigError> {
        let text = "address = \"192.0.2.1\"\nuser = \"user\"\npassword = \"password\"\n";
        let Ok(filling) = toml::from_str::<raw::Trunk>(text) else { return Ok(()) };
        let whole = Spanned::new(0..0, trunk.clone().or(&filling));
        match self.trunk(name, &whole, sip) {
            Err(ConfigError { problem: Problem::NoListener { .. }, .. }) => Ok(()),
            checked => checked.map(drop),
        }
    }
}
