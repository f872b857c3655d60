//! The operator's way in: a Unix socket that the gateway's own user and root may open. One command a connection, a line
//! each way: `reload`, `drain [SECONDS]`, `status`, `trunks`, `users [NAME]`, `calls`, `call ID`, `hangup ID`,
//! `limits`, `trace [ID [FROM]]`, `trunk-test TRUNK NUMBER [FROM]`, `dashboard`, `listening`; the answer is one JSON object.

use std::fs::{File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::canary::Canaries;
use super::dashboard::{self, Keys};
use super::reload::Request;
use super::trace::Question;
use super::{Event, GatewayError, Ready, Tasks, accept_failed, api};
use crate::switch::{CallId, Command, Reply, Status};

/// Where the socket is looked for when nothing says where.
pub const DEFAULT_SOCKET: &str = "/run/ringback/control.sock";
/// Commands at once.
const AT_ONCE: usize = 8;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;
/// What there is, for whoever says something else.
const COMMANDS: &str = "commands are: reload, drain [SECONDS], status, trunks, users [NAME], calls, call ID, hangup ID, limits, \
    trace [ID [FROM]], trunk-test TRUNK NUMBER [FROM], dashboard, listening";
/// The longest command.
const LONGEST: u64 = 1024;
/// What is said where the page is not to be had on this machine.
const NOT_HERE: &str = "[http] listen is not reached by a loopback address; give [api] listen and a token with the scopes \
    `control` and `trace`, and open /dashboard/ there";
/// What is said of what is no call's id.
const NO_ID: &str = "a call's id has 16 hexadecimal digits";
/// How long a command may take to arrive, and its answer to be read.
const WITHIN: Duration = Duration::from_secs(5);
/// How long the answer to a command may take to be found: a reload reads files and looks at large plans.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// The same of a test of a trunk: a whole call.
const TESTED_WITHIN: Duration = Duration::from_secs(100);

/// Where the gateway is reached, the keys to its operator's page, and the tests of trunks.
type Known = (Ready, Keys, Canaries);

/// The socket; [`Door::serve`] removes its file in the end.
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Binds it, in the place of one that a gateway which is gone has left behind.
    pub(super) fn open(path: &Path) -> Result<Door, GatewayError> {
        let failed = |source| GatewayError::Control { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => {
                let what = "there is something else of that name, which stays as it is";
                return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, what)));
            }
            Ok(_) => match BlockingStream::connect(path) {
                Ok(_) => return Err(failed(io::ErrorKind::AddrInUse.into())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = bind(path).map_err(failed)?;
        Ok(Door { listener, path: path.to_owned() })
    }

    /// Answers until the stop token fires.
    pub(super) async fn serve(
        self,
        reloads: mpsc::Sender<Request>,
        ready: Ready,
        keys: Keys,
        canaries: Canaries,
        tasks: Tasks,
    ) {
        let known = Arc::new((ready, keys, canaries));
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                () = tasks.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    accept_failed("control", &error).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (reloads, known, tracker, tasks) =
                (reloads.clone(), known.clone(), tasks.tracker.clone(), tasks.clone());
            tracker.spawn(async move {
                let served = tokio::select! {
                    () = tasks.stop.cancelled() => Ok(()),
                    served = one(stream, &reloads, &known, &tasks) => served,
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "a command was not served");
                }
                drop(place);
            });
        }
        let _ = std::fs::remove_file(&self.path); // it may be gone already
    }
}

/// The file is its owner's alone from its first moment, whatever the umask: Linux gives it the mode that the socket has.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    let handle = File::from(socket.as_fd().try_clone_to_owned()?);
    handle.set_permissions(Permissions::from_mode(0o600))?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

async fn one(mut stream: UnixStream, reloads: &mpsc::Sender<Request>, known: &Known, tasks: &Tasks) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    timeout(WITHIN, tokio::io::BufReader::new(read.take(LONGEST)).read_line(&mut line)).await??;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, _, canaries) = known;
    let found = match words.as_slice() {
        ["trunk-test", trunk, number] => timeout(TESTED_WITHIN, canaries.test(trunk, number, None)).await,
        ["trunk-test", trunk, number, from] => timeout(TESTED_WITHIN, canaries.test(trunk, number, Some(*from))).await,
        words => {
            let word = |at: usize| words.get(at).copied();
            let command = (word(0).unwrap_or_default(), word(1), word(2));
            timeout(ANSWERED_WITHIN, answer(command, reloads, known, tasks)).await
        }
    };
    let answer = found.ok().flatten().unwrap_or_else(|| json!({"error": "the gateway does not answer, or ends"}));
    timeout(WITHIN, write.write_all(format!("{answer}\n").as_bytes())).await?
}

/// `None`: the gateway ends.
async fn answer(
    command: (&str, Option<&str>, Option<&str>),
    reloads: &mpsc::Sender<Request>,
    (ready, keys, _): &Known,
    tasks: &Tasks,
) -> Option<Value> {
    match command {
        ("reload", None, None) => {
            let (answer, answered) = oneshot::channel();
            reloads.send(Some(answer)).await.ok()?;
            serde_json::to_value(answered.await.ok()?).ok()
        }
        ("drain", seconds, None) => {
            let grace = match seconds.map(str::parse) {
                None => None,
                Some(Ok(seconds)) => Some(Duration::from_secs(seconds)),
                Some(Err(_)) => return Some(json!({"error": "drain takes a number of seconds"})),
            };
            tasks.sip.send(Event::Drain { grace }).await.ok()?;
            Some(json!({"draining": true}))
        }
        ("status", None, None) => serde_json::to_value(status(tasks).await?).ok(),
        ("trunks", None, None) => Some(json!({"trunks": serde_json::to_value(status(tasks).await?.trunks).ok()?})),
        ("users", name, None) => {
            let (answer, answered) = oneshot::channel();
            tasks.sip.send(Event::Users { answer }).await.ok()?;
            let mut users = answered.await.ok()?;
            users.retain(|view| name.is_none_or(|name| view.user == name));
            Some(json!({"users": serde_json::to_value(users).ok()?}))
        }
        ("dashboard", None, None) => Some(match keys.issue(Instant::now()).map(|key| dashboard::url(ready, &key)) {
            Some(Some(url)) => json!({"url": url}),
            Some(None) => json!({"error": NOT_HERE}),
            None => json!({"error": "the system gives no random numbers"}),
        }),
        ("listening", None, None) => serde_json::to_value(ready).ok(),
        ("calls", None, None) => asked(tasks, Command::List).await,
        ("limits", None, None) => asked(tasks, Command::Limits).await,
        ("call", Some(id), None) => about(tasks, id, Command::Inspect).await,
        ("hangup", Some(id), None) => about(tasks, id, Command::Hangup).await,
        ("trace", None, None) => traced(tasks, Question::List).await,
        ("trace", Some(id), since) => match (id.parse(), since.unwrap_or("0").parse()) {
            (Ok(id), Ok(since)) => traced(tasks, Question::Call(id, since)).await,
            (Err(_), _) => Some(json!({"error": NO_ID})),
            (_, Err(_)) => Some(json!({"error": "trace takes the number of a message after the call's id"})),
        },
        _ => Some(json!({"error": COMMANDS})),
    }
}

async fn status(tasks: &Tasks) -> Option<Status> {
    let (answer, answered) = oneshot::channel();
    tasks.sip.send(Event::Status { answer }).await.ok()?;
    answered.await.ok()
}

/// A command about one call.
async fn about(tasks: &Tasks, id: &str, command: fn(CallId) -> Command) -> Option<Value> {
    match id.parse() {
        Ok(id) => asked(tasks, command(id)).await,
        Err(_) => Some(json!({"error": NO_ID})),
    }
}

/// What was said about calls.
async fn traced(tasks: &Tasks, question: Question) -> Option<Value> {
    let (answer, answered) = oneshot::channel();
    tasks.events.send(Event::Trace { question, answer }).await.ok()?;
    Some(answered.await.ok()?.to_json())
}

async fn asked(tasks: &Tasks, command: Command) -> Option<Value> {
    match api::ask(tasks, command).await? {
        Reply::Call(call) => serde_json::to_value(call).ok(),
        Reply::Calls(calls) => Some(json!({"calls": serde_json::to_value(calls).ok()?})),
        Reply::Limits(limits) => serde_json::to_value(limits).ok(),
        Reply::Gone => Some(json!({"ended": true})),
        Reply::Refused(denial) => Some(json!({"error": denial.text})),
    }
}

/// Asks a running gateway; gives its answer.
///
/// # Errors
/// There is no such socket, it is not ours to open, or nobody answers.
pub fn ask(socket: &Path, command: &str) -> io::Result<Value> {
    let mut stream = BlockingStream::connect(socket)?;
    stream.set_read_timeout(Some(TESTED_WITHIN + WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    writeln!(stream, "{command}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays_and_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        std::fs::write(&path, "a day's calls").unwrap();
        let Err(GatewayError::Control { source, .. }) = Door::open(&path).map(|_| ()) else { panic!("it is opened") };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a day's calls");
        // Nor is what a link leads to.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Door::open(&link).is_err() && link.exists());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _door = Door::open(&path).unwrap();
        let Err(GatewayError::Control { source, .. }) = Door::open(&path).map(|_| ()) else { panic!("two answer") };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
    }

    /// There is no moment in which others may connect: nothing is done to it after it is bound.
    #[tokio::test]
    async fn the_socket_is_its_owners_alone_when_it_is_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _listener = bind(&path).unwrap();
        let mode = std::fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        BlockingStream::connect(&path).unwrap();
    }
}
