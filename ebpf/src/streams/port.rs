//! What surrounds a walk over streams that may wait.

use super::{Expected, Streams};
use crate::flow::Flow;
use crate::frames::FramePort;
use crate::repeat::Answer;
use crate::walk::Shared;

/// What the walk needs beside what a walk over frames needs.
pub trait StreamPort: FramePort {
    /// Makes the place for streams that wait; null: there is no room.
    fn create(&mut self) -> *mut Streams;
    /// What is expected in a slot, given plus one.
    fn expected(&mut self, slot: u16) -> Option<Expected>;
    /// Adds a call to a slot, given plus one, where it is still of the tag and takes the
    /// answer, and `asked` bytes of the request's body with it.
    fn add(&mut self, slot: u16, tag: u64, answer: &Answer, asked: u32) -> bool;
    /// [`super::tell`] with the answers claimed; `asks`: this direction is that of the
    /// requests. False: they could not be claimed.
    fn tell(&mut self, flow: &Flow, shared: &mut Shared, asks: bool, stream: u32) -> bool;
}
