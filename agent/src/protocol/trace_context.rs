//! Trace context out of request headers: W3C `traceparent`/`tracestate`, else b3, single before multi.
//!
//! Refuses whatever a specification calls invalid, and any id that stands twice:
//! a context that might be another one's is no context. Sources:
//! [W3C Trace Context](https://www.w3.org/TR/trace-context-2/) and
//! [b3-propagation](https://github.com/openzipkin/b3-propagation).

use super::exchange::TraceContext;

/// Most bytes of `tracestate` that are kept: what the specification asks everyone to
/// propagate. Entries that would exceed it are left out whole.
pub const TRACE_STATE_MAX: usize = 512;

/// `tracestate` headers of one request that are looked at.
const TRACE_STATES: usize = 4;

/// A header that counts only if it stands there once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Single<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    Ambiguous,
}

impl<'a> Single<'a> {
    fn put(&mut self, value: &'a [u8]) {
        *self = if *self == Self::Absent { Self::Once(value) } else { Self::Ambiguous };
    }

    fn once(self) -> Option<&'a [u8]> {
        match self {
            Self::Once(value) => Some(value),
            Self::Absent | Self::Ambiguous => None,
        }
    }
}

/// The headers of one request that carry trace context, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carrier<'a> {
    seen: bool,
    traceparent: Single<'a>,
    tracestate: [&'a [u8]; TRACE_STATES],
    tracestates: usize,
    b3: Single<'a>,
    b3_trace: Single<'a>,
    b3_span: Single<'a>,
    b3_sampled: Single<'a>,
    b3_flags: Single<'a>,
}

impl<'a> Carrier<'a> {
    /// Takes a header if it is one of those that carry context; names in any case.
    pub fn header(&mut self, name: &str, value: &'a [u8]) {
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case("traceparent") {
            self.traceparent.put(value);
        } else if name.eq_ignore_ascii_case("tracestate") {
            if let Some(slot) = self.tracestate.get_mut(self.tracestates) {
                *slot = value;
                self.tracestates += 1;
            }
        } else if name.eq_ignore_ascii_case("b3") {
            self.b3.put(value);
        } else if name.eq_ignore_ascii_case("x-b3-traceid") {
            self.b3_trace.put(value);
        } else if name.eq_ignore_ascii_case("x-b3-spanid") {
            self.b3_span.put(value);
        } else if name.eq_ignore_ascii_case("x-b3-sampled") {
            self.b3_sampled.put(value);
        } else if name.eq_ignore_ascii_case("x-b3-flags") {
            self.b3_flags.put(value);
        } else {
            return;
        }
        self.seen = true;
    }

    /// The context that the headers agree on, and whether it is W3C's: only then is
    /// [`Carrier::trace_state`] part of it.
    #[must_use]
    pub fn context(&self) -> Option<(TraceContext, bool)> {
        if !self.seen {
            return None;
        }
        if let Some(context) = self.traceparent.once().and_then(traceparent) {
            return Some((context, true));
        }
        let context = match self.b3.once().map(b3_single) {
            Some(B3::Context(context)) => Some(context),
            Some(B3::Decision) => None,
            Some(B3::Invalid) | None => self.b3_multi(),
        };
        context.map(|context| (context, false))
    }

    /// Appends the list members of every `tracestate` header, in order and joined as
    /// one list, as far as whole members fit into [`TRACE_STATE_MAX`].
    pub fn trace_state(&self, into: &mut Vec<u8>) {
        let begin = into.len();
        let members = self
            .tracestate
            .iter()
            .take(self.tracestates)
            .flat_map(|list| list.split(|b| *b == b','));
        for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            let comma = usize::from(into.len() > begin);
            if into.len() - begin + comma + member.len() > TRACE_STATE_MAX {
                return;
            }
            if comma == 1 {
                into.push(b',');
            }
            into.extend_from_slice(member);
        }
    }

    fn b3_multi(&self) -> Option<TraceContext> {
        let trace_id = b3_trace_id(self.b3_trace.once()?)?;
        let span_id = span_id(self.b3_span.once()?)?;
        let sampled = match (self.b3_flags.once(), self.b3_sampled.once()) {
            (Some(b"1"), _) => Some(true),
            (_, Some(value)) if value == b"1" || value.eq_ignore_ascii_case(b"true") => Some(true),
            (_, Some(value)) if value == b"0" || value.eq_ignore_ascii_case(b"false") => {
                Some(false)
            }
            _ => None,
        };
        Some(TraceContext { trace_id, span_id, sampled })
    }
}

/// Parses a `traceparent` value.
///
/// `None`: version `ff`, capitals, an id of zeros, a wrong length. Of versions that
/// do not exist yet only the first 55 bytes are read, as the specification asks.
#[must_use]
pub fn traceparent(value: &[u8]) -> Option<TraceContext> {
    let (known, rest) = value.split_at_checked(55)?;
    let version = lower_hex(&known[..2])?;
    let separated = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    let ends = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.first().is_none_or(|byte| *byte == b'-'),
    };
    if !separated || !ends {
        return None;
    }
    let trace_id = lower_hex(&known[3..35]).filter(|id| *id != 0)?;
    let span_id = lower_hex(&known[36..52]).filter(|id| *id != 0)?;
    let flags = lower_hex(&known[53..55])?;
    Some(TraceContext {
        trace_id,
        span_id: u64::try_from(span_id).ok()?,
        sampled: Some(flags & 1 == 1),
    })
}

/// What a `b3` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum B3 {
    /// Ids, and perhaps a decision.
    Context(TraceContext),
    /// Only whether to sample: valid, but there is no trace to continue.
    Decision,
    /// Not what the specification allows.
    Invalid,
}

/// Parses a `b3` value: `{trace}-{span}[-{0|1|d}[-{parent}]]`, or a decision alone.
#[must_use]
pub fn b3_single(value: &[u8]) -> B3 {
    if matches!(value, b"0" | b"1" | b"d") {
        return B3::Decision;
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let trace_id = parts.next().and_then(b3_trace_id);
    let span = parts.next().and_then(span_id);
    let (Some(trace_id), Some(span_id_)) = (trace_id, span) else { return B3::Invalid };
    let sampled = match parts.next() {
        None => None,
        Some(b"1" | b"d") => Some(true),
        Some(b"0") => Some(false),
        Some(_) => return B3::Invalid,
    };
    let parent_is_valid = parts.next().is_none_or(|parent| span_id(parent).is_some());
    if !parent_is_valid || parts.next().is_some() {
        return B3::Invalid;
    }
    B3::Context(TraceContext { trace_id, span_id: span_id_, sampled })
}

fn b3_trace_id(value: &[u8]) -> Option<u128> {
    if !matches!(value.len(), 16 | 32) {
        return None;
    }
    hex(value).filter(|id| *id != 0)
}

fn span_id(value: &[u8]) -> Option<u64> {
    if value.len() != 16 {
        return None;
    }
    hex(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)
}

fn lower_hex(digits: &[u8]) -> Option<u128> {
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    hex(digits)
}

/// At most 32 digits; the callers check lengths.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some((value << 4) | u128::from(digit))
    })
}
