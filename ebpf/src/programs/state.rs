//! Every map, with what it costs.
//!
//! Socket storage is charged to the socket (`optmem_max`, 20 KiB on 5.10): three maps
//! together hold 1 KiB for a socket that speaks HTTP and 72 bytes for any other; a fourth one
//! 1.8 KB for one on which calls of HTTP/2 are counted.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::{addr_of, null, null_mut};

use super::held::Tuple;
use super::waiting::Held;

use aya_ebpf::bindings::{bpf_sock, bpf_spin_lock};
use aya_ebpf::btf_maps::{
    Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SkStorage,
};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;
use meshtap_ebpf::event::{Ended, Endpoint, LOSSES, Loss, Owner};
use meshtap_ebpf::flow::Flow;
use meshtap_ebpf::host::FIGURES;
use meshtap_ebpf::limits::RING_BYTES;
use meshtap_ebpf::repeat::{Control, Counts, SLOTS};
use meshtap_ebpf::streams::{Expected, MARKED, Streams};
use meshtap_ebpf::walk::Shared;

/// [`Connection::marks`]: an `Opened` record was sent.
pub const OPENED: u16 = 1;
/// FIN was received.
pub const FIN_IN: u16 = 2;
/// FIN was sent.
pub const FIN_OUT: u16 = 4;
/// RST was received.
pub const RESET_IN: u16 = 8;
/// RST was sent.
pub const RESET_OUT: u16 = 16;
/// The connection is older than the agent.
pub const LATE: u16 = 32;
/// Never look at its payload again.
pub const OPAQUE: u16 = 64;
/// Its packets were compared with its socket's addresses.
pub const COMPARED: u16 = 128;
/// It is a server's and has carried bytes: nothing waits for it at the listener any more.
pub const BEGUN: u16 = 256;

/// What both of its ends know it by is noted: see [`super::sample`].
pub const JUDGED: u16 = 512;

/// What is kept for every TCP socket: 40 bytes.
#[repr(C)]
pub struct Connection {
    /// While connecting: when `connect()` sent its SYN, in nanoseconds. Until an accepted
    /// socket is announced: when it was established, in nanoseconds. After: when the next
    /// statistics record is due, in jiffies; 0: none was due yet.
    pub due: u64,
    /// What the program asked `connect()` for.
    pub asked: Endpoint,
    /// Records that found no room since the last one that did.
    pub lost: u16,
    /// See the constants above.
    pub marks: u16,
    /// `ROLE_*`.
    pub role: u8,
    /// How many connections it stands for: an exponent of two, in the upper four bits.
    pub weight: u8,
    /// Zero.
    pub pad: [u8; 2],
    /// What both of its ends know it by, once it was judged.
    pub key: u32,
}

/// What is kept for a socket that may speak HTTP. The kernel puts it eight bytes behind
/// the beginning of a cache line: what both directions touch ends with that line.
#[repr(C)]
pub struct Http {
    /// Guards [`Http::busy`] where processors reorder.
    pub lock: bpf_spin_lock,
    /// Programs at work on a flow: 16 bits a direction.
    pub busy: u32,
    /// Common to both directions.
    pub shared: Shared,
    /// By direction.
    pub flows: [Flow; 2],
}

const _: () = assert!(core::mem::offset_of!(Http, flows) == 56);

/// The process behind a socket and its cgroup.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Holder {
    /// The process.
    pub owner: Owner,
    /// Its cgroup when it made the socket.
    pub cgroup: u64,
}

const _: () = assert!(size_of::<Http>() + size_of::<Connection>() + size_of::<Holder>() <= 1024);

/// 40 bytes a socket.
#[btf_map]
pub static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// One per socket that may speak HTTP.
#[btf_map]
pub static HTTP: SkStorage<Http> = SkStorage::new();

/// A map definition that aya's type cannot express: flags.
#[repr(C)]
pub struct InheritedStorage {
    r#type: *const [i32; 24],
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 513],
    key: *const i32,
    value: *const Holder,
}

// SAFETY: only its layout matters, nothing reads it.
unsafe impl Sync for InheritedStorage {}

/// 32 bytes a socket; accepted sockets inherit it from their listener
/// (`BPF_F_NO_PREALLOC | BPF_F_CLONE`), since they never pass `sock_create`.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".maps")]
pub static HOLDERS: InheritedStorage = InheritedStorage {
    r#type: null(),
    max_entries: null(),
    map_flags: null(),
    key: null(),
    value: null(),
};

/// Everything that leaves the kernel; the loader sets its size.
#[btf_map]
pub static RING: RingBuf<u8, { RING_BYTES as usize }> = RingBuf::new();

/// Losses by cause: 40 bytes a CPU.
#[btf_map]
pub static LOST: PerCpuArray<u64, { LOSSES as usize }> = PerCpuArray::new();

/// The share of connections that are followed, as [`meshtap_ebpf::sample`] counts it: 8 bytes
/// that the agent writes.
#[btf_map]
pub static SHARE: Array<u32, 1> = Array::new();

/// Whether every program is attached: 8 bytes that the agent writes once. **Until then no
/// connection is made**, so that one of which anything passed before is older than the agent.
#[btf_map]
pub static ATTACHED: Array<u32, 1> = Array::new();

/// Connections that are left out: 8 bytes a CPU.
#[btf_map]
pub static LEFT_OUT: PerCpuArray<u64, 1> = PerCpuArray::new();

/// What belongs to no connection, by [`meshtap_ebpf::host`]: one entry of 1,568 bytes a
/// CPU, so that the agent reads all figures at once.
#[btf_map]
pub static HOST: PerCpuArray<[u64; FIGURES], 1> = PerCpuArray::new();

/// Cookies of connections older than the agent, whose end no `sock_ops` callback
/// tells: 65,536 entries of 16 bytes, about 5 MB, allocated as they come.
#[btf_map]
pub static LATE_CONNECTIONS: LruHashMap<u64, u64, 65_536> = LruHashMap::new();

/// The parts of the programs for packets that arrive, by [`super::part`]. One map per
/// direction: the kernel binds such a map to one type of attachment.
#[btf_map]
pub static INGRESS_PARTS: ProgramArray<11> = ProgramArray::new();

/// The same for packets that leave.
#[btf_map]
pub static EGRESS_PARTS: ProgramArray<11> = ProgramArray::new();

/// Ends of connections of which the record found no room, by cookie: 8,192 entries of 24
/// bytes, 600 KB in all.
#[btf_map]
pub static ENDED: HashMap<u64, Ended, 8_192> = HashMap::new();

/// A stream of a connection, in one direction.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StreamKey {
    /// Of the socket.
    pub cookie: u64,
    /// The stream, and above it the direction.
    pub stream: u64,
}

/// Places in messages that go on in a later DATA frame, of streams that others have
/// interrupted: 8,192 entries of 24 bytes, 700 KB in all.
#[btf_map]
pub static PLACES: LruHashMap<StreamKey, u64, 8_192> = LruHashMap::new();

/// First requests that came to a listener: 256 entries of about 2.3 KB, 600 KB in all.
#[btf_map]
pub static HELD: LruHashMap<Tuple, Held, 256> = LruHashMap::new();

/// What calls are counted here, by pairs of slots: 4,096 entries of 48 bytes, 200 KB in all.
#[btf_map]
pub static CONTROLS: Array<[Control; 2], { SLOTS as usize / 2 }> = Array::new();

/// Their counts: 8,192 entries of 120 bytes, 980 KB in all.
#[btf_map]
pub static COUNTS: Array<Counts, { SLOTS as usize }> = Array::new();

/// What is expected of those that are HTTP/2: 8,192 entries of 32 bytes, 260 KB in all.
#[btf_map]
pub static EXPECTED: Array<Expected, { SLOTS as usize }> = Array::new();

/// Whether calls of HTTP/2 are counted on connections, by [`meshtap_ebpf::streams::mark`] of
/// their cookies: 32 KB.
#[btf_map]
pub static MARKS: Array<u32, { MARKED as usize }> = Array::new();

/// Streams that wait to be counted: 1.8 KB for a connection on which any ever did.
#[btf_map]
pub static STREAMS: SkStorage<Streams> = SkStorage::new();

/// Where a segment that was set aside belongs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AsideKey {
    /// Of the socket.
    pub cookie: u64,
    /// Sequence number of its first byte.
    pub sequence: u64,
}

/// Pieces of segments that arrived ahead of a hole: 1,024 entries of about 2.3 KB, 2.4 MB in
/// all.
#[btf_map]
pub static ASIDE: LruHashMap<AsideKey, Held, 1_024> = LruHashMap::new();

/// The socket's connection, made if `create`.
///
/// # Safety
/// `sk` must be a socket that the verifier knows.
#[inline(always)]
pub unsafe fn connection(sk: *mut c_void, create: bool) -> Option<&'static mut Connection> {
    // SAFETY: by the contract; the storage lives as long as the program runs (RCU).
    unsafe {
        let value =
            bpf_sk_storage_get(map(&raw const CONNECTIONS), sk, null_mut(), u64::from(create));
        value.cast::<Connection>().as_mut()
    }
}

/// The socket's HTTP state, made if `create`.
///
/// # Safety
/// As for [`connection`].
#[inline(always)]
pub unsafe fn http(sk: *mut c_void, create: bool) -> *mut Http {
    // SAFETY: as above.
    unsafe { bpf_sk_storage_get(map(&raw const HTTP), sk, null_mut(), u64::from(create)).cast() }
}

/// The socket's streams that wait, made if `create`; null: there are none.
///
/// # Safety
/// As for [`connection`].
#[inline(always)]
pub unsafe fn streams(sk: *mut bpf_sock, create: bool) -> *mut Streams {
    // SAFETY: as above.
    unsafe {
        let map = map(&raw const STREAMS);
        bpf_sk_storage_get(map, sk.cast(), null_mut(), u64::from(create)).cast()
    }
}

/// Forgets the socket's HTTP state.
///
/// # Safety
/// As for [`connection`].
#[inline(always)]
pub unsafe fn forget_http(sk: *mut c_void) {
    // SAFETY: as above; a program at work on it keeps it until it ends (RCU).
    unsafe { aya_ebpf::helpers::generated::bpf_sk_storage_delete(map(&raw const HTTP), sk) };
}

/// The process that holds the socket, made if `create`.
///
/// # Safety
/// As for [`connection`].
#[inline(always)]
pub unsafe fn holder(sk: *mut c_void, create: bool) -> *mut Holder {
    // SAFETY: as above.
    unsafe { bpf_sk_storage_get(map(addr_of!(HOLDERS)), sk, null_mut(), u64::from(create)).cast() }
}

#[inline(always)]
fn map<T>(definition: *const T) -> *mut c_void {
    definition.cast_mut().cast()
}

/// Counts a loss.
#[inline(always)]
pub fn count(loss: Loss) {
    if let Some(value) = LOST.get_ptr_mut(loss as u32) {
        // SAFETY: an aligned eight-byte value of the map.
        unsafe { increment(value) };
    }
}

/// The share of connections that are followed.
#[inline(always)]
pub fn share() -> u32 {
    SHARE.get(0).map_or(0, |share| *share)
}

/// Whether every program is attached.
#[inline(always)]
pub fn is_attached() -> bool {
    ATTACHED.get(0).is_some_and(|attached| *attached != 0)
}

/// Counts a connection that is left out.
#[inline(always)]
pub fn count_left_out() {
    if let Some(value) = LEFT_OUT.get_ptr_mut(0) {
        // SAFETY: an aligned eight-byte value of the map.
        unsafe { increment(value) };
    }
}

/// Counts what belongs to the host; `figure` is below [`FIGURES`].
#[inline(always)]
pub fn count_for_host(figure: u32) {
    if let Some(figures) = HOST.get_ptr_mut(0) {
        // SAFETY: an aligned eight-byte part of the map's value.
        unsafe { increment(figures.cast::<u64>().add(figure as usize)) };
    }
}

/// Adds one. Atomic: with full preemption even per-CPU values are shared.
///
/// # Safety
/// `place` must be an aligned value of a map.
#[inline(always)]
unsafe fn increment(place: *mut u64) {
    // SAFETY: by the contract.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({place} + 0) += {one}",
            place = in(reg) place,
            one = in(reg) 1u64,
        );
    }
}
