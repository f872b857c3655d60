//! The processor that a media thread runs on.

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps the calling thread to one processor, by its number as `lscpu` shows it.
///
/// # Errors
/// There is no such processor, or this process may not use it.
pub(super) fn keep_to(cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}
