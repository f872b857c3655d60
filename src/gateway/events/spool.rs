//! What waits for a web hook: one file an event in a folder of the hook's own, so that a restart loses nothing; in memory
//! where there is no folder or the disk takes nothing more. Bounded either way; what finds no room is counted and lost. What
//! its receiver refuses for good is set aside in the folder `refused`, for people to look at.
//!
//! Events of one subject stand in one lane, in order; lanes do not wait for one another. A file is named
//! `NUMBER.LANE.json`, and is on the platter when it has its name: neither a crash nor a power cut costs an event.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Happened;

/// Deliveries at once for one web hook.
pub(super) const LANES: usize = 8;
/// How much of its URL's SHA-256 names a hook's folder, in bytes.
const NAME_BYTES: usize = 8;
/// The name of a file that is being written.
const DRAFT: &str = "draft";
/// The folder of events that their receiver refuses.
const REFUSED: &str = "refused";
/// How many are kept there.
const MOST_REFUSED: usize = 1000;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Events.
    pub(super) events: usize,
    /// Their bytes on disk.
    pub(super) bytes: u64,
    /// Of those events, such as are in memory.
    pub(super) in_memory: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { events: 20_000, bytes: 128 * 1024 * 1024, in_memory: 1000 }
    }
}

/// One event that waits.
#[derive(Debug)]
struct Waiting {
    bytes: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Memory(String),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spool {
    folder: Option<PathBuf>,
    lanes: [VecDeque<Waiting>; LANES],
    room: Room,
    next: u64,
    events: usize,
    bytes: u64,
    in_memory: usize,
    /// The disk has not taken the last event.
    failing: bool,
    /// Events that found no room, or could not be read again.
    pub(super) lost: u64,
    /// Events that their receiver has refused: those of earlier runs that are kept, and all of this one.
    pub(super) set_aside: usize,
}

impl Spool {
    /// Opens a hook's folder below `root`, with what an earlier gateway has left there.
    pub(super) async fn open(root: Option<&Path>, url: &str, room: Room) -> Spool {
        let folder = root.map(|root| root.join(name_of(url)));
        let mut spool = Spool {
            folder: None,
            lanes: Default::default(),
            room,
            next: 1,
            events: 0,
            bytes: 0,
            in_memory: 0,
            failing: false,
            lost: 0,
            set_aside: 0,
        };
        let Some(folder) = folder else { return spool };
        match spool.look(&folder).await {
            Ok(own) => spool.folder = Some(own),
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error, "events for a web hook wait in memory alone");
            }
        }
        spool
    }

    /// Whether this is where the hook's events wait below `root`, under whatever name.
    pub(super) async fn is_below(&self, root: Option<&Path>, url: &str) -> bool {
        match (&self.folder, root) {
            (None, None) => true,
            (Some(own), Some(root)) => {
                tokio::fs::canonicalize(root.join(name_of(url))).await.is_ok_and(|there| there == *own)
            }
            _ => false,
        }
    }

    /// Takes up what is in the folder, which is made where there is none: it is the gateway's own alone. Gives the name that it
    /// keeps, whatever becomes of links to it.
    async fn look(&mut self, folder: &Path) -> io::Result<PathBuf> {
        let own = folder.to_owned();
        let make = move || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(own);
        tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
        let folder = tokio::fs::canonicalize(folder).await?;
        let mut found = Vec::new();
        let mut entries = tokio::fs::read_dir(&folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().into_string().unwrap_or_default();
            match number_and_lane(&name) {
                Some((number, lane)) => found.push((number, lane, entry.path(), entry.metadata().await?.len())),
                None if name == REFUSED => self.set_aside = count(&entry.path()).await,
                None if name == DRAFT => {} // what was being written when the gateway was killed: it is written over
                None => tracing::warn!(file = %entry.path().display(), "this is no event that waits"),
            }
        }
        found.sort_unstable();
        for (number, lane, path, bytes) in found {
            self.next = number + 1;
            self.push(lane, Waiting { bytes, place: Place::File(path) });
        }
        if self.events > 0 {
            tracing::info!(events = self.events, "events of an earlier run wait for a web hook");
        }
        Ok(folder)
    }

    fn push(&mut self, lane: usize, waiting: Waiting) {
        self.events += 1;
        self.bytes += waiting.bytes;
        self.in_memory += usize::from(matches!(waiting.place, Place::Memory(_)));
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.push_back(waiting);
        }
    }

    /// An event waits from now on.
    pub(super) async fn put(&mut self, event: &Happened) {
        if !self.take(lane_of(&event.subject), &event.json).await {
            self.lose();
        }
    }

    /// The same by its lane; `false`: there is no room.
    async fn take(&mut self, lane: usize, json: &str) -> bool {
        let bytes = json.len() as u64;
        if self.events >= self.room.events || self.bytes + bytes > self.room.bytes {
            return false;
        }
        let number = self.next;
        self.next += 1;
        let place = match self.write(number, lane, json).await {
            Some(path) => Place::File(path),
            None if self.in_memory < self.room.in_memory => Place::Memory(json.to_owned()),
            None => return false,
        };
        self.push(lane, Waiting { bytes, place });
        true
    }

    /// Takes the next event over that waits in another spool, each lane in order and the shortest lane first, so that what
    /// has waited least is not held up by the rest; `false`: there is none. Files for which there is no room stay where they
    /// are, for a start with that folder; what was set aside stays there too.
    pub(super) async fn take_over(&mut self, other: &mut Spool) -> bool {
        let waits = other.lanes.iter().enumerate().filter(|(_, lane)| !lane.is_empty());
        let Some((lane, _)) = waits.min_by_key(|(_, lane)| lane.len()) else {
            self.lost += std::mem::take(&mut other.lost);
            return false;
        };
        if let Some(json) = other.first(lane).await {
            if self.take(lane, &json).await {
                other.done(lane).await;
            } else {
                other.give_up(lane);
            }
        }
        true
    }

    /// A lane finds no room elsewhere.
    fn give_up(&mut self, lane: usize) {
        let (mut files, mut lost) = (0, 0);
        while self.has(lane) {
            match self.pop(lane) {
                Some(_) => files += 1,
                None => lost += 1,
            }
        }
        self.lost += lost;
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        tracing::error!(%folder, files, lost, "events find no room in the new spool: their files stay");
    }

    /// Whether anything waits in a lane.
    pub(super) fn has(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| !lane.is_empty())
    }

    /// Whole or not at all: a file has its name when it has its text.
    async fn write(&mut self, number: u64, lane: usize, json: &str) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        let path = folder.join(format!("{number:016x}.{lane}.json"));
        let (folder, to, json) = (folder.clone(), path.clone(), json.to_owned());
        let written = tokio::task::spawn_blocking(move || write_through(&folder, &to, &json)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => {
                if std::mem::replace(&mut self.failing, false) {
                    tracing::info!("events for a web hook are written again");
                }
                Some(path)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "events for a web hook are not written: they wait in memory");
                }
                None
            }
        }
    }

    fn lose(&mut self) {
        self.lost += 1;
        if self.lost.is_power_of_two() {
            tracing::error!(lost = self.lost, waiting = self.events, "events for a web hook find no room and are lost");
        }
    }

    /// The text of a lane's first event; what cannot be read is lost.
    pub(super) async fn first(&mut self, lane: usize) -> Option<String> {
        loop {
            let path = match &self.lanes.get(lane)?.front()?.place {
                Place::Memory(json) => return Some(json.clone()),
                Place::File(path) => path.clone(),
            };
            match tokio::fs::read_to_string(&path).await {
                Ok(json) => return Some(json),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "an event that waits cannot be read");
                    self.lose();
                    self.done(lane).await;
                }
            }
        }
    }

    /// A lane's first event waits no more.
    pub(super) async fn done(&mut self, lane: usize) {
        if let Some(path) = self.pop(lane)
            && let Err(error) = tokio::fs::remove_file(&path).await
        {
            tracing::warn!(file = %path.display(), %error, "an event that was sent stays on disk: it is sent again");
        }
    }

    /// A lane's first event is refused: it is kept, while there is room, and waits no more. One in memory is lost.
    pub(super) async fn set_aside(&mut self, lane: usize) {
        let Some(path) = self.pop(lane) else { return };
        self.set_aside += 1;
        let kept = match (&self.folder, path.file_name()) {
            (Some(folder), Some(name)) if self.set_aside <= MOST_REFUSED => keep(folder, &path, name).await,
            _ => tokio::fs::remove_file(&path).await,
        };
        if let Err(error) = kept {
            tracing::warn!(file = %path.display(), %error, "an event that was refused is not set aside: it is sent again");
        }
    }

    /// Takes a lane's first event out; gives its file.
    fn pop(&mut self, lane: usize) -> Option<PathBuf> {
        let waiting = self.lanes.get_mut(lane).and_then(VecDeque::pop_front)?;
        self.events -= 1;
        self.bytes -= waiting.bytes;
        match waiting.place {
            Place::Memory(_) => {
                self.in_memory -= 1;
                None
            }
            Place::File(path) => Some(path),
        }
    }

    /// Events that wait.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Events that would be lost with the process.
    pub(super) fn in_memory(&self) -> usize {
        self.in_memory
    }
}

/// Writes a file that is whole, and on the platter, when it has its name.
fn write_through(folder: &Path, path: &Path, json: &str) -> io::Result<()> {
    let draft = folder.join(DRAFT);
    let mut file = File::create(&draft)?;
    file.write_all(json.as_bytes())?;
    file.sync_data()?;
    fs::rename(&draft, path)?;
    if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::debug!(%error, "the names of events are not forced to the platter");
    }
    Ok(())
}

/// Moves a file to those that were refused.
async fn keep(folder: &Path, path: &Path, name: &std::ffi::OsStr) -> io::Result<()> {
    let refused = folder.join(REFUSED);
    tokio::fs::create_dir_all(&refused).await?;
    tokio::fs::rename(path, refused.join(name)).await
}

/// How many files there are.
async fn count(folder: &Path) -> usize {
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return 0 };
    let mut found = 0;
    while let Ok(Some(_)) = entries.next_entry().await {
        found += 1;
    }
    found
}

/// `NUMBER.LANE.json`
fn number_and_lane(name: &str) -> Option<(u64, usize)> {
    let (number, lane) = name.strip_suffix(".json")?.split_once('.')?;
    let lane = lane.parse().ok().filter(|lane| *lane < LANES)?;
    Some((u64::from_str_radix(number, 16).ok()?, lane))
}

/// What a hook's folder is called.
fn name_of(url: &str) -> String {
    Sha256::digest(url.as_bytes()).iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// The same subject always has the same lane (FNV-1a).
pub(super) fn lane_of(subject: &str) -> usize {
    let hash = subject
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash % LANES as u64) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(number: u64, subject: &str) -> Happened {
        let json = format!("{{\"n\":{number}}}");
        Happened { number, id: format!("b-{number}"), name: "call.started", subject: subject.to_owned(), json }
    }

    #[tokio::test]
    async fn what_waits_is_there_after_a_restart_in_order_and_gone_when_it_was_sent() {
        let root = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(Some(root.path()), "http://x/", Room::default()).await;
        for number in 0..5 {
            spool.put(&event(number, "one")).await;
        }
        spool.put(&event(9, "other")).await;
        drop(spool);
        let mut spool = Spool::open(Some(root.path()), "http://x/", Room::default()).await;
        let (one, other) = (lane_of("one"), lane_of("other"));
        assert_ne!(one, other);
        for number in 0..5 {
            assert_eq!(spool.first(one).await.unwrap(), format!("{{\"n\":{number}}}"));
            spool.done(one).await;
        }
        assert_eq!(spool.first(one).await, None);
        assert_eq!(spool.first(other).await.as_deref(), Some("{\"n\":9}"));
        spool.put(&event(10, "other")).await;
        spool.done(other).await;
        assert_eq!(spool.first(other).await.as_deref(), Some("{\"n\":10}"), "numbers go on after a restart");
        spool.done(other).await;
        assert!(spool.is_empty());
        let other_hook = Spool::open(Some(root.path()), "http://y/", Room::default()).await;
        assert!(other_hook.is_empty(), "each hook has a folder of its own");
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let room = Room { events: 3, bytes: 1000, in_memory: 1 };
        let mut spool = Spool::open(Some(root.path()), "http://x/", room).await;
        for number in 0..5 {
            spool.put(&event(number, "one")).await;
        }
        assert_eq!((spool.events, spool.lost), (3, 2));
        let mut small = Spool::open(None, "http://x/", Room { bytes: 10, ..room }).await;
        small.put(&event(1, "one")).await;
        small.put(&event(2, "one")).await;
        assert_eq!((small.events, small.in_memory(), small.lost), (1, 1, 1), "by bytes, and by what memory may hold");
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_leaves_memory() {
        let root = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(Some(root.path()), "http://x/", Room::default()).await;
        std::fs::remove_dir_all(spool.folder.as_ref().unwrap()).unwrap();
        spool.put(&event(1, "one")).await;
        assert_eq!((spool.in_memory(), spool.lost), (1, 0));
        assert_eq!(spool.first(lane_of("one")).await.as_deref(), Some("{\"n\":1}"));
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        let nowhere = Spool::open(Some(&file), "http://x/", Room::default()).await;
        assert!(nowhere.folder.is_none(), "a folder that cannot be made is no reason not to start");
    }
    /// A reload names another folder.
    #[tokio::test]
    async fn what_waits_moves_to_another_spool_in_order() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut spool = Spool::open(Some(old.path()), "http://x/", Room::default()).await;
        for number in 0..3 {
            spool.put(&event(number, "one")).await;
        }
        let folder = spool.folder.clone().unwrap();
        let mut next = Spool::open(Some(new.path()), "http://x/", Room::default()).await;
        while next.take_over(&mut spool).await {}
        assert_eq!(count(&folder).await, 0);
        let lane = lane_of("one");
        assert_eq!(next.first(lane).await.as_deref(), Some("{\"n\":0}"));
        next.done(lane).await;
        // To memory, which has room for one: the other file stays.
        let folder = next.folder.clone().unwrap();
        let mut memory = Spool::open(None, "http://x/", Room { in_memory: 1, ..Room::default() }).await;
        while memory.take_over(&mut next).await {}
        assert_eq!((memory.len(), memory.lost, count(&folder).await), (1, 0, 1));
        assert_eq!(memory.first(lane).await.as_deref(), Some("{\"n\":1}"));
    }

    #[tokio::test]
    async fn a_folder_is_the_same_under_another_name() {
        let root = tempfile::tempdir().unwrap();
        let (folder, link) = (root.path().join("spool"), root.path().join("link"));
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        let mut spool = Spool::open(Some(&link), "http://x/", Room::default()).await;
        for same in [&folder, &link, &root.path().join("link/../spool/.")] {
            assert!(spool.is_below(Some(same), "http://x/").await, "{}", same.display());
        }
        assert!(!spool.is_below(Some(root.path()), "http://x/").await && !spool.is_below(None, "http://x/").await);
        // The name by which it was opened is no longer needed.
        std::fs::remove_file(&link).unwrap();
        spool.put(&event(1, "one")).await;
        assert_eq!((spool.in_memory(), spool.first(lane_of("one")).await.as_deref()), (0, Some("{\"n\":1}")));
    }
}
