//! Whole calls in virtual time: the whole [`Switch`](ringback::switch::Switch) between a fake browser, a fake media
//! path and SIP peers, over a network that loses, repeats, delays and reorders. No socket, no thread, no sleep.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asking;
mod audio;
mod basic;
mod browsers;
mod busy;
mod drain;
mod exhaustive;
mod faults;
mod inbound;
mod left;
mod limits;
mod losses;
mod media;
mod operator;
mod people;
mod phones;
mod plans;
mod probes;
mod races;
mod random;
mod registrations;
mod reload;
mod support;
mod survival;
mod transfer;
mod trunks;
mod websockets;
