//! Asks the web hooks of dial plans: one POST each, bounded in time, size and number.

use std::sync::{Arc, OnceLock};

use hyper::StatusCode;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::post::{Post, PostError, post, server};
use super::{Event, Tasks};
use crate::dialplan::MOST_ANSWER;
use crate::net::tls::TlsClient;
use crate::switch::{CallId, Input};

/// Questions under way at once; past it a question counts as unanswered.
const AT_ONCE: usize = 256;

/// Why there is no answer.
#[derive(Debug, Error)]
enum HookError {
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("it answers with status {0}")]
    Status(StatusCode),
    #[error("there are too many questions at once")]
    TooMany,
}

/// The questions under way.
pub(super) struct Hooks {
    places: Arc<Semaphore>,
    tls: Arc<OnceLock<TlsClient>>,
    tasks: Tasks,
}

impl Hooks {
    pub(super) fn new(tasks: Tasks) -> Hooks {
        Hooks { places: Arc::new(Semaphore::new(AT_ONCE)), tls: Arc::default(), tasks }
    }

    /// Asks; the answer comes as an event. Nothing comes after the time that the call waits: it has gone on by then.
    pub(super) fn ask(&self, call: CallId, url: String, body: String, within: std::time::Duration) {
        let place = self.places.clone().try_acquire_owned();
        let (tls, tasks, stop) = (self.tls.clone(), self.tasks.clone(), self.tasks.stop.clone());
        self.tasks.tracker.spawn(async move {
            let asked = async {
                let _place = place.map_err(|_| HookError::TooMany)?;
                let (status, text) = post(Post { url: &url, body, headers: &[], most: MOST_ANSWER }, &tls).await?;
                if status == StatusCode::OK { Ok(text) } else { Err(HookError::Status(status)) }
            };
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = timeout(within, asked) => answer,
            };
            let answer = match answer {
                Ok(Ok(answer)) => Some(answer),
                Ok(Err(error)) => {
                    tracing::warn!(%call, server = server(&url), %error, "a web hook does not answer");
                    None
                }
                Err(_) => return, // the call knows the time too
            };
            let _ = tasks.events.send(Event::Switch(Input::Answered { call, answer })).await; // the driver may be gone
        });
    }
}
