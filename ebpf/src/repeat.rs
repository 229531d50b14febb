//! Calls that repeat are counted in the kernel: of a call that is like one that was told
//! before, on the same connection, nothing crosses the ring buffer.
//!
//! A request **waits** where its packet is one whole head, byte for byte one that the agent
//! asked to have counted; neither it nor its answer has been told then. The answer decides:
//! where it is the expected one, and whole in its packet, the call is added to the counts of
//! its slot, and it is as if it had never been: it takes no number. Else, and whenever
//! anything else happens first, the request is **told** after all, with the time at which it
//! came, and everything goes on as without counting. So a call is counted here or told, and
//! never both.
//!
//! The agent owns [`Control`], the kernel half [`Counts`]; which slot a head may have follows
//! from its tag. All counts grow, and start anew never.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::WINDOW;

/// Slots, in pairs: a tag may be in either slot of its pair.
pub const SLOTS: u32 = 8_192;
/// Longest head that is counted: a window.
pub const LONGEST: usize = WINDOW;
/// Words of the longest head.
pub const WORDS: usize = LONGEST.div_ceil(8);
/// Secret words: one for each word of a head, then one for its length, one for the connection,
/// and one for the table that a block of headers refers to.
pub const KEYS: usize = WORDS + 3;
/// Buckets of the durations.
pub const BUCKETS: usize = 15;
/// Requests in a row that are not known, after which only some are looked at.
pub const MISSES: u8 = 16;
/// Of those every such one is.
pub const EVERY: u32 = 64;

/// What is counted in a slot; all zero: nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// Of the request's head and its connection; 0: none.
    pub tag: u64,
    /// The fewest bytes of the answer's body.
    pub least: u32,
    /// The most.
    pub most: u32,
    /// Status of the answer.
    pub status: u32,
    /// Zero.
    pub pad: u32,
}

impl Control {
    /// Whether an answer is one that is counted here.
    #[inline(always)]
    #[must_use]
    pub fn takes(&self, tag: u64, answer: &Answer) -> bool {
        self.tag == tag && self.status == answer.status as u32 && self.fits(answer.body)
    }

    /// Whether an answer's body is one that is counted here.
    #[inline(always)]
    #[must_use]
    pub fn fits(&self, body: u64) -> bool {
        body >= self.least as u64 && body <= self.most as u64
    }
}

/// What has been counted in a slot, by all that it ever belonged to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Counts {
    /// Sum of the durations, from the request's first byte to the answer's last.
    pub nanoseconds: u64,
    /// Sum of the answers' body bytes.
    pub bytes: u64,
    /// Sum of the requests' body bytes.
    pub asked: u64,
    /// When the last one ended.
    pub last_ns: u64,
    /// The answer that was. Of the kernel half alone; it stands here because this is what
    /// whoever counts has at hand.
    pub memo: Memo,
    /// Calls by duration, see [`bucket`]; the last one is not used.
    pub calls: [u32; BUCKETS + 1],
}

impl Counts {
    /// Adds a call. The slot belongs to one connection, whose answers come one by one.
    #[inline(always)]
    pub fn add(&mut self, answer: &Answer) {
        self.nanoseconds = self.nanoseconds.wrapping_add(answer.nanoseconds);
        self.bytes = self.bytes.wrapping_add(answer.body);
        self.last_ns = answer.now_ns;
        let calls = &mut self.calls[bucket(answer.nanoseconds) & BUCKETS];
        *calls = calls.wrapping_add(1);
    }
}

/// An answer that was whole in its packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// When it came.
    pub now_ns: u64,
    /// Since its request came.
    pub nanoseconds: u64,
    /// Bytes of its body.
    pub body: u64,
    /// Status.
    pub status: u16,
}

/// An answer that was walked and counted: one whose head is the same, byte for byte, and that
/// is as long, has the same status and body, and need not be walked.
///
/// First a walk shows how long its head is. Of the next answer of that length the head is
/// hashed, and then it is walked: if it comes to the same, the hash is that of such heads.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Memo {
    /// Of its head, as [`tag`] has it; 0: not known.
    tag: u64,
    /// Odd: where in the stream the answer begins of which this is, and which is being
    /// walked; 0: it was.
    place: u32,
    /// Bytes of the answer; 0: none may be like it.
    length: u16,
    /// Of these its head.
    head: u16,
    /// Status.
    pub status: u16,
    /// Zero.
    pad: [u16; 3],
}

impl Memo {
    /// Bytes of the head of an answer of `length` bytes, if it may be one like this; else 0.
    #[inline(always)]
    #[must_use]
    pub fn head(&self, length: u32) -> u32 {
        if length == u32::from(self.length) { u32::from(self.head) } else { 0 }
    }

    /// Whether the head is the one; else it may be when it was walked.
    #[inline(always)]
    pub fn is(&mut self, tag: u64, place: u32) -> bool {
        if self.tag == tag && self.place == 0 {
            return true;
        }
        self.tag = tag;
        self.place = place | 1;
        false
    }

    /// An answer was walked and counted that is all of its packet.
    #[inline(always)]
    pub fn learn(&mut self, place: u32, length: u32, head: u32, status: u16) {
        let fits = length <= u16::MAX as u32 && head <= LONGEST as u32;
        let length = if fits { length as u16 } else { 0 };
        let head = head as u16;
        let alike = self.length == length && self.head == head;
        // What was hashed and walked stays right, whatever was walked since.
        if alike && self.place == 0 {
            return;
        }
        self.tag = if alike && self.place == place | 1 { self.tag } else { 0 };
        self.place = 0;
        self.length = length;
        self.head = head;
        self.status = status;
    }
}

/// The bucket of a duration: the number of bounds that it exceeds. The bounds are those of
/// the agent's histograms.
#[inline(always)]
#[must_use]
pub const fn bucket(nanoseconds: u64) -> usize {
    // No loop: the compiler would put the bounds where programs have no memory.
    if nanoseconds <= 5_000_000 {
        return 0;
    }
    1 + (nanoseconds > 10_000_000) as usize
        + (nanoseconds > 25_000_000) as usize
        + (nanoseconds > 50_000_000) as usize
        + (nanoseconds > 75_000_000) as usize
        + (nanoseconds > 100_000_000) as usize
        + (nanoseconds > 250_000_000) as usize
        + (nanoseconds > 500_000_000) as usize
        + (nanoseconds > 750_000_000) as usize
        + (nanoseconds > 1_000_000_000) as usize
        + (nanoseconds > 2_500_000_000) as usize
        + (nanoseconds > 5_000_000_000) as usize
        + (nanoseconds > 7_500_000_000) as usize
        + (nanoseconds > 10_000_000_000) as usize
}

/// What a head is known by: a universal hash under secret keys (NH: for any two heads the
/// chance to collide is 2^-32, whoever chose them), told apart by length and connection.
///
/// `length`: bytes of the head, at most [`LONGEST`]; `word`: eight of them, little-endian.
#[inline(always)]
#[must_use]
pub fn tag(
    length: u32,
    cookie: u64,
    word: impl Fn(usize) -> u64,
    key: impl Fn(usize) -> u64,
) -> u64 {
    let mut sum = u64::from(length).wrapping_mul(key(WORDS));
    let mut index = 0;
    while index < WORDS {
        let begin = index as u32 * 8;
        if begin >= length {
            break;
        }
        let left = length.wrapping_sub(begin);
        let word = word(index);
        // What stands behind the head in its last word is none of it.
        let word = if left < 8 { word & (1u64 << (left * 8)).wrapping_sub(1) } else { word };
        let keyed = key(index);
        let low = (word as u32).wrapping_add(keyed as u32);
        let high = ((word >> 32) as u32).wrapping_add((keyed >> 32) as u32);
        sum = sum.wrapping_add(u64::from(low).wrapping_mul(u64::from(high)));
        index += 1;
    }
    let tag = sum.wrapping_add(cookie.wrapping_mul(key(WORDS + 1) | 1));
    if tag == 0 { 1 } else { tag }
}

/// The pair of slots of a tag.
#[inline(always)]
#[must_use]
pub const fn pair(tag: u64) -> u32 {
    const SHIFT: u32 = 64 - (SLOTS / 2).trailing_zeros();
    (tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> SHIFT) as u32
}
