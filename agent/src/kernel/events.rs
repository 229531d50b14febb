//! `Events`: the tracepoints that the programs read, where their fields stand on this
//! kernel, and what is missing of them.

use std::sync::Arc;

use super::format::{Format, Tracefs};

/// A tracepoint that a program of the object stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// The program.
    pub program: &'static str,
    /// As `tcp`.
    pub category: &'static str,
    /// As `tcp_destroy_sock`.
    pub name: &'static str,
    /// Name and bytes of the field that the program cannot do without.
    pub field: Option<(&'static str, u32)>,
}

/// All of them.
pub const TRACEPOINTS: [Tracepoint; 7] = [
    of("destroy_socket", "tcp", "tcp_destroy_sock", Some(("sock_cookie", 8))),
    of("packet_sent_again", "tcp", "tcp_retransmit_skb", None),
    of("reset_sent", "tcp", "tcp_send_reset", None),
    of("reset_received", "tcp", "tcp_receive_reset", None),
    // Before 5.17 it has no reason, and tells of much that was no drop.
    of("packet_dropped", "skb", "kfree_skb", Some(("reason", 4))),
    of("process_exec", "sched", "sched_process_exec", Some(("filename", 4))),
    of("process_exit", "sched", "sched_process_exit", None),
];

const fn of(
    program: &'static str,
    category: &'static str,
    name: &'static str,
    field: Option<(&'static str, u32)>,
) -> Tracepoint {
    Tracepoint { program, category, name, field }
}

impl Tracepoint {
    /// Its format on this kernel, and where its field stands (0 where it needs none).
    ///
    /// # Errors
    /// Text that names the event, the field and the reason.
    pub fn locate(&self, tracefs: &Tracefs) -> Result<(Format, u32), String> {
        let format = tracefs.event(self.category, self.name).map_err(|error| error.to_string())?;
        let place = match self.field {
            None => 0,
            Some((name, size)) => format
                .field(name)
                .filter(|field| field.size == size)
                .map(|field| field.offset)
                .ok_or_else(|| {
                    format!("{} has no field {name} of {size} bytes on this kernel", self.name)
                })?,
        };
        Ok((format, place))
    }
}

/// What is frozen into the object, and what is attached.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) destroy_cookie: u32,
    pub(super) exec_file_name: u32,
    pub(super) drop_reason: u32,
    /// 0: the event does not tell how it went.
    pub(super) retransmit_error: u32,
    /// What the kernel calls the reasons of drops.
    pub(super) drop_reasons: Vec<(u64, Arc<str>)>,
    /// Program, and the number of the tracepoint that it belongs to.
    pub(super) numbers: Vec<(&'static str, u32)>,
    /// Programs whose event cannot be used, with the reason.
    pub(super) missing: Vec<(String, String)>,
}

impl Events {
    pub(super) fn read() -> Self {
        let mut events = Self::default();
        let tracefs = Tracefs::open().map_err(|error| error.to_string());
        for tracepoint in TRACEPOINTS {
            let located = match &tracefs {
                Ok(tracefs) => tracepoint.locate(tracefs),
                Err(error) => Err(error.clone()),
            };
            match located {
                Ok((format, place)) => events.note(tracepoint.program, &format, place),
                Err(reason) => events.missing.push((tracepoint.program.to_owned(), reason)),
            }
        }
        events
    }

    fn note(&mut self, program: &'static str, format: &Format, place: u32) {
        self.numbers.push((program, format.id));
        match program {
            "destroy_socket" => self.destroy_cookie = place,
            "process_exec" => self.exec_file_name = place,
            "packet_dropped" => {
                self.drop_reason = place;
                let symbols = format.symbols("reason").into_iter();
                self.drop_reasons = symbols.map(|(number, name)| (number, name.into())).collect();
            }
            "packet_sent_again" => {
                self.retransmit_error = format.offset("err", 4).unwrap_or_default();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_goes_where_its_program_reads_it() {
        let format = |text: &str| Format::parse(text).expect("a format file");
        let mut events = Events::default();
        let drops = format(
            "name: kfree_skb\nID: 7\nfield:enum skb_drop_reason reason; offset:36; size:4; signed:0;\n\
             print fmt: \"reason: %s\", __print_symbolic(REC->reason, { 2, \"NOT_SPECIFIED\" }, { 3, \"NO_SOCKET\" })\n",
        );
        events.note("packet_dropped", &drops, 36);
        let silent = format(
            "name: tcp_retransmit_skb\nID: 8\nfield:int state; offset:24; size:4; signed:1;\n",
        );
        events.note("packet_sent_again", &silent, 0);
        assert_eq!((events.drop_reason, events.retransmit_error), (36, 0));
        assert_eq!(events.drop_reasons, [(2, "NOT_SPECIFIED".into()), (3, "NO_SOCKET".into())]);
        let telling = format(
            "name: tcp_retransmit_skb\nID: 8\nfield:int err; offset:76; size:4; signed:1;\n",
        );
        events.note("packet_sent_again", &telling, 0);
        assert_eq!(events.retransmit_error, 76);
        assert_eq!(
            events.numbers,
            [("packet_dropped", 7), ("packet_sent_again", 8), ("packet_sent_again", 8)]
        );
    }

    #[test]
    fn without_tracefs_every_program_is_missing_with_the_reason() {
        let events = Events::read();
        assert_eq!(events.numbers.len() + events.missing.len(), TRACEPOINTS.len());
        assert!(events.missing.iter().all(|(_, reason)| !reason.is_empty()));
    }
}
