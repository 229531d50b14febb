//! The keys of `privileges` and `limits`: what the agent may do, and use.

use super::reader::{Bounds, Key, Reader};
use super::scalar::Size;
use super::settings::section;

section! {
    /// What the agent may do once it runs: what only its start needs is given up then.
    Privileges = "privileges" {
        /// User, and group of the same number, that the agent becomes where it was started as
        /// root; 0: it stays root. It keeps the capabilities that reading takes, and nothing is
        /// lost. Other processes of the user may end it: a user of its own is better where
        /// people log in. Root stays where `kubernetes.kubeconfig` is used, which may name a
        /// command to run.
        user: usize = 65_534, Bounds::between(0, 4_294_967_294);
    }
}

section! {
    /// What the agent may use. Beyond a limit it follows a share of the connections, by steps of
    /// a half down to 1 in 64, and counts each call of those as often as it stands for: counts
    /// stay right in the mean, and become less exact. The connections are chosen at random; when
    /// the share falls, some of those that are followed are left out, too, with what is under way
    /// on them, which is counted as lost. Metrics of TCP connections stay whole, and
    /// `meshtap_capture_share` says what the share is. A connection that was left out stays so.
    /// With room to spare the agent goes back, a step every ten seconds. Where 1 in 64 is still
    /// too much for 30 s, or memory reaches its limit, the agent takes its programs out of the
    /// kernel and ends with exit code 5, so that whoever supervises it starts it again, later.
    Limits = "limits" {
        /// Processor time of the agent, as a share of one core, and of its programs in the kernel
        /// where the kernel measures that (`kernel.bpf_stats_enabled`); `null`: no limit. What the
        /// start takes does not count.
        cpu: Option<f64> = None, Bounds::between_if_given(0.01, 1024.0);
        /// Resident memory of the agent; `null`: no limit. From 90 % of it on, only 1 in 64
        /// connections is followed, and free memory is given back.
        memory: Option<Size> = None, Bounds::between_if_given(Size(32 << 20), Size(1 << 50));
    }
}
