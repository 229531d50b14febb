//! What is kept of one direction that carries frames. It lives where HTTP/1 keeps its
//! record and window, so that a socket's storage is no larger for it.

use core::mem::{offset_of, size_of};

use crate::event::{Frames, Item};
use crate::flow::{BUFFER, Flow, write_word};

/// Room for items that wait to be sent.
pub const ITEMS: usize = 160;
/// Where it begins in [`Flow::buffer`].
pub const ITEMS_AT: usize = offset_of!(State, items);
/// Where [`State::header`] stands in [`Flow::buffer`].
pub const HEADER_AT: usize = offset_of!(State, header);
/// Where [`State::prefix`] stands in [`Flow::buffer`].
pub const PREFIX_AT: usize = offset_of!(State, prefix);
/// Most bytes of a payload in one item.
pub const PIECE: usize = ITEMS - size_of::<Item>();

/// [`State::phase`]: the header of a frame.
pub const HEADER: u8 = 0;
/// A payload that is sent.
pub const PAYLOAD: u8 = 1;
/// The byte that tells how long the padding of DATA is.
pub const PADDING: u8 = 2;
/// DATA.
pub const DATA: u8 = 3;
/// DATA that ends where [`Flow::next`] is.
pub const ENDING: u8 = 4;
/// The message at the end of DATA that closes the answer.
pub const CLOSING: u8 = 5;

/// State of a direction that carries frames.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct State {
    /// The record, in front of its items.
    pub record: Frames,
    /// Items that wait to be sent.
    pub items: [u8; ITEMS],
    /// Bytes of a frame's header.
    pub header: [u8; 12],
    /// Bytes of a message's prefix.
    pub prefix: [u8; 8],
    /// Bytes of [`State::items`] in use.
    pub fill: u32,
    /// Bytes of the header that have come.
    pub have: u32,
    /// Sequence number of the frame's first byte.
    pub start: u32,
    /// Its stream.
    pub stream: u32,
    /// Its length; of DATA without padding, of what is sent in part: that part's.
    pub length: u32,
    /// Bytes of that which are still to be looked at.
    pub left: u32,
    /// Bytes behind them that need no look.
    pub rest: u32,
    /// Place in a message of [`State::place_stream`], as in [`crate::event::Data`].
    pub place: u32,
    /// The stream whose place it is.
    pub place_stream: u32,
    /// Place before the frame.
    pub before: u32,
    /// Messages that began in the frame.
    pub messages: u32,
    /// How many places of other streams are kept elsewhere, at most.
    pub kept: u32,
    /// `FRAMES_*` that the next record is to carry.
    pub announce: u16,
    /// Messages that began in the packet.
    pub counted: u16,
    /// Type of the frame.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// See the constants above.
    pub phase: u8,
    /// 1: frames are assumed, the first one decides.
    pub tentative: u8,
    /// Words of the client's preface that are still to come.
    pub preface: u8,
    /// Empty messages in a row.
    pub empty: u8,
    /// Zero.
    pub pad: [u8; 2],
}

const _: () =
    assert!(size_of::<State>() <= BUFFER && (size_of::<State>() - HEADER_AT).is_multiple_of(8));

impl Flow {
    /// Begins anew, but for the record and its items, which are written before they are
    /// read. Lines of HTTP/1 stood there before.
    #[inline(always)]
    pub(super) fn clear_frames(&mut self) {
        self.number = 0;
        let mut at = HEADER_AT;
        while at < size_of::<State>() {
            // SAFETY: whole words within the buffer, as asserted above.
            unsafe { write_word(self.buffer.as_mut_ptr().add(at), 0) };
            at += 8;
        }
    }

    /// The state of a direction that carries frames.
    #[inline(always)]
    #[must_use]
    pub fn frames(&mut self) -> &mut State {
        // SAFETY: the state fits the buffer, any bytes are a state, and the buffer is
        // aligned to eight bytes as the first field of the flow.
        unsafe { &mut *self.buffer.as_mut_ptr().cast::<State>() }
    }
}
