//! Signals to end, for programs that take away what they made before they go.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT and SIGTERM do not end this process: the first of them does `then`.
pub fn instead_of_ending(then: impl FnOnce() + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut keyboard = signal(SignalKind::interrupt())?;
    let mut order = signal(SignalKind::terminate())?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = keyboard.recv() => {}
                _ = order.recv() => {}
            }
        });
        then();
    });
    Ok(())
}
