//! Switches and limits that the loader freezes before the programs are verified:
//! the verifier knows them and prunes what they turn off. The level of logging is
//! `aya_log_ebpf`'s own `AYA_LOG_LEVEL`.

use core::ptr::read_volatile;

use meshtap_ebpf::flow::opaque;
use meshtap_ebpf::repeat::KEYS;

macro_rules! frozen {
    ($($(#[$doc:meta])* $name:ident / $getter:ident: $type:ty = $default:expr;)+) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            static $name: $type = $default;

            $(#[$doc])*
            #[inline(always)]
            pub fn $getter() -> $type {
                // SAFETY: a static of this object; volatile, since the loader overwrites it.
                unsafe { read_volatile(&raw const $name) }
            }
        )+
    };
}

frozen! {
    /// Bytes of a request's head that are sent.
    HEAD_PREFIX / head_prefix: u32 = meshtap_ebpf::limits::HEAD_PREFIX;
    /// 1: `bpf_get_netns_cookie` exists for `cgroup_skb`.
    PACKET_NETNS / packet_netns: u32 = 0;
    /// 1: `bpf_get_netns_cookie` exists for `sock_ops`.
    SOCKET_NETNS / socket_netns: u32 = 0;
    /// 1: processors write in the order that the program says, and read what they wrote (x86).
    IS_STRONGLY_ORDERED / is_strongly_ordered: u32 = 0;
    /// 1: calls that repeat are counted in the kernel.
    REPEATS / repeats: u32 = 0;
    /// Jiffies between two statistics records of a connection.
    REPORT_JIFFIES / report_jiffies: u64 = 2500;
    /// Where `tcp:tcp_destroy_sock` holds the socket cookie.
    DESTROY_COOKIE / destroy_cookie: u32 = 64;
    /// Where `sched:sched_process_exec` holds the place of the file name.
    EXEC_FILE_NAME / exec_file_name: u32 = 8;
    /// Where `skb:kfree_skb` holds the reason.
    DROP_REASON / drop_reason: u32 = 36;
    /// Where `tcp:tcp_retransmit_skb` holds how it went; 0: it does not say.
    RETRANSMIT_ERROR / retransmit_error: u32 = 0;
}

/// Secret words of [`meshtap_ebpf::repeat::tag`].
#[unsafe(no_mangle)]
static REPEAT_KEYS: [u64; KEYS] = [0; KEYS];

/// One of them; 0 beyond the last.
#[inline(always)]
pub fn repeat_key(index: usize) -> u64 {
    let index = opaque(index);
    if index >= KEYS {
        return 0;
    }
    // SAFETY: within a static of this object; volatile, since the loader overwrites it.
    unsafe { read_volatile((&raw const REPEAT_KEYS).cast::<u64>().add(index)) }
}
