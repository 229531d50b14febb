//! What surrounds a walk: where findings go, and the other direction.

use crate::event::Head;
use crate::flow::Flow;
use crate::walk::Shared;

/// What the walk needs from its surroundings.
pub trait Port {
    /// Copies `length` bytes of the packet from `offset` on behind [`crate::flow::WINDOW_START`] of the flow's buffer.
    fn load(&mut self, flow: &mut Flow, offset: u32, length: u32) -> bool;
    /// Sends the first `length` bytes of the flow's buffer, a [`Head`] and its bytes.
    fn send_head(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32);
    /// Sends a small record ([`crate::event::End`], [`crate::event::Desynchronised`]) that `fill` writes in place.
    fn send<T: zerocopy::IntoBytes>(&mut self, shared: &mut Shared, fill: impl FnOnce(*mut T));
    /// Fills in what TCP knows at this moment.
    fn measure(&mut self, record: &mut Head);
    /// Bytes of a request's head that may be sent.
    fn prefix(&self) -> u32;
    /// The socket's cookie.
    fn cookie(&self) -> u64;
}

/// The other direction, which another CPU may be writing.
#[derive(Clone, Copy)]
pub struct Peer(*const Flow);

impl Peer {
    /// Looks at `flow` from its other direction.
    ///
    /// # Safety
    /// `flow` must stay valid while the value is used.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(flow: *const Flow) -> Self {
        Self(flow)
    }

    #[inline(always)]
    fn read<T: Copy>(field: *const T) -> T {
        // SAFETY: aligned and valid by the contract of `new`; single words do not tear.
        unsafe { core::ptr::read_volatile(field) }
    }

    pub(super) fn begun(self) -> u32 {
        // SAFETY: a field of a valid flow; no reference is made.
        Self::read(unsafe { &raw const (*self.0).begun })
    }

    pub(super) fn number(self) -> u32 {
        // SAFETY: as above.
        Self::read(unsafe { &raw const (*self.0).number })
    }

    pub(super) fn epoch(self) -> u32 {
        // SAFETY: as above.
        Self::read(unsafe { &raw const (*self.0).epoch })
    }

    pub(super) fn sequence(self) -> u32 {
        // SAFETY: as above.
        Self::read(unsafe { &raw const (*self.0).sequence })
    }

    pub(super) fn heads(self) -> u64 {
        // SAFETY: as above.
        Self::read(unsafe { &raw const (*self.0).heads })
    }

    pub(super) fn connect(self) -> u32 {
        // SAFETY: as above.
        Self::read(unsafe { &raw const (*self.0).connect })
    }
}
