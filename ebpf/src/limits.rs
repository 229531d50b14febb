//! Every number that both halves must agree on.

/// Bytes of the ring buffer unless configured: a power of two and a multiple of the page size.
pub const RING_BYTES: u32 = 4 << 20;
/// Bytes of a request's head that leave the kernel unless configured.
pub const HEAD_PREFIX: u32 = 1024;
/// The most that may be configured for [`HEAD_PREFIX`].
pub const HEAD_PREFIX_MAX: u32 = 8192;
/// Bytes of a DNS answer that leave the kernel.
pub const NAME_ANSWER: usize = 512;
/// Bytes of an executable's file name that leave the kernel.
pub const FILE_NAME: usize = 128;
/// Segments of one connection that may wait for the hole in front of them, long ones in several
/// pieces that count as segments: as many as the kernel lets programs follow one another.
pub const ASIDE: u8 = 30;
/// Packets at the start of a turn that may fail to be recognised before a connection is left alone.
pub const SNIFF_BUDGET: u8 = 8;
