//! What surrounds a walk: where bytes come from and findings go.

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
}
