//! [`Starter`]: the one thread that keeps the privileges of the start until the start is done.
//!
//! Capabilities and users belong to threads. This one is started first; then the main thread
//! gives up, and with it all that it starts: the runtime's threads never held anything. The
//! reading thread is started from here, after this one, too, has given up the rest.

use std::sync::mpsc::{self, Sender};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The thread; it ends when this is dropped and its last job is done.
#[derive(Debug)]
pub struct Starter(Sender<Job>);

impl Starter {
    /// Starts it, with all that the calling thread may do.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start() -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("meshtap-start".to_owned()).spawn(move || {
            while let Ok(job) = jobs.recv() {
                job();
            }
        })?;
        Ok(Self(sender))
    }

    /// Has the thread do a piece of work, which may block; `None`: it ended by a defect.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // Where nobody waits any more the result is not missed.
            let _ = sender.send(work());
        });
        self.0.send(job).ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Starter;

    #[tokio::test]
    async fn work_is_done_in_its_order_in_one_thread_and_a_defect_is_told() {
        let starter = Starter::start().unwrap();
        let first = starter.run(|| std::thread::current().id()).await.unwrap();
        let second = starter.run(|| std::thread::current().id()).await.unwrap();
        assert_eq!(first, second);
        assert_ne!(first, std::thread::current().id());
        let defect = starter.run(|| panic!("this is wanted")).await;
        assert!(defect.is_none());
        assert!(starter.run(|| ()).await.is_none());
    }
}
