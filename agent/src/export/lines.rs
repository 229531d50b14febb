//! The thread that writes lines to standard output: a reader that stalls stalls only it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::otlp::delivery::Counters;
use super::queue::{BatchLimits, Receiver};
use super::stop::Stop;

/// Lines are written as they come; those that came meanwhile go together.
const LIMITS: BatchLimits = BatchLimits { items: 1_024, bytes: 256 << 10, delay: Duration::ZERO };

/// Starts the thread. What it returns resolves when the thread has ended.
pub(super) fn start(
    runtime: &Handle,
    mut queue: Receiver<Vec<u8>>,
    mut output: Box<dyn Write + Send>,
    counters: Arc<Counters>,
    mut stop: Stop,
) -> std::io::Result<oneshot::Receiver<()>> {
    let (done, written) = oneshot::channel();
    let runtime = runtime.clone();
    std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        while let Some(batch) = runtime.block_on(queue.batch(LIMITS, &mut stop)) {
            let (lines, _charge) = batch.into_parts();
            let count = lines.len() as u64;
            if let Err(error) = output.write_all(&lines.concat()).and_then(|()| output.flush()) {
                counters.failed.fetch_add(count, Ordering::Relaxed);
                tracing::error!("the access log ends: standard output cannot be written: {error}");
                break;
            }
            counters.exported.fetch_add(count, Ordering::Relaxed);
        }
        queue.abandon(0);
        // Nobody may be waiting.
        let _ = done.send(());
    })?;
    Ok(written)
}
