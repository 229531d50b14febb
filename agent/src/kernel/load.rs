//! Loads the embedded object: sizes its maps, freezes its switches, verifies and
//! attaches its programs. With `attach.rs` and `ring_buffer/reader.rs` the only
//! place that names aya.

use std::os::fd::OwnedFd;

use aya::maps::{Array, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use meshtap_ebpf::event::{Ended, LOSSES, Loss};
use meshtap_ebpf::host::FIGURES;
use rustix::time::{ClockId, clock_getres};

use super::attach::{self, AttachError};
use super::cgroup::{self, CgroupError};
use super::events::Events;
use super::features::{Features, Switches};
use super::host::{HostFigures, Legend};
use super::privilege::{self, Need, Privileges};
use super::repeats::{Keys, Repeats};
use super::share::{self, Share};
use super::tables::{Filled, Tables};

/// The object as `cargo xtask ebpf` built it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/meshtap.bpf.o"));

/// What is missing where calls that repeat cannot be counted in the kernel.
const COUNTING: &str = "counting in the kernel";

/// What the loader freezes into the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSettings {
    /// Bytes of the ring: a power of two, a multiple of the page size.
    pub ring_bytes: u32,
    /// Bytes of a request's head that leave the kernel.
    pub head_prefix: u32,
    /// Milliseconds between two reports of a connection that goes on.
    pub report_ms: u32,
    /// Kernel-side logging: 0 off, 1 error, 2 warn, 3 info, 4 debug.
    pub log_level: u8,
    /// Calls that repeat are counted in the kernel.
    pub repeats: bool,
    /// What their heads are hashed with.
    pub keys: Keys,
}

impl Default for LoadSettings {
    fn default() -> Self {
        Self {
            ring_bytes: meshtap_ebpf::limits::RING_BYTES,
            head_prefix: meshtap_ebpf::limits::HEAD_PREFIX,
            report_ms: 10_000,
            log_level: 0,
            repeats: false,
            keys: Keys::draw(),
        }
    }
}

/// The switches that decide which branches the verifier sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// Programs on packets ask for the network namespace's cookie.
    pub packet_netns: bool,
    /// The program on a connection's life asks for it.
    pub socket_netns: bool,
    /// Processors write in the order that programs say.
    pub strongly_ordered: bool,
}

impl Frozen {
    /// As this kernel and this processor want it.
    #[must_use]
    pub fn of(switches: Switches) -> Self {
        Self {
            packet_netns: switches.netns_cookie,
            socket_netns: switches.sock_ops_netns_cookie,
            strongly_ordered: cfg!(target_arch = "x86_64"),
        }
    }
}

/// Why the kernel half does not run. Every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No cgroup v2 root.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The capabilities without which nothing can be loaded and attached are not held.
    #[error(
        "not allowed to see traffic: {0} not held; remedy: run as root, or grant it (in a container: securityContext.capabilities.add, --cap-add); `meshtap doctor` says what else is missing"
    )]
    Privileges(String),
    /// The object or one of its maps was refused.
    #[error(
        "the kernel refused the object: {0}; remedy: `meshtap doctor` says which feature or privilege is missing"
    )]
    Object(String),
    /// A program was refused or could not be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// The running kernel half. Dropping it detaches everything.
pub struct Kernel {
    ring: Option<RingBuf<MapData>>,
    lost: PerCpuArray<MapData, u64>,
    host: PerCpuArray<MapData, [u64; FIGURES]>,
    legend: Legend,
    tables: Tables,
    repeats: Option<Repeats>,
    share: Option<Share>,
    /// Tracepoints are attached for as long as these are held.
    _tracepoints: Vec<OwnedFd>,
    watch: attach::Watch,
    /// Lines that the programs wrote, where logging is on.
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Holds the links; last, so that it is dropped last.
    programs: Ebpf,
    /// What could not be attached and is not necessary, with the reason.
    pub missing: Vec<(String, String)>,
}

impl Kernel {
    /// Loads, verifies and attaches everything.
    ///
    /// # Errors
    /// [`LoadError`] where calls could not be seen; what is only nice to have ends in [`Kernel::missing`].
    pub fn start(settings: LoadSettings, features: &Features) -> Result<Self, LoadError> {
        privileges()?;
        let root = cgroup::find()?;
        let events = Events::read();
        let mut missing = events.missing.clone();
        let mut programs = verified(settings, features, &events, &mut missing)?;
        attach::link_parts(&mut programs)?;
        let tracepoints = attach::tracepoints(&mut programs, &events.numbers, &mut missing);
        attach::cgroup_programs(&mut programs, &root, &mut missing)?;
        begin(&mut programs)?;
        let log = if settings.log_level > 0 { Some(logger(&mut programs)?) } else { None };
        let ring = map(&mut programs, "RING")?;
        let ring = RingBuf::try_from(ring).map_err(describe)?;
        let lost = map(&mut programs, "LOST")?;
        let lost = PerCpuArray::try_from(lost).map_err(describe)?;
        let host = map(&mut programs, "HOST")?;
        let host = PerCpuArray::try_from(host).map_err(describe)?;
        let runs = |program: &str| missing.iter().all(|(name, _)| name != program);
        let legend = Legend::new(&events.drop_reasons, runs);
        let counts = settings.repeats && runs(COUNTING);
        let repeats = counts.then(|| Repeats::take(&mut programs)).flatten();
        give_back_memory();
        Ok(Self {
            ring: Some(ring),
            lost,
            host,
            legend,
            tables: Tables::take(&mut programs),
            repeats,
            share: Share::take(&mut programs),
            watch: attach::Watch::new(&programs, root),
            _tracepoints: tracepoints,
            log,
            programs,
            missing,
        })
    }

    /// The ring buffer, for the reader; once.
    pub fn take_ring(&mut self) -> Option<RingBuf<MapData>> {
        self.ring.take()
    }

    /// The table of calls that the kernel half counts, where it does; once.
    pub fn take_repeats(&mut self) -> Option<Repeats> {
        self.repeats.take()
    }

    /// What says how many connections are followed; once.
    pub fn take_share(&mut self) -> Option<Share> {
        self.share.take()
    }

    /// See [`share::run_time_ns`].
    #[must_use]
    pub fn run_time_ns(&self) -> u64 {
        share::run_time_ns(&self.programs)
    }

    /// How full the kernel half's own tables are; to be asked once a pulse.
    pub fn tables(&mut self) -> Vec<Filled> {
        self.tables.filled()
    }

    /// Takes the ends of connections that found no room in the ring; see [`Tables::ended`].
    pub fn ended(&mut self) -> Vec<(u64, Ended)> {
        self.tables.ended()
    }

    /// A program without which nothing is seen and that somebody else detached, if any.
    #[must_use]
    pub fn detached(&self) -> Option<&'static str> {
        self.watch.detached()
    }

    /// Whether maps can be read, as they are every second, by a thread without privileges.
    #[must_use]
    pub fn is_readable_without_privileges(&self) -> bool {
        privilege::works_without(Need::ReadMaps, || self.host.get(&0, 0).is_ok()).unwrap_or(false)
    }

    /// Hands the lines that the programs wrote since the last time to the log.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// What the programs counted as lost, by cause, since they were loaded.
    #[must_use]
    pub fn losses(&self) -> Vec<(Loss, u64)> {
        const CAUSES: [Loss; LOSSES as usize] =
            [Loss::RingFull, Loss::Storage, Loss::Unreadable, Loss::TailCall, Loss::Held];
        CAUSES
            .into_iter()
            .map(|cause| {
                let counts = self.lost.get(&(cause as u32), 0);
                (cause, counts.map_or(0, |counts| counts.iter().sum()))
            })
            .collect()
    }

    /// What is counted for the host as a whole, since the programs were loaded. Nothing
    /// where it cannot be read: no figure is better than a wrong one.
    #[must_use]
    pub fn host(&self) -> HostFigures {
        match self.host.get(&0, 0) {
            Ok(processors) => self.legend.read(&processors),
            Err(_) => HostFigures::default(),
        }
    }
}

/// The object with the parts of its programs verified. Where the verifier refuses them with
/// the counting of calls that repeat, every call is told.
fn verified(
    settings: LoadSettings,
    features: &Features,
    events: &Events,
    missing: &mut Vec<(String, String)>,
) -> Result<Ebpf, LoadError> {
    let frozen = Frozen::of(features.switches());
    let mut programs = load(settings, frozen, events)?;
    match attach::verify_parts(&mut programs) {
        Err(refused) if settings.repeats => {
            missing.push((COUNTING.to_owned(), refused.to_string()));
            programs = load(LoadSettings { repeats: false, ..settings }, frozen, events)?;
            attach::verify_parts(&mut programs)?;
        }
        result => result?,
    }
    Ok(programs)
}

/// Gives memory that is free back to the system: reading the object and its types leaves
/// megabytes of it behind, which the allocator would keep.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; the allocator locks for itself.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Said before anything is tried: the kernel would only say that it is not permitted.
fn privileges() -> Result<(), LoadError> {
    // Where they cannot be read, trying tells.
    let Ok(held) = Privileges::held() else { return Ok(()) };
    let lacking = [Need::LoadPrograms, Need::AttachToCgroup].into_iter();
    let names: Vec<_> =
        lacking.filter(|need| !held.meets(*need)).map(|need| need.remedy()).collect();
    if names.is_empty() { Ok(()) } else { Err(LoadError::Privileges(names.join(" and "))) }
}

/// The object with its maps, before any program is verified.
pub(super) fn load(
    settings: LoadSettings,
    frozen: Frozen,
    events: &Events,
) -> Result<Ebpf, LoadError> {
    let report_jiffies = report_jiffies(settings.report_ms, ticks_per_second());
    EbpfLoader::new()
        .map_max_entries("RING", settings.ring_bytes)
        .override_global("HEAD_PREFIX", &settings.head_prefix, true)
        .override_global("PACKET_NETNS", &u32::from(frozen.packet_netns), true)
        .override_global("SOCKET_NETNS", &u32::from(frozen.socket_netns), true)
        .override_global("REPEATS", &u32::from(settings.repeats), true)
        .override_global("REPEAT_KEYS", settings.keys.words(), true)
        .override_global("REPORT_JIFFIES", &report_jiffies, true)
        .override_global("IS_STRONGLY_ORDERED", &u32::from(frozen.strongly_ordered), true)
        .override_global("DESTROY_COOKIE", &events.destroy_cookie, true)
        .override_global("EXEC_FILE_NAME", &events.exec_file_name, true)
        .override_global("DROP_REASON", &events.drop_reason, true)
        .override_global("RETRANSMIT_ERROR", &events.retransmit_error, true)
        .override_global("AYA_LOG_LEVEL", &settings.log_level, true)
        .load(OBJECT)
        .map_err(describe)
}

/// Rounded up: never more often than asked for, and never zero, which is every packet.
fn report_jiffies(report_ms: u32, ticks_per_second: u64) -> u64 {
    (u64::from(report_ms) * ticks_per_second).div_ceil(1_000).max(1)
}

/// The kernel's `CONFIG_HZ`: its coarse clocks advance by one tick at a time, and say so.
fn ticks_per_second() -> u64 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let tick_ns = u64::try_from(tick.tv_nsec).unwrap_or_default();
    // Rounded: 1/300 s is no whole number of nanoseconds.
    (1_000_000_000 + tick_ns / 2).checked_div(tick_ns).unwrap_or(250)
}

fn logger(programs: &mut Ebpf) -> Result<EbpfLogger<&'static dyn log::Log>, LoadError> {
    EbpfLogger::init(programs).map_err(describe)
}

/// Every program is attached: connections that begin from now on are seen from their beginning,
/// and any other is older than the agent, of whose packets some may have passed unseen.
fn begin(programs: &mut Ebpf) -> Result<(), LoadError> {
    let attached = map(programs, "ATTACHED")?;
    let mut attached = Array::<_, u32>::try_from(attached).map_err(describe)?;
    attached.set(0, 1, 0).map_err(describe)
}

fn map(programs: &mut Ebpf, name: &str) -> Result<aya::maps::Map, LoadError> {
    programs.take_map(name).ok_or_else(|| LoadError::Object(format!("it holds no map {name}")))
}

/// aya nests the reason; the whole chain is worth reading.
fn describe(error: impl std::error::Error) -> LoadError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    LoadError::Object(text)
}

/// The map of the part that walks on in a long packet.
pub(super) fn parts(
    programs: &mut Ebpf,
    name: &'static str,
) -> Result<ProgramArray<MapData>, AttachError> {
    programs
        .take_map(name)
        .and_then(|map| ProgramArray::try_from(map).ok())
        .ok_or(AttachError::Absent(name))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tick_is_one_that_kernels_are_built_with() {
        let ticks = super::ticks_per_second();
        assert!(
            [24, 32, 48, 64, 100, 128, 200, 250, 256, 300, 500, 512, 1000, 1024, 1200]
                .contains(&ticks),
            "{ticks}"
        );
    }

    #[test]
    fn a_report_interval_is_never_shortened_and_never_zero() {
        assert_eq!(super::report_jiffies(10_000, 250), 2_500);
        assert_eq!(super::report_jiffies(10_000, 1_000), 10_000);
        assert_eq!(super::report_jiffies(101, 100), 11);
        assert_eq!(super::report_jiffies(0, 100), 1);
        assert_eq!(super::report_jiffies(u32::MAX, 1_200), 5_153_960_754);
    }
}
