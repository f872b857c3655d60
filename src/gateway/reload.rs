//! A new configuration without an end of the old one's calls: read and checked whole in a task of its own, taken by the
//! driver, or refused whole.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::rustls::ServerConfig;

use super::cdr::Prepared;
use super::notify::Notifier;
use super::{Event, Tasks};
use crate::config::{Config, LoadError, Log};
use crate::net::tls::{FileStamp, TlsServer};

/// Reloads that may wait for their turn.
pub(super) const QUEUE: usize = 8;
/// How long the driver may take to answer.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How often the certificate's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads the configuration, as at the start.
type Load = Box<dyn Fn() -> Result<Config, LoadError> + Send + Sync>;
/// Sets the filter of the log; the error in words.
type SetLog = Box<dyn Fn(&Log) -> Result<(), String> + Send + Sync>;

/// Where a new configuration comes from.
pub struct Source {
    load: Load,
    log: SetLog,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// `load` reads and checks all of it; `log` sets the log's filter.
    pub fn new(
        load: impl Fn() -> Result<Config, LoadError> + Send + Sync + 'static,
        log: impl Fn(&Log) -> Result<(), String> + Send + Sync + 'static,
    ) -> Source {
        Source { load: Box::new(load), log: Box::new(log) }
    }
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether the new configuration is taken; if not, everything is as before.
    pub reloaded: bool,
    /// What differs and is taken at the next start only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<&'static str>,
    /// What is wrong, with file and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One who asks for a reload, and may want to hear of it.
pub(super) type Request = Option<oneshot::Sender<Outcome>>;

/// What became of it, as the driver says.
type Taken = Result<Vec<&'static str>, String>;

/// A new configuration with the places of its CDRs open, for the driver.
pub(super) struct Offer {
    config: Box<Config>,
    cdr: Prepared,
    answer: oneshot::Sender<Taken>,
}

impl Offer {
    /// What to take, and where to say so; nothing once it has been said that it is not taken.
    pub(super) fn wanted(self) -> Option<(Config, Prepared, oneshot::Sender<Taken>)> {
        if self.answer.is_closed() {
            tracing::warn!("a configuration that came too late is not taken");
            return None;
        }
        Some((*self.config, self.cdr, self.answer))
    }
}

/// Serves reloads one after the other.
pub(super) async fn serve(
    source: Option<Source>,
    mut asked: mpsc::Receiver<Request>,
    tasks: Tasks,
    tell: Arc<Notifier>,
) {
    let source = source.map(Arc::new);
    loop {
        let request = tokio::select! {
            () = tasks.stop.cancelled() => return,
            request = asked.recv() => request,
        };
        let Some(request) = request else { return };
        tell.reloading();
        let outcome = match reload(source.clone(), &tasks).await {
            Ok(needs_restart) => {
                tracing::info!("the configuration is reloaded");
                for key in &needs_restart {
                    tracing::warn!(key, "the new value is taken at the next start only");
                }
                Outcome { reloaded: true, needs_restart, error: None }
            }
            Err(error) => {
                tracing::error!("the configuration is NOT reloaded, the old one holds: {error}");
                Outcome { reloaded: false, needs_restart: Vec::new(), error: Some(error) }
            }
        };
        tell.ready();
        if let Some(answer) = request {
            let _ = answer.send(outcome); // who asked may be gone
        }
    }
}

async fn reload(source: Option<Arc<Source>>, tasks: &Tasks) -> Result<Vec<&'static str>, String> {
    let source = source.ok_or("there is no configuration file: the gateway was started without one")?;
    let reader = source.clone();
    let read = move || {
        let config = (reader.load)().map_err(|error| error.to_string())?;
        let cdr = Prepared::open(&config.cdr).map_err(|error| error.to_string())?;
        Ok::<_, String>((config, cdr))
    };
    let (config, cdr) = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())??;
    let log = config.log.clone();
    let (answer, answered) = oneshot::channel();
    let told = tasks.sip.send(Event::Reload(Offer { config: Box::new(config), cdr, answer })).await;
    told.map_err(|_| "the gateway ends")?;
    let needs_restart = match tokio::time::timeout(TAKEN_WITHIN, answered).await {
        Ok(Ok(taken)) => taken?,
        _ => return Err("the gateway does not take it in time".into()),
    };
    if let Err(error) = (source.log)(&log) {
        tracing::error!(error, "the log's filter stays as it was");
    }
    Ok(needs_restart)
}

/// Takes a certificate that is renewed in its files, without being told. One that is no good leaves the old one.
pub(super) async fn watch_certificate(shown: Arc<watch::Sender<TlsServer>>, tasks: Tasks) {
    let mut looked: Option<FileStamp> = None;
    loop {
        tokio::select! {
            () = tasks.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let server = shown.borrow().clone();
        let before = server.config();
        let known = looked.unwrap_or_else(|| server.identity().read_as());
        let look = tokio::task::spawn_blocking(move || {
            let stamp = server.identity().stamp();
            let changed = stamp != known && stamp != server.identity().read_as();
            (stamp, changed.then(|| server.reread()))
        });
        let Ok((stamp, reread)) = look.await else { continue };
        looked = Some(stamp);
        match reread {
            None => {}
            Some(Ok(new)) => {
                let file = new.identity().file().to_owned();
                if renew(&shown, &before, new) {
                    tracing::info!(file = %file.display(), "the certificate was renewed: it is shown from now on");
                }
            }
            Some(Err(error)) => tracing::error!(%error, "the certificate's files changed, but the old one is shown on"),
        }
    }
}

/// Shows the renewed one, unless a reload has put another in the place of `before` meanwhile.
fn renew(shown: &watch::Sender<TlsServer>, before: &Arc<ServerConfig>, new: TlsServer) -> bool {
    shown.send_if_modified(|present| {
        let same = Arc::ptr_eq(&present.config(), before);
        if same {
            *present = new;
        }
        same
    })
}

/// What is bound, opened or begun once, at the start, and what of a new configuration differs from it: addresses, the files
/// that are this gateway's alone, and the media threads, each of which has a socket and keeps its calls for their lives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bound {
    keys: Vec<(&'static str, String)>,
}

impl Bound {
    pub(super) fn of(config: &Config) -> Bound {
        let (http, sip, media) = (&config.http, &config.sip, &config.media);
        let keys = vec![
            ("[http] listen", format!("{:?}", http.listen)),
            ("[http] tls_certificate (https or not)", format!("{:?}", http.tls.is_some())),
            ("[sip] udp", format!("{:?}", sip.udp)),
            ("[sip] tcp", format!("{:?}", sip.tcp)),
            ("[sip] tls", format!("{:?}", sip.tls)),
            ("[media] browser", format!("{:?}", media.browser)),
            ("[media] rtp_address", format!("{:?}", media.rtp_address)),
            ("[media] workers", format!("{:?}", media.workers)),
            ("[media] cpus", format!("{:?}", media.cpus)),
            ("[control] socket", format!("{:?}", config.control)),
            ("[journal] file", format!("{:?}", config.journal)),
            ("[store] path", format!("{:?}", config.store)),
            ("[api] listen", format!("{:?}", config.api.as_ref().map(|api| api.listen))),
        ];
        Bound { keys }
    }

    /// The keys of a new configuration that differ.
    pub(super) fn needs_restart(&self, config: &Config) -> Vec<&'static str> {
        let new = Bound::of(config);
        self.keys.iter().zip(&new.keys).filter(|(old, new)| old != new).map(|(_, (key, _))| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::net::tls::Identity;

    /// Who asked was told that the old one holds.
    #[tokio::test]
    async fn a_reload_that_nobody_waits_for_any_more_is_not_taken() {
        let offer = || {
            let config = Config::embedded().unwrap();
            let cdr = Prepared::open(&config.cdr).unwrap();
            let (answer, answered) = oneshot::channel();
            (Offer { config: Box::new(config), cdr, answer }, answered)
        };
        let (late, answered) = offer();
        drop(answered);
        assert!(late.wanted().is_none());
        let (timely, _answered) = offer();
        assert!(timely.wanted().is_some());
    }

    #[test]
    fn a_renewed_certificate_does_not_undo_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let server = || TlsServer::new(Identity::read(&chain, &key).unwrap(), None).unwrap();
        let (first, reloaded) = (server(), server());
        let shown = watch::Sender::new(first.clone());
        assert!(renew(&shown, &first.config(), server()));
        let before = shown.borrow().config();
        shown.send_replace(reloaded.clone());
        assert!(!renew(&shown, &before, server()));
        assert!(Arc::ptr_eq(&shown.borrow().config(), &reloaded.config()));
    }
}
