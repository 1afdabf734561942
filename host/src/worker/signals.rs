//! The operating system's signals, for programs that leave them to the worker.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use super::Shutdown;

/// A signal that stops a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// From a service manager.
    Terminate,
    /// Ctrl-C.
    Interrupt,
    /// The terminal is gone.
    HangUp,
}

impl StopSignal {
    /// The number that shells add to 128 for an exit code.
    pub const fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct SignalListener {
    first: Arc<OnceLock<StopSignal>>,
    task: JoinHandle<()>,
}

impl SignalListener {
    /// The signal that came first, if one has come.
    pub fn received(&self) -> Option<StopSignal> {
        self.first.get().copied()
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands SIGTERM, SIGINT and SIGHUP to `shutdown`: the first one stops gracefully, the second at
/// once. Must be called within a tokio runtime.
///
/// # Errors
/// The system does not let this process listen.
pub fn listen(shutdown: Shutdown) -> io::Result<SignalListener> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let first = Arc::new(OnceLock::new());
    let seen = Arc::clone(&first);
    let task = tokio::spawn(async move {
        loop {
            let received = tokio::select! {
                Some(()) = terminate.recv() => StopSignal::Terminate,
                Some(()) = interrupt.recv() => StopSignal::Interrupt,
                Some(()) = hang_up.recv() => StopSignal::HangUp,
                else => return,
            };
            let how = if shutdown.is_stopping() {
                "at once"
            } else {
                "gracefully"
            };
            tracing::info!(signal = ?received, how, "stopping on a signal");
            let _ = seen.set(received);
            shutdown.request();
        }
    });
    Ok(SignalListener { first, task })
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_stops_gracefully_and_the_second_at_once() {
        let shutdown = Shutdown::new();
        let listener = listen(shutdown.clone()).unwrap();
        assert_eq!(listener.received(), None);
        raise(Signal::SIGHUP).unwrap();
        shutdown.stopping().await;
        assert_eq!(listener.received(), Some(StopSignal::HangUp));
        raise(Signal::SIGTERM).unwrap();
        shutdown.stopping_now().await;
        assert_eq!(listener.received(), Some(StopSignal::HangUp));
    }
}
