//! What each type of program may do: which helpers, which fields of its context.
//!
//! Whatever is not listed is refused. **A line here widens what the agent may do to
//! a host**: it needs a reason.

use std::ops::Range;

use anyhow::{Result, bail};

/// `bpf_tail_call`: does not return where it succeeds.
pub const TAIL_CALL: i32 = 12;
/// `bpf_for_each_map_elem(map, callback, context, flags)`.
pub const FOR_EACH: i32 = 164;
/// `bpf_loop(count, callback, context, flags)`.
pub const LOOP: i32 = 181;

/// Helpers that observe: none changes a packet, a socket, a process or a return value.
const OBSERVING: &[(i32, &str)] = &[
    (1, "map_lookup_elem"),
    (2, "map_update_elem"),
    (3, "map_delete_elem"),
    (5, "ktime_get_ns"),
    (7, "get_prandom_u32"),
    (8, "get_smp_processor_id"),
    (TAIL_CALL, "tail_call"),
    (14, "get_current_pid_tgid"),
    (15, "get_current_uid_gid"),
    (16, "get_current_comm"),
    (25, "perf_event_output"),
    (26, "skb_load_bytes"),
    (35, "get_current_task"),
    (46, "get_socket_cookie"),
    (47, "get_socket_uid"),
    (57, "getsockopt"),
    (68, "skb_load_bytes_relative"),
    (79, "skb_cgroup_id"),
    (80, "get_current_cgroup_id"),
    (83, "skb_ancestor_cgroup_id"),
    (93, "spin_lock"),
    (94, "spin_unlock"),
    (95, "sk_fullsock"),
    (96, "tcp_sock"),
    (98, "get_listener_sock"),
    (107, "sk_storage_get"),
    (108, "sk_storage_delete"),
    (112, "probe_read_user"),
    (113, "probe_read_kernel"),
    (114, "probe_read_user_str"),
    (115, "probe_read_kernel_str"),
    (118, "jiffies64"),
    (122, "get_netns_cookie"),
    (123, "get_current_ancestor_cgroup_id"),
    (125, "ktime_get_boot_ns"),
    (128, "sk_cgroup_id"),
    (129, "sk_ancestor_cgroup_id"),
    (130, "ringbuf_output"),
    (131, "ringbuf_reserve"),
    (132, "ringbuf_submit"),
    (133, "ringbuf_discard"),
    (134, "ringbuf_query"),
    (142, "load_hdr_opt"),
    (156, "task_storage_get"),
    (157, "task_storage_delete"),
    (160, "ktime_get_coarse_ns"),
    (FOR_EACH, "for_each_map_elem"),
    (174, "get_attach_cookie"),
    (LOOP, "loop"),
    (182, "strncmp"),
    (187, "map_lookup_percpu_elem"),
];

/// Helpers that write to memory of the program: which argument points there, which says how much.
const FILLING: &[(i32, usize, usize)] = &[
    (16, 0, 1),
    (26, 2, 3),
    (57, 3, 4),
    (68, 2, 3),
    (112, 0, 1),
    (113, 0, 1),
    (114, 0, 1),
    (115, 0, 1),
    (142, 1, 2),
];

/// `sock_ops_cb_flags_set`: asks the kernel for callbacks of this one socket, and changes nothing else.
const SOCK_OPS_CB_FLAGS_SET: i32 = 59;

/// What one type of program may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of the context that may be written without any effect on the host.
    pub scratch: Range<i64>,
    /// One more helper that only this type knows.
    pub extra_helper: Option<i32>,
    /// What a result other than 1 does.
    pub otherwise: &'static str,
}

impl Rules {
    /// The rules for the programs of an ELF section.
    pub fn of(section: &str) -> Result<Self> {
        let kind = section.split('/').next().unwrap_or(section);
        let (scratch, extra_helper, otherwise) = match kind {
            // `__sk_buff::cb`: saved before the programs run and restored behind them.
            "cgroup_skb" => (48..68, None, "drops the packet"),
            "cgroup" if matches!(section, "cgroup/skb") => (48..68, None, "drops the packet"),
            "cgroup" => (0..0, None, "refuses the system call"),
            "sockops" | "sock_ops" => {
                (0..0, Some(SOCK_OPS_CB_FLAGS_SET), "replaces another program's reply")
            }
            "tracepoint" | "tp" => (0..0, None, "hides the event from other observers"),
            "uprobe" | "uretprobe" => (0..0, None, "hides the event from other observers"),
            _ => bail!("no rules are written for programs of section {section}"),
        };
        Ok(Self { scratch, extra_helper, otherwise })
    }

    /// Whether the helper only observes.
    #[must_use]
    pub fn allows_helper(&self, number: i32) -> bool {
        self.extra_helper == Some(number) || OBSERVING.iter().any(|&(allowed, _)| allowed == number)
    }

    /// Arguments (from 0) with the buffer that a helper writes to, and its length.
    #[must_use]
    pub fn fills(&self, number: i32) -> Option<(usize, usize)> {
        FILLING
            .iter()
            .find(|&&(helper, ..)| helper == number)
            .map(|&(_, buffer, length)| (buffer, length))
    }
}
