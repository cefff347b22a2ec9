//! How the API's tasks talk to the loop that owns the core: bounded, with an end to every wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::message::ReplyBody;
use contract::time::Now;
use hub_core::Core;
use hub_core::api::{Answer, Request, RequestId};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for the loop. It takes thousands a second; a full queue is answered at once.
pub const ASKS_MAX: usize = 256;
/// An answer waits for one fsync. A disk that takes longer is not waited for by the client, but the
/// request may still succeed: the error says so.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Replies of an agent (≤ 16 KiB each) that a slow client has not taken yet: 1 MiB.
pub const REPLIES_MAX: usize = 64;

/// Reads the core; runs on the loop, so it must be short.
type Look = Box<dyn FnOnce(&Core, Now) + Send>;

pub enum Ask {
    Request {
        id: RequestId,
        request: Box<Request>,
        said: mpsc::Sender<Said>,
    },
    /// The client is gone.
    Abandoned(RequestId),
    Look(Look),
    /// Told when everything decided so far is durable.
    Settled(oneshot::Sender<()>),
}

/// What the core says to a request: one answer, and for a command its replies after that.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Answer(Answer),
    Reply(ReplyBody),
    /// Not taken: the store's disk is full.
    NoRoom(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("the hub is busy; try again")]
    Busy,
    #[error("nothing can be changed until there is room on the hub's disk: {0}")]
    NoRoom(String),
    #[error("the hub is stopping")]
    Stopping,
    #[error("no answer within {} s; the request may or may not have been done", ANSWER_WAIT_MAX.as_secs())]
    Slow,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    next_request: Arc<AtomicU64>,
}

impl Handle {
    pub fn new() -> (Handle, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(ASKS_MAX);
        (Handle { asks, next_request: Arc::new(AtomicU64::new(1)) }, receiver)
    }

    /// A request and its one answer.
    pub async fn request(&self, request: Request) -> Result<Answer, AskError> {
        let mut exchange = self.open(request)?;
        match exchange.next().await? {
            Some(Said::Answer(answer)) => Ok(answer),
            _ => Err(AskError::Stopping),
        }
    }

    /// A request whose replies follow.
    pub fn open(&self, request: Request) -> Result<Exchange, AskError> {
        let id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (said, hear) = mpsc::channel(REPLIES_MAX);
        self.send(Ask::Request { id, request: Box::new(request), said })?;
        Ok(Exchange { id, hear, asks: self.asks.clone(), answered: false })
    }

    /// Read the core between two of its steps.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, Now) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let (send, receive) = oneshot::channel();
        self.send(Ask::Look(Box::new(move |core, now| drop(send.send(look(core, now))))))?;
        receive.await.map_err(|_| AskError::Stopping)
    }

    /// Wait until everything decided so far is durable.
    pub async fn settled(&self) -> Result<(), AskError> {
        let (send, receive) = oneshot::channel();
        self.send(Ask::Settled(send))?;
        receive.await.map_err(|_| AskError::Stopping)
    }

    fn send(&self, ask: Ask) -> Result<(), AskError> {
        self.asks.try_send(ask).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Stopping,
        })
    }
}

/// One open request. Dropped, it tells the core that nobody waits any more.
pub struct Exchange {
    id: RequestId,
    hear: mpsc::Receiver<Said>,
    asks: mpsc::Sender<Ask>,
    answered: bool,
}

impl Exchange {
    /// The answer first, bounded in time; then replies for as long as the core sends any.
    pub async fn next(&mut self) -> Result<Option<Said>, AskError> {
        let said = if self.answered {
            self.hear.recv().await
        } else {
            tokio::time::timeout(ANSWER_WAIT_MAX, self.hear.recv()).await.map_err(|_| AskError::Slow)?
        };
        self.answered = true;
        match said {
            Some(Said::NoRoom(reason)) => Err(AskError::NoRoom(reason)),
            said => Ok(said),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // A full queue may swallow it; the loop notices a closed channel at the next reply as well.
        if !self.hear.is_closed() {
            let _ = self.asks.try_send(Ask::Abandoned(self.id));
        }
    }
}
