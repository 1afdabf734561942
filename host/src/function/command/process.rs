//! A process in a group of its own, which is killed with everything it started.

use std::{io, time::Duration};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// How long a process may clean up after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// A child process and everything in its group. Dropping it kills them all.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    pub(super) child: Child,
    group: Option<Pid>,
}

impl ProcessGroup {
    pub(super) fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// The process has ended by itself; what it left running is killed.
    pub(super) fn finished(mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            signal(group, Signal::SIGKILL);
        }
    }

    /// Asks the group to end, and kills it when it does not.
    async fn end(mut self) {
        let Some(group) = self.group else { return };
        if signal(group, Signal::SIGTERM) {
            let _ended = tokio::time::timeout(GRACE, self.child.wait()).await;
        }
        self.kill();
        // Reaps it, so that it does not stay as a zombie.
        let _ = self.child.wait().await;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `false` when the group has ended already.
fn signal(group: Pid, signal: Signal) -> bool {
    !matches!(killpg(group, signal), Err(Errno::ESRCH))
}

/// A process group that is ended with a grace when its run is dropped: timed out or cancelled.
#[derive(Debug)]
pub(super) struct EndOnDrop(pub(super) Option<ProcessGroup>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let Some(group) = self.0.take() else {
            return;
        };
        // Outside of a runtime, dropping the group kills it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(group.end()));
        }
    }
}
