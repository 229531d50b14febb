//! Pieces become whole frames, and frames whole header blocks.

use std::borrow::Cow;

use meshtap_ebpf::event::{self, Item};

use crate::protocol::Shared;

/// Longest header block that is put together.
const BLOCK_MAX: usize = 256 << 10;
/// Bytes of the fixed part of GOAWAY and of RST_STREAM: the rest is not kept.
const FIXED: usize = 8;
/// Bytes of the priority fields of HEADERS.
const PRIORITY: usize = 5;
/// Bytes of a promised stream's number.
const PROMISED: usize = 4;

/// The frame that begins a header block, or that stands for itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub(super) stream: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) sequence: u32,
    /// When its first piece passed, and the packet's acknowledgement number.
    pub(super) time_ns: u64,
    pub(super) acknowledgement: u32,
}

/// What a piece completes.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Nothing yet.
    More,
    /// A frame, or a header block with all of its frames: its bytes without padding and
    /// priority fields.
    Whole(First, Cow<'a, [u8]>),
    /// A header block that exceeded a bound; its bytes were not kept.
    Dropped(First),
    /// Not what may stand here.
    Malformed,
}

/// What is put together in one direction: frames of a header block stand together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    first: First,
    /// The frame under way.
    kind: u8,
    flags: u8,
    length: usize,
    /// Its bytes that have come. All of them: CONTINUATION is to follow.
    got: usize,
    /// Bytes of the block's frames before, without padding.
    block: Vec<u8>,
    /// Where in it the frame under way begins.
    begin: usize,
    /// Beyond a bound: only counted, not kept.
    dropped: bool,
}

impl Assembly {
    /// Whether a header block is under way.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Gives up what is under way.
    pub(super) fn clear(&mut self, shared: &mut Shared) {
        if let Some(open) = self.open.take() {
            shared.head_bytes -= open.block.len();
        }
    }

    /// Takes a piece of a frame that is no DATA.
    pub(super) fn take<'a>(
        &mut self,
        item: &Item,
        bytes: &'a [u8],
        moment: (u64, u32),
        shared: &mut Shared,
    ) -> Step<'a> {
        let (Ok(length), Ok(offset)) = (usize::try_from(item.length), usize::try_from(item.offset))
        else {
            return Step::Malformed;
        };
        let Some(open) = &mut self.open else {
            return self.begin(item, bytes, length, offset, moment, shared);
        };
        if offset == 0 && open.got == open.length {
            if item.kind != event::FRAME_CONTINUATION || item.stream != open.first.stream {
                return Step::Malformed;
            }
            (open.kind, open.flags, open.length, open.got) = (item.kind, item.flags, length, 0);
            open.begin = open.block.len();
        }
        let joins = offset == open.got
            && length == open.length
            && item.kind == open.kind
            && item.stream == open.first.stream
            && bytes.len() <= length - offset;
        if !joins { Step::Malformed } else { self.piece(bytes, shared) }
    }

    fn begin<'a>(
        &mut self,
        item: &Item,
        bytes: &'a [u8],
        length: usize,
        offset: usize,
        (time_ns, acknowledgement): (u64, u32),
        shared: &mut Shared,
    ) -> Step<'a> {
        if offset != 0 || item.kind == event::FRAME_CONTINUATION || bytes.len() > length {
            return Step::Malformed;
        }
        let Item { sequence, stream, kind, flags, .. } = *item;
        let first = First { stream, kind, flags, sequence, time_ns, acknowledgement };
        if bytes.len() == length && ends_block(kind, flags) {
            return match strip(kind, flags, bytes) {
                Some((begin, end)) => Step::Whole(first, Cow::Borrowed(&bytes[begin..end])),
                None => Step::Malformed,
            };
        }
        self.open = Some(Box::new(Open {
            first,
            kind,
            flags,
            length,
            got: 0,
            block: Vec::new(),
            begin: 0,
            dropped: false,
        }));
        self.piece(bytes, shared)
    }

    /// Takes a piece that joins; where the frame is whole then, what it completes.
    fn piece<'a>(&mut self, bytes: &[u8], shared: &mut Shared) -> Step<'a> {
        let Some(open) = &mut self.open else { return Step::Malformed };
        open.got += bytes.len();
        let kept = if is_block(open.kind) || open.kind == event::FRAME_CLOSING {
            bytes
        } else {
            &bytes[..bytes.len().min(FIXED.saturating_sub(open.block.len()))]
        };
        let room = BLOCK_MAX
            .saturating_sub(open.block.len())
            .min(shared.settings.head_bytes_total.saturating_sub(shared.head_bytes));
        if kept.len() > room && !open.dropped {
            open.dropped = true;
            shared.head_bytes -= open.block.len();
            open.block = Vec::new();
        }
        if !open.dropped {
            shared.head_bytes += kept.len();
            open.block.extend_from_slice(kept);
        }
        if open.got < open.length {
            return Step::More;
        }
        if !open.dropped && is_block(open.kind) {
            let frame = open.block.get(open.begin..).unwrap_or_default();
            let Some((begin, end)) = strip(open.kind, open.flags, frame) else {
                return Step::Malformed;
            };
            shared.head_bytes -= frame.len() - (end - begin);
            open.block.truncate(open.begin + end);
            open.block.drain(open.begin..open.begin + begin);
        }
        if !ends_block(open.kind, open.flags) {
            return Step::More;
        }
        let Some(open) = self.open.take() else { return Step::Malformed };
        shared.head_bytes -= open.block.len();
        if open.dropped {
            Step::Dropped(open.first)
        } else {
            Step::Whole(open.first, Cow::Owned(open.block))
        }
    }
}

fn is_block(kind: u8) -> bool {
    matches!(kind, event::FRAME_HEADERS | event::FRAME_PUSH_PROMISE | event::FRAME_CONTINUATION)
}

fn ends_block(kind: u8, flags: u8) -> bool {
    !is_block(kind) || flags & event::FLAG_END_HEADERS != 0
}

/// Where in a frame's payload its part of a header block stands.
fn strip(kind: u8, flags: u8, payload: &[u8]) -> Option<(usize, usize)> {
    let (mut begin, mut end) = (0, payload.len());
    let is_padded = kind != event::FRAME_CONTINUATION && flags & event::FLAG_PADDED != 0;
    if is_block(kind) && is_padded {
        begin = 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    match kind {
        event::FRAME_HEADERS if flags & event::FLAG_PRIORITY != 0 => begin += PRIORITY,
        event::FRAME_PUSH_PROMISE => begin += PROMISED,
        _ => {}
    }
    (begin <= end).then_some((begin, end))
}
