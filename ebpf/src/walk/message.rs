//! What a walk decides line by line: where a message begins, how its body is framed,
//! which request an answer belongs to.

use super::action::{self, ANSWER, END, MORE, NEXT, PIECE, SAME};
use super::port::Port;
use super::{REQUESTS_UNKNOWN, VERDICT_HTTP1, VERDICT_OPAQUE, VERDICT_UPGRADED, Walk};
use crate::event;
use crate::flow::{self, WINDOW_START, mode};
use crate::http1;
use crate::sequence::distance;

impl<P: Port> Walk<'_, P> {
    /// A newline was reached.
    #[inline(always)]
    pub(super) fn end_line(&mut self) -> u32 {
        let end = WINDOW_START.wrapping_add(self.flow.at as usize);
        let line = self.flow.line;
        self.flow.line = 0;
        let long = self.flow.marked(flow::MARK_LONG);
        self.flow.marks &= !flow::MARK_LONG;
        let empty = line == 1 || (line == 2 && self.flow.byte(end.wrapping_sub(2)) == b'\r');
        if empty {
            return self.end_lines();
        }
        if !long {
            let response = self.is_response();
            let start = end.wrapping_sub(line as usize);
            let judged = http1::begin_line(self.flow, start, response);
            if judged == http1::LINE_INVALID {
                return self.fail(event::LOST_SYNTAX);
            }
            if judged == http1::LINE_ENCODING {
                http1::end_encoding(self.flow, end);
            }
        }
        if self.flow.mode == mode::CHUNK {
            return self.begin_chunk();
        }
        if self.flow.mode == mode::START {
            let response = self.is_response();
            if !http1::end_start_line(self.flow, end, response) {
                return self.fail(event::LOST_SYNTAX);
            }
            self.recognise();
            self.flow.mode = mode::HEADERS;
        }
        MORE
    }

    /// The start line is whole and valid.
    #[inline(always)]
    pub(super) fn recognise(&mut self) {
        self.flow.marks |= flow::MARK_VALID;
        if self.shared.requests == REQUESTS_UNKNOWN {
            self.shared.requests = self.direction + 1;
            self.shared.settled = 1;
        }
        self.shared.verdict = VERDICT_HTTP1;
        self.shared.attempts = 0;
        self.note_begun();
    }

    /// Counts a request as begun, so that an early answer finds it.
    #[inline(always)]
    pub(super) fn note_begun(&mut self) {
        if self.flow.mode != mode::START || self.is_response() {
            return;
        }
        let shared = &mut *self.shared;
        if shared.requests_epoch != self.flow.epoch as u16 || self.flow.number == 0 {
            shared.requests_epoch = self.flow.epoch as u16;
            shared.heads = 0;
            shared.connect = 0;
        }
        shared.sequence = self.flow.sequence;
        shared.begun = self.flow.number + 1;
    }

    /// An empty line: the end of a head, of trailers, or nothing before a start line.
    #[inline(always)]
    pub(super) fn end_lines(&mut self) -> u32 {
        let at = self.flow.at;
        self.flow.next = self.flow.next.wrapping_add(at);
        match self.flow.mode {
            mode::HEADERS => self.end_head(),
            mode::TRAILER => action::WINDOW | END | NEXT | MORE,
            mode::START => {
                // Empty lines before a start line belong to no message.
                self.flow.head = 0;
                self.flow.sent = 0;
                action::WINDOW | MORE
            }
            _ => self.fail(event::LOST_SYNTAX),
        }
    }

    /// The head is complete: decide the framing, send it, go on behind it.
    #[inline(always)]
    pub(super) fn end_head(&mut self) -> u32 {
        let response = self.is_response();
        let answered = if response { self.answered_class() } else { flow::CLASS_PLAIN };
        self.flow.framing = http1::framing(self.flow, response, answered);
        if self.flow.framing == event::FRAMING_UNKNOWN {
            return self.fail(event::LOST_FRAMING);
        }
        let response = self.is_response();
        if !response && !self.note_class() {
            return self.fail(event::LOST_BUDGET);
        }
        let answers = response && self.shared.waiting != 0;
        self.send_head() | if answers { ANSWER } else { 0 }
    }

    /// Decides what comes behind the head, and sends the head.
    #[inline(always)]
    fn send_head(&mut self) -> u32 {
        let (response, framing, at) = (self.is_response(), self.flow.framing, self.flow.at);
        self.flow.head += at;
        self.flow.piece = if response { 0 } else { at as u16 };
        self.flow.piece_flags = event::HEAD_COMPLETE;
        if response && self.flow.status < 200 && self.flow.status != 101 {
            self.flow.piece_flags |= event::HEAD_INTERIM;
            return action::WINDOW | PIECE | NEXT | SAME | MORE;
        }
        let left = distance(self.flow.segment_end, self.flow.next) as i64 as u64;
        let ends_here = framing == event::FRAMING_LENGTH && self.flow.length <= left;
        let short = ends_here && !self.has_tail();
        if short {
            self.flow.body = self.flow.length;
            self.flow.next = self.flow.next.wrapping_add(self.flow.length as u32);
        }
        if short || framing == event::FRAMING_NONE {
            self.flow.piece_flags |= event::HEAD_ENDED;
            return action::WINDOW | PIECE | NEXT | MORE;
        }
        if framing == event::FRAMING_TUNNEL {
            self.flow.piece_flags |= event::HEAD_ENDED;
            let upgraded = response && self.flow.status == 101;
            self.shared.verdict = if upgraded { VERDICT_UPGRADED } else { VERDICT_OPAQUE };
            return action::WINDOW | PIECE | NEXT;
        }
        self.begin_body();
        action::WINDOW | PIECE | MORE
    }

    /// Whether the end of the body is to be sent.
    #[inline(always)]
    pub(super) fn has_tail(&self) -> bool {
        self.flow.class == flow::CLASS_CLOSED && self.is_response()
    }

    /// Whether a chunk begins here with a message that closes the answer.
    #[inline(always)]
    fn begins_tail(&self) -> bool {
        let at = self.flow.at;
        let first = self.flow.byte(WINDOW_START.wrapping_add(at as usize));
        let flag = first & !event::MESSAGE_COMPRESSED;
        let closes = flag == event::MESSAGE_CLOSING_WEB || flag == event::MESSAGE_CLOSING_CONNECT;
        closes && at < self.flow.fill && self.has_tail()
    }

    /// Sends what the window holds of a body's end.
    #[inline(always)]
    pub(super) fn send_tail(&mut self, length: u32) -> u32 {
        self.flow.sent = 0;
        self.flow.piece = length as u16;
        self.flow.piece_flags = event::HEAD_TAIL;
        action::WINDOW | PIECE | MORE
    }

    #[inline(always)]
    pub(super) fn begin_body(&mut self) {
        match self.flow.framing {
            event::FRAMING_LENGTH => {
                self.flow.mode = mode::BODY;
                self.flow.skip = self.flow.length;
            }
            event::FRAMING_CHUNKED => self.flow.mode = mode::CHUNK,
            _ => self.flow.mode = mode::CLOSE,
        }
    }

    /// The class of the request that the current response answers.
    #[inline(always)]
    pub(super) fn answered_class(&self) -> u8 {
        let number = self.flow.number;
        if self.shared.connect == number.wrapping_add(1) {
            flow::CLASS_CONNECT
        } else if self.shared.heads & (1u64 << (number & 63)) != 0 {
            flow::CLASS_HEAD
        } else {
            flow::CLASS_PLAIN
        }
    }

    /// How many requests of the flow's epoch are answered.
    #[inline(always)]
    pub(super) fn answered(&self) -> u32 {
        let current = self.shared.responses_epoch == self.flow.epoch as u16;
        if current { self.shared.answered } else { 0 }
    }

    /// Notes a request's class for its answer; false: more wait than can be told apart.
    #[inline(always)]
    pub(super) fn note_class(&mut self) -> bool {
        let number = self.flow.number;
        let answered = self.answered();
        let waiting = number.wrapping_sub(answered);
        if waiting == 0 {
            self.shared.heads = 0;
        } else if waiting >= 64 && (self.shared.heads != 0 || self.flow.class == flow::CLASS_HEAD) {
            return false;
        }
        if self.flow.class == flow::CLASS_HEAD {
            self.shared.heads |= 1u64 << (number & 63);
        }
        if self.flow.class == flow::CLASS_CONNECT {
            self.shared.connect = number.wrapping_add(1);
        }
        true
    }

    /// A chunk's size line ended: its data and the line end behind it need no look.
    #[inline(always)]
    pub(super) fn begin_chunk(&mut self) -> u32 {
        let size = self.flow.length;
        self.flow.next = self.flow.next.wrapping_add(self.flow.at);
        if size == 0 {
            self.flow.mode = mode::TRAILER;
        } else {
            self.flow.body = self.flow.body.wrapping_add(size);
            self.flow.skip = size + 2;
        }
        if self.begins_tail() {
            return self.send_tail(self.flow.fill);
        }
        action::WINDOW | MORE
    }

    /// `same`: the message was an interim answer, so the next answers the same request.
    #[inline(always)]
    pub(super) fn next_message(&mut self, same: bool) {
        let connect = self.flow.class == flow::CLASS_CONNECT;
        self.start_message();
        if same {
            return;
        }
        self.flow.number += 1;
        if self.is_response() {
            self.show_answered();
            if self.flow.epoch != self.shared.epoch {
                self.flow.mode = mode::IDLE;
            }
        } else if connect {
            self.flow.mode = mode::WAIT;
        }
    }

    /// Whether the window ends in a start line, not judged so far, that none can become:
    /// what is no HTTP is not to leave the kernel in pieces of a head.
    #[inline(always)]
    pub(super) fn begins_badly(&self) -> bool {
        let flow = &*self.flow;
        if flow.mode != mode::START || flow.line == 0 || flow.marked(flow::MARK_LONG) {
            return false;
        }
        let first = flow.byte((WINDOW_START as u32 + flow.fill).wrapping_sub(flow.line) as usize);
        // Empty lines may stand before a start line.
        first != b'\r' && !http1::is_token(first)
    }

    /// Counts of a body that breaks off what has passed, not what was announced.
    #[inline(always)]
    pub(super) fn settle_body(&mut self) {
        let ahead = distance(self.flow.next, self.flow.edge.end);
        let ahead = if ahead > 0 { ahead as u64 } else { 0 };
        let missing = self.flow.skip.saturating_add(ahead);
        if self.flow.mode == mode::BODY {
            self.flow.body = self.flow.length.saturating_sub(missing);
        } else if self.flow.mode == mode::CHUNK {
            // The line end behind a chunk is skipped with it and is no data.
            self.flow.body = self.flow.body.saturating_sub(missing.saturating_sub(2));
        }
    }
}
