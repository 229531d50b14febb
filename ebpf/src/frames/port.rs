//! What surrounds a walk over frames.

use crate::flow::Flow;
use crate::streams::block;
use crate::walk::{Port, Shared};

/// What the walk needs beside what a walk over lines needs.
pub trait FramePort: Port {
    /// Copies `length` bytes of the packet from `offset` on to the place `at` of the
    /// flow's buffer.
    fn load_at(&mut self, flow: &mut Flow, at: u32, offset: u32, length: u32) -> bool;
    /// Sends the first `length` bytes of the flow's buffer, an [`crate::event::Frames`]
    /// and its items, once TCP's figures are in it; false: it found no room.
    fn send_frames(&mut self, flow: &mut Flow, shared: &mut Shared, length: u32) -> bool;
    /// Keeps a stream's place in a message, and above it what came of a prefix.
    fn keep(&mut self, stream: u64, cookie: u64, place: u64);
    /// Takes it back, if it was kept.
    fn take(&mut self, stream: u64, cookie: u64) -> Option<u64>;
    /// 1 where the `length` bytes at `at` of the flow's buffer are a block of headers that
    /// leaves its direction's table as it was.
    #[inline(always)]
    fn leaves_table(&mut self, _direction: u8, flow: &mut Flow, at: u32, length: u32) -> u32 {
        block::leaves_table(flow, at, length)
    }
}
