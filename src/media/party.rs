//! The two sides of a bridge.

use std::sync::Arc;

use super::filler::Filler;
use super::leg::Leg;
use crate::sdp::{Hears, LegMedia, Side};

/// A side that has a leg.
pub(super) struct Party {
    pub leg: Leg,
    /// What the leg was made and configured after.
    pub media: LegMedia,
    hears: Hears,
    filler: Option<Filler>,
    /// What it hears while the other party, a browser, is away.
    comfort: Option<Filler>,
    /// Its silence was reported.
    pub lost: bool,
}

impl Party {
    pub fn new(leg: Leg, media: LegMedia) -> Self {
        Self { leg, media, hears: Hears::Nothing, filler: None, comfort: None, lost: false }
    }

    /// What this party hears.
    pub fn hears(&self) -> Hears {
        self.hears
    }

    /// Sets what this party hears; a tone that it hears already goes on. `music` is for those on hold.
    pub fn set_hears(&mut self, hears: Hears, music: Option<&Arc<[i16]>>) {
        self.hears = hears;
        if !self.filler.as_ref().is_some_and(|filler| filler.suits(hears)) {
            self.filler = Filler::of(hears, music);
        }
    }

    /// The sound that takes the other party's place; `away`: that party has been heard, and is not there now.
    pub fn filler(&mut self, away: bool) -> Option<&mut Filler> {
        if !away {
            self.comfort = None;
        }
        match &mut self.filler {
            None if away && self.hears == Hears::Peer => Some(self.comfort.get_or_insert_with(Filler::comfort)),
            filler => filler.as_mut(),
        }
    }
}

/// Both sides.
#[derive(Default)]
pub(super) struct Parties {
    a: Option<Party>,
    b: Option<Party>,
}

impl Parties {
    pub fn slot(&mut self, side: Side) -> &mut Option<Party> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    pub fn get(&self, side: Side) -> Option<&Party> {
        match side {
            Side::A => self.a.as_ref(),
            Side::B => self.b.as_ref(),
        }
    }

    pub fn get_mut(&mut self, side: Side) -> Option<&mut Party> {
        self.slot(side).as_mut()
    }

    pub fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        self.get_mut(side).map(|party| &mut party.leg)
    }

    /// The party of a side, and the other one.
    pub fn pair(&mut self, side: Side) -> (Option<&mut Party>, Option<&mut Party>) {
        match side {
            Side::A => (self.a.as_mut(), self.b.as_mut()),
            Side::B => (self.b.as_mut(), self.a.as_mut()),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Party> {
        [&self.a, &self.b].into_iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Party> {
        [&mut self.a, &mut self.b].into_iter().flatten()
    }
}
