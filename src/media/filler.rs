//! What a party hears when it does not hear the other: a ringing tone, or music on hold.

use std::sync::Arc;

use crate::codec::Rate;
use crate::codec::resample::Doubler;
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
    doubler: Doubler,
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
            Hears::Comfort => return Some(Self { hears, ..Self::comfort() }),
            Hears::Music | Hears::PeerOrMusic => match music {
                Some(pcm) => Player::Music { pcm: pcm.clone(), at: 0 },
                None => return Some(Self { hears, ..Self::comfort() }),
            },
        };
        Some(Self { hears, player, doubler: Doubler::default() })
    }

    /// The comfort tone, for who hears a browser that is away for a moment, or tries the way to us.
    pub fn comfort() -> Self {
        let player = Player::Tone(TonePlayer::repeated(COMFORT, COMFORT_LEVEL));
        Self { hears: Hears::Peer, player, doubler: Doubler::default() }
    }

    /// Whether it is what belongs to `hears`: then it goes on where it is.
    pub fn suits(&self, hears: Hears) -> bool {
        self.hears == hears
    }

    /// The next frame: 20 ms at `rate`.
    pub fn fill(&mut self, frame: &mut [i16], rate: Rate) {
        match rate {
            Rate::Narrow => self.player.fill(frame),
            Rate::Wide => {
                let mut narrow = [0; Rate::Narrow.frame()];
                self.player.fill(&mut narrow);
                self.doubler.process(&narrow, frame);
            }
        }
    }
}

impl Player {
    /// The next samples, at 8 kHz.
    fn fill(&mut self, frame: &mut [i16]) {
        match self {
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
