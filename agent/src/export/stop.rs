//! How exporters learn that the program ends: a request to stop with a deadline.

use tokio::sync::watch;
use tokio::time::Instant;

/// The end that asks.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Instant>>);

/// The end that listens. A [`Stopper`] that is gone asks for nothing.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<Instant>>);

impl Default for Stopper {
    fn default() -> Self {
        Self::new()
    }
}

impl Stopper {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// A listener.
    #[must_use]
    pub fn stop(&self) -> Stop {
        Stop(self.0.subscribe())
    }

    /// Asks everyone to finish by `deadline`.
    pub fn request(&self, deadline: Instant) {
        self.0.send_replace(Some(deadline));
    }
}

impl Stop {
    /// By when to finish, once that was asked.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits until a stop is asked for; gives its deadline. Safe to cancel.
    pub async fn requested(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await.map(|deadline| *deadline) {
            Ok(Some(deadline)) => deadline,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
