//! Streams that wait are told after all.

use super::{STREAMS, Stream, Streams};
use crate::event::{Header, Kind, Waited};
use crate::walk::{Port, Shared};

/// Tells the stream of this number if it waits, or with 0 every one that does. The answers
/// must be claimed.
///
/// # Safety
/// `streams` must be readable and writable.
#[inline(always)]
pub unsafe fn tell(
    streams: *mut Streams,
    (now_ns, cookie): (u64, u64),
    shared: &mut Shared,
    port: &mut impl Port,
    stream: u32,
) {
    let mut index = 0;
    while index < STREAMS {
        // SAFETY: by the contract.
        unsafe {
            let waiting = &raw mut (*streams).waiting[index];
            let number = (*waiting).stream;
            if number != 0 && (stream == 0 || stream == number) {
                (*streams).told = (*streams).told.wrapping_add(1);
                send(streams, waiting, (now_ns, cookie), shared, port);
                (*waiting).stream = 0;
                (*streams).decided = (*streams).decided.wrapping_add(1);
            }
        }
        index += 1;
    }
}

/// # Safety
/// As for [`tell`].
#[inline(always)]
unsafe fn send(
    streams: *const Streams,
    waiting: *const Stream,
    (time_ns, cookie): (u64, u64),
    shared: &mut Shared,
    port: &mut impl Port,
) {
    let (flags, lost) = (shared.weighed(0), shared.lost);
    port.send::<Waited>(shared, |place| {
        // SAFETY: by the contract, and the place of a record.
        unsafe {
            let direction = (*streams).asks.wrapping_sub(1);
            let header = Header {
                time_ns,
                cookie,
                kind: Kind::Waited as u8,
                direction,
                flags,
                lost,
                length: 0,
            };
            place.write(Waited {
                header,
                first_ns: (*waiting).first_ns,
                head_ns: (*waiting).head_ns,
                tag: (*waiting).tag,
                stream: (*waiting).stream,
                sequence: (*waiting).sequence,
                acknowledgement: (*waiting).acknowledgement,
                asked: (*waiting).asked,
                answered: (*waiting).answered,
                told: (*streams).told,
                asked_messages: (*waiting).asked_messages,
                answered_messages: (*waiting).answered_messages,
                sent: (*waiting).sent,
                answering: (*waiting).answering,
                pad: [0; 2],
            });
        }
    });
}
