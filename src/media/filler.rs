//! What a party hears when it does not hear the other: a ringing tone, or music on hold.

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
    player: TonePlayer<'static>,
}

impl Filler {
    /// What belongs to `hears`, if anything does.
    pub fn of(hears: Hears) -> Option<Self> {
        let player = match hears {
            Hears::Nothing | Hears::Peer => return None,
            Hears::PeerOr(tone) | Hears::Tone(tone) => {
                let ringback = match tone {
                    Tone::Us => Ringback::Us,
                    Tone::Uk => Ringback::Uk,
                    Tone::Eu => Ringback::Eu,
                };
                TonePlayer::repeated(ringback.cadence(), RINGBACK_LEVEL)
            }
            Hears::Music | Hears::PeerOrMusic => TonePlayer::repeated(COMFORT, COMFORT_LEVEL),
        };
        Some(Self { hears, player })
    }

    /// Whether it is what belongs to `hears`: then it goes on where it is.
    pub fn suits(&self, hears: Hears) -> bool {
        self.hears == hears
    }

    /// The next frame.
    pub fn fill(&mut self, frame: &mut [i16; FRAME]) {
        self.player.fill(frame);
    }
}
