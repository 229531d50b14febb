//! Stage 1: the bytes of the ring buffer become [`Event`]s.
//!
//! Nothing is copied: an event borrows the ring's memory while the reader holds it.

pub mod cookie;
pub mod decode;
pub mod items;
pub mod reader;

pub use cookie::ByCookie;
pub use items::Items;
pub use reader::Reader;

use meshtap_ebpf::event;

/// One record of the kernel half, checked and typed.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// See [`event::Opened`].
    Opened(&'a event::Opened),
    /// See [`event::Redirected`].
    Redirected(&'a event::Redirected),
    /// See [`event::OwnerChanged`].
    OwnerChanged(&'a event::OwnerChanged),
    /// See [`event::Statistics`]; the connection goes on.
    Statistics(&'a event::Statistics),
    /// See [`event::Statistics`]; the connection ended.
    Closed(&'a event::Statistics),
    /// See [`event::Head`], and the bytes of the head that it carries.
    Head(&'a event::Head, &'a [u8]),
    /// See [`event::End`].
    End(&'a event::End),
    /// See [`event::Shut`].
    Shut(&'a event::Shut),
    /// See [`event::Desynchronised`].
    Desynchronised(&'a event::Desynchronised),
    /// See [`event::Exec`], and the file name.
    Exec(&'a event::Exec, &'a [u8]),
    /// See [`event::Exit`].
    Exit(&'a event::Exit),
    /// See [`event::NameAnswer`], and the DNS message.
    NameAnswer(&'a event::NameAnswer, &'a [u8]),
    /// See [`event::Frames`], and its items.
    Frames(&'a event::Frames, &'a [u8]),
    /// See [`event::Waited`].
    Waited(&'a event::Waited),
}

impl<'a> Event<'a> {
    /// What every record begins with.
    #[must_use]
    pub fn header(&self) -> &'a event::Header {
        match self {
            Self::Opened(record) => &record.header,
            Self::Redirected(record) => &record.header,
            Self::OwnerChanged(record) => &record.header,
            Self::Statistics(record) | Self::Closed(record) => &record.header,
            Self::Head(record, _) => &record.header,
            Self::End(record) => &record.header,
            Self::Shut(record) => &record.header,
            Self::Desynchronised(record) => &record.header,
            Self::Exec(record, _) => &record.header,
            Self::Exit(record) => &record.header,
            Self::NameAnswer(record, _) => &record.header,
            Self::Frames(record, _) => &record.header,
            Self::Waited(record) => &record.header,
        }
    }
}
