//! Connections that programs have closed, with bytes in them that the peer has not acknowledged.
//!
//! The kernel goes on with them by itself. What is left to do: to give them a moment when the node ends, and to give
//! them up where the kernel would do that after hours only.

use std::time::{Duration, Instant};

use crate::driver::node::Node;

/// How often to look where the kernel is too patient.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// An orphan whose peer was not heard for this long is given up there, as elsewhere by the kernel.
const SILENCE: Duration = Duration::from_secs(100);

impl Node {
    /// Whether something that a program wrote before it closed a connection is still on its way.
    pub fn ending(&self) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| !kernel.kernel.orphans().is_empty())
    }

    pub(super) fn tick_orphans(&mut self, now: Instant) {
        let Some(kernel) = self.kernel.as_mut().filter(|kernel| !kernel.kernel.sockets.gives_up_orphans()) else {
            return;
        };
        if kernel.looked_at.is_some_and(|at| now.saturating_duration_since(at) < LOOK_EVERY) {
            return;
        }
        kernel.looked_at = Some(now);
        for ends in kernel.kernel.orphans() {
            let silent = self.kernel.as_ref().is_some_and(|kernel| kernel.connections.silent(now, &ends, SILENCE));
            if silent {
                self.kernel_reset(now, &ends);
            }
        }
    }
}
