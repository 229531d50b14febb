//! Bytes to [`Event`]: lengths and kinds are checked here, so no later stage does.

use meshtap_ebpf::event::{self, Header, Kind};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::Event;

/// Why bytes are no event. Reachable only if both halves were built from different sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than the kind's fixed part, or than the loose bytes it announces.
    #[error("a record of {0} bytes is too short for its kind")]
    Short(usize),
    /// A kind that this agent does not know.
    #[error("record kind {0} is unknown")]
    Kind(u8),
}

/// Reads one record. Loose bytes are cut to what the header announces.
///
/// # Errors
/// [`DecodeError`] where the bytes do not hold what their header says.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let (header, _) = fixed::<Header>(bytes)?;
    let kind = Kind::from_u8(header.kind).ok_or(DecodeError::Kind(header.kind))?;
    Ok(match kind {
        Kind::Opened => Event::Opened(fixed(bytes)?.0),
        Kind::Redirected => Event::Redirected(fixed(bytes)?.0),
        Kind::OwnerChanged => Event::OwnerChanged(fixed(bytes)?.0),
        Kind::Statistics => Event::Statistics(fixed(bytes)?.0),
        Kind::Closed => Event::Closed(fixed(bytes)?.0),
        Kind::End => Event::End(fixed(bytes)?.0),
        Kind::Shut => Event::Shut(fixed(bytes)?.0),
        Kind::Waited => Event::Waited(fixed(bytes)?.0),
        Kind::Desynchronised => Event::Desynchronised(fixed(bytes)?.0),
        Kind::Exit => Event::Exit(fixed(bytes)?.0),
        Kind::Head => {
            let (record, rest) = fixed::<event::Head>(bytes)?;
            Event::Head(record, loose(&record.header, rest)?)
        }
        Kind::Exec => {
            let (record, rest) = fixed::<event::Exec>(bytes)?;
            Event::Exec(record, loose(&record.header, rest)?)
        }
        Kind::NameAnswer => {
            let (record, rest) = fixed::<event::NameAnswer>(bytes)?;
            Event::NameAnswer(record, loose(&record.header, rest)?)
        }
        Kind::Frames => {
            let (record, rest) = fixed::<event::Frames>(bytes)?;
            Event::Frames(record, loose(&record.header, rest)?)
        }
    })
}

fn fixed<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Result<(&T, &[u8]), DecodeError> {
    T::ref_from_prefix(bytes).map_err(|_| DecodeError::Short(bytes.len()))
}

fn loose<'a>(header: &Header, rest: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    rest.get(..usize::from(header.length)).ok_or(DecodeError::Short(rest.len()))
}
