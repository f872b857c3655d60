//! What a party hears when it does not hear the other: a ringing tone, or music on hold.

use std::sync::Arc;

use super::FRAME;
use crate::codec::tone::{Note, Ringback, TonePlayer};
use crate::sdp::{Hears, Tone};

/// The peak of each of the ringing tone's frequencies: about -19 dBm0 both.
const RINGBACK_LEVEL: i16 = 2_600;
/// The comfort tone's peak: it says "you are not forgotten", not more.
const COMFORT_LEVEL: i16 = 900;
/// Two soft notes, and a long rest.
const COMFORT: &[Note] = &[Note::single(392.0, 500), Note::rest(150), Note::single(523.25, 700), Note::rest(3_650)];

/// A source of sound of our own.
pub(super) struct Filler {
    hears: Hears,
    player: Player,
}

enum Player {
    Tone(TonePlayer<'static>),
    /// Music that was configured, over and over.
    Music {
        pcm: Arc<[i16]>,
        at: usize,
    },
}

impl Filler {
    /// What belongs to `hears`, if anything does; without `music` those on hold hear a comfort tone.
    pub fn of(hears: Hears, music: Option<&Arc<[i16]>>) -> Option<Self> {
        let player = match hears {
            Hears::Nothing | Hears::Peer => return None,
            Hears::PeerOr(tone) | Hears::Tone(tone) => {
                let ringback = match tone {
                    Tone::Us => Ringback::Us,
                    Tone::Uk => Ringback::Uk,
                    Tone::Eu => Ringback::Eu,
                };
                Player::Tone(TonePlayer::repeated(ringback.cadence(), RINGBACK_LEVEL))
            }
            Hears::Music | Hears::PeerOrMusic => match music {
                Some(pcm) => Player::Music { pcm: pcm.clone(), at: 0 },
                None => Player::Tone(TonePlayer::repeated(COMFORT, COMFORT_LEVEL)),
            },
        };
        Some(Self { hears, player })
    }

    /// Whether it is what belongs to `hears`: then it goes on where it is.
    pub fn suits(&self, hears: Hears) -> bool {
        self.hears == hears
    }

    /// The next frame.
    pub fn fill(&mut self, frame: &mut [i16; FRAME]) {
        match &mut self.player {
            Player::Tone(player) => player.fill(frame),
            Player::Music { pcm, at } => {
                for sample in frame {
                    *sample = pcm.get(*at).copied().unwrap_or_default();
                    *at = if *at + 1 < pcm.len() { *at + 1 } else { 0 };
                }
            }
        }
    }
}
