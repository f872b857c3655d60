//! The test phone of the embedded default: a true SIP and RTP endpoint on loopback, reached through the same stack as
//! any trunk.
//!
//! [`Phone`] is the whole of it without sockets or clocks; [`TestPhone`] is the thread that gives it both. What each
//! number does is one file in `numbers/`:
//!
//! | number | what it does |
//! |---|---|
//! | 600 | echo: plays back what it hears |
//! | 601 | plays a melody, over and over |
//! | 602 | reads digits (RFC 4733 or SIP INFO) and plays them back as tones after `#` or a pause |
//! | 603 | busy |
//! | 604 | rings and never answers |
//! | 605 | a melody as early media, then answers and plays on |
//! | 606 | answers, beeps twice, hangs up, and calls back |

mod call;
mod canary;
mod info;
mod line;
mod melody;
mod numbers;
mod phone;
mod shell;

pub use canary::{Canary, Measured, Stage};
pub use melody::melody;
pub use phone::{CallId, Output, Phone, PhoneConfig};
pub use shell::{Config, TestPhone};

#[cfg(test)]
mod tests;
