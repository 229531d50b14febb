//! Tests of format.

use super::*;

/// The fields that every event begins with.
const COMMON: &str = "\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
";

/// A format file as the kernel prints it, from (declaration, offset, size, signed).
fn file(name: &str, fields: &[(&str, u32, u32, u8)]) -> String {
    let mut text = format!("name: {name}\nID: 2278\nformat:\n{COMMON}\n");
    for (declaration, offset, size, signed) in fields {
        text +=
            &format!("\tfield:{declaration};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n");
    }
    text + "\nprint fmt: \"family=%s field:%u\", REC->family,\n\tREC->size\n"
}

fn parsed(name: &str, fields: &[(&str, u32, u32, u8)]) -> Format {
    Format::parse(&file(name, fields)).expect("a format file")
}

/// 5.10: `tcp_event_sk` has no family yet.
const SOCKET_5_10: &[(&str, u32, u32, u8)] = &[
    ("const void * skaddr", 8, 8, 0),
    ("__u16 sport", 16, 2, 0),
    ("__u16 dport", 18, 2, 0),
    ("__u8 saddr[4]", 20, 4, 0),
    ("__u8 daddr[4]", 24, 4, 0),
    ("__u8 saddr_v6[16]", 28, 16, 0),
    ("__u8 daddr_v6[16]", 44, 16, 0),
    ("__u64 sock_cookie", 64, 8, 0),
];
/// 6.1, 6.12 and 6.18.
const SOCKET_6_1: &[(&str, u32, u32, u8)] = &[
    ("const void * skaddr", 8, 8, 0),
    ("__u16 sport", 16, 2, 0),
    ("__u16 dport", 18, 2, 0),
    ("__u16 family", 20, 2, 0),
    ("__u8 saddr[4]", 22, 4, 0),
    ("__u8 daddr[4]", 26, 4, 0),
    ("__u8 saddr_v6[16]", 30, 16, 0),
    ("__u8 daddr_v6[16]", 46, 16, 0),
    ("__u64 sock_cookie", 64, 8, 0),
];
/// 5.10: `tcp_event_sk_skb`, shared by `tcp_retransmit_skb` and `tcp_send_reset`.
const PACKET_5_10: &[(&str, u32, u32, u8)] = &[
    ("const void * skbaddr", 8, 8, 0),
    ("const void * skaddr", 16, 8, 0),
    ("int state", 24, 4, 1),
    ("__u16 sport", 28, 2, 0),
    ("__u16 dport", 30, 2, 0),
    ("__u8 saddr[4]", 32, 4, 0),
    ("__u8 daddr[4]", 36, 4, 0),
    ("__u8 saddr_v6[16]", 40, 16, 0),
    ("__u8 daddr_v6[16]", 56, 16, 0),
];
/// 6.1 and 6.12.
const PACKET_6_1: &[(&str, u32, u32, u8)] = &[
    ("const void * skbaddr", 8, 8, 0),
    ("const void * skaddr", 16, 8, 0),
    ("int state", 24, 4, 1),
    ("__u16 sport", 28, 2, 0),
    ("__u16 dport", 30, 2, 0),
    ("__u16 family", 32, 2, 0),
    ("__u8 saddr[4]", 34, 4, 0),
    ("__u8 daddr[4]", 38, 4, 0),
    ("__u8 saddr_v6[16]", 42, 16, 0),
    ("__u8 daddr_v6[16]", 58, 16, 0),
];
/// 6.12 and 6.18: `tcp_send_reset` has its own fields, with whole socket addresses.
const SEND_RESET_6_12: &[(&str, u32, u32, u8)] = &[
    ("const void * skbaddr", 8, 8, 0),
    ("const void * skaddr", 16, 8, 0),
    ("int state", 24, 4, 1),
    ("enum sk_rst_reason reason", 28, 4, 0),
    ("__u8 saddr[28]", 32, 28, 0),
    ("__u8 daddr[28]", 60, 28, 0),
];
const DROP_5_10: &[(&str, u32, u32, u8)] = &[
    ("void * skbaddr", 8, 8, 0),
    ("void * location", 16, 8, 0),
    ("unsigned short protocol", 24, 2, 0),
];
const DROP_6_1: &[(&str, u32, u32, u8)] = &[
    ("void * skbaddr", 8, 8, 0),
    ("void * location", 16, 8, 0),
    ("unsigned short protocol", 24, 2, 0),
    ("enum skb_drop_reason reason", 28, 4, 0),
];
const DROP_6_12: &[(&str, u32, u32, u8)] = &[
    ("void * skbaddr", 8, 8, 0),
    ("void * location", 16, 8, 0),
    ("void * rx_sk", 24, 8, 0),
    ("unsigned short protocol", 32, 2, 0),
    ("enum skb_drop_reason reason", 36, 4, 0),
];
const EXEC: &[(&str, u32, u32, u8)] = &[
    ("__data_loc char[] filename", 8, 4, 1),
    ("pid_t pid", 12, 4, 1),
    ("pid_t old_pid", 16, 4, 1),
];
const EXIT_5_10: &[(&str, u32, u32, u8)] =
    &[("char comm[16]", 8, 16, 1), ("pid_t pid", 24, 4, 1), ("int prio", 28, 4, 1)];
const EXIT_6_18: &[(&str, u32, u32, u8)] = &[
    ("char comm[16]", 8, 16, 0),
    ("pid_t pid", 24, 4, 1),
    ("int prio", 28, 4, 1),
    ("bool group_dead", 32, 1, 0),
];

/// `tcp:tcp_retransmit_skb` of 6.18, byte for byte up to the print format.
const RETRANSMIT_6_18: &str = "\
name: tcp_retransmit_skb
ID: 2281
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:const void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:const void * skaddr;\toffset:16;\tsize:8;\tsigned:0;
\tfield:int state;\toffset:24;\tsize:4;\tsigned:1;
\tfield:__u16 sport;\toffset:28;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:30;\tsize:2;\tsigned:0;
\tfield:__u16 family;\toffset:32;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[4];\toffset:34;\tsize:4;\tsigned:0;
\tfield:__u8 daddr[4];\toffset:38;\tsize:4;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:42;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:58;\tsize:16;\tsigned:0;
\tfield:int err;\toffset:76;\tsize:4;\tsigned:1;

print fmt: \"skbaddr=%p skaddr=%p family=%s\", REC->skbaddr, REC->skaddr, { 2, \"AF_INET\" }
";

#[test]
fn a_real_file_reads_field_by_field() {
    let format = Format::parse(RETRANSMIT_6_18).expect("a format file");
    assert_eq!((format.name.as_str(), format.id), ("tcp_retransmit_skb", 2281));
    assert_eq!(format.fields.len(), 15);
    assert_eq!(
        format.field("err"),
        Some(&Field {
            name: "err".into(),
            offset: 76,
            size: 4,
            signed: true,
            location: Location::Inline
        })
    );
    assert_eq!(format.fixed_size(), 80);
}

#[test]
fn the_cookie_of_an_ended_socket_is_found_on_every_kernel() {
    for (fields, family) in [(SOCKET_5_10, None), (SOCKET_6_1, Some(20))] {
        for event in ["tcp_destroy_sock", "tcp_receive_reset"] {
            let format = parsed(event, fields);
            assert_eq!(format.require("sock_cookie", 8).expect("it is there"), 64);
            assert_eq!(format.offset("family", 2), family);
        }
    }
    assert_eq!(parsed("tcp_destroy_sock", SOCKET_5_10).offset("saddr", 4), Some(20));
    assert_eq!(parsed("tcp_destroy_sock", SOCKET_6_1).offset("saddr", 4), Some(22));
}

#[test]
fn retransmissions_keep_their_ports_and_move_their_addresses() {
    let old = parsed("tcp_retransmit_skb", PACKET_5_10);
    let new = parsed("tcp_retransmit_skb", PACKET_6_1);
    assert_eq!((old.offset("sport", 2), new.offset("sport", 2)), (Some(28), Some(28)));
    assert_eq!((old.offset("daddr_v6", 16), new.offset("daddr_v6", 16)), (Some(56), Some(58)));
}

#[test]
fn a_field_of_another_size_is_another_field() {
    let old = parsed("tcp_send_reset", PACKET_6_1);
    let new = parsed("tcp_send_reset", SEND_RESET_6_12);
    assert_eq!((old.offset("saddr", 4), old.offset("saddr", 28)), (Some(34), None));
    assert_eq!((new.offset("saddr", 4), new.offset("saddr", 28)), (None, Some(32)));
    assert_eq!((old.offset("reason", 4), new.offset("reason", 4)), (None, Some(28)));
    let error = new.require("sport", 2).expect_err("it is gone").to_string();
    assert_eq!(error, "tracepoint tcp_send_reset has no field sport of 2 bytes on this kernel");
}

#[test]
fn the_reason_of_a_drop_is_absent_moved_or_there() {
    let reasons = [DROP_5_10, DROP_6_1, DROP_6_12]
        .map(|fields| parsed("kfree_skb", fields).offset("reason", 4));
    assert_eq!(reasons, [None, Some(28), Some(36)]);
}

#[test]
fn the_file_name_of_a_program_is_elsewhere_in_the_record() {
    let format = parsed("sched_process_exec", EXEC);
    let field = format.field("filename").expect("it is there");
    assert_eq!((field.location, field.offset, field.size), (Location::FromRecord, 8, 4));
    assert_eq!(format.offset("filename", 4), None, "four bytes of it are no name");
    assert_eq!(format.offset("pid", 4), Some(12));
    let relative = parsed("x", &[("__rel_loc char[] text", 8, 4, 0)]);
    assert_eq!(relative.field("text").map(|field| field.location), Some(Location::FromField));
}

#[test]
fn the_end_of_a_process_tells_of_its_last_thread_only_where_it_can() {
    let old = parsed("sched_process_exit", EXIT_5_10);
    let new = parsed("sched_process_exit", EXIT_6_18);
    assert_eq!((old.offset("group_dead", 1), new.offset("group_dead", 1)), (None, Some(32)));
    assert_eq!((old.offset("comm", 16), new.offset("comm", 16)), (Some(8), Some(8)));
}

#[test]
fn numbers_have_the_names_of_this_kernel() {
    let text = "name: x\nID: 1\nformat:\n\tfield:int reason;\toffset:8;\tsize:4;\n\n\
        print fmt: \"%s %s\", REC->state ? __print_symbolic(REC->state, { TCP_CLOSE, \"CLOSE\" }) \
        : \"?\", __print_symbolic(REC->reason, { 2, \"NOT_SPECIFIED\" },\n { 3, \"NO_SOCKET\" })\n";
    let format = Format::parse(text).expect("a format file");
    assert_eq!(
        format.symbols("reason"),
        [(2, "NOT_SPECIFIED".to_owned()), (3, "NO_SOCKET".to_owned())]
    );
    assert_eq!((format.symbols("state"), format.symbols("absent")), (vec![], vec![]));
    let cut = Format { print: format.print[..format.print.len() - 8].to_owned(), ..format };
    assert_eq!(cut.symbols("reason").len(), 1, "what is cut off is left out");
}

#[test]
fn names_are_found_in_any_declaration() {
    for (declaration, name) in [
        ("unsigned long args[6]", "args"),
        ("char comm[TASK_COMM_LEN]", "comm"),
        ("__u8 saddr[sizeof(struct sockaddr_in6)]", "saddr"),
        ("const char *what", "what"),
        ("struct sock * sk", "sk"),
        ("__data_loc __u8[] bytes", "bytes"),
    ] {
        assert_eq!(declared_name(declaration), Some(name), "{declaration}");
    }
    assert_eq!(declared_name(""), None);
    assert_eq!(declared_name("odd ]"), None);
    assert_eq!(declared_name("unnamed [4]"), Some("unnamed"));
}

#[test]
fn what_is_no_format_is_refused_with_its_line() {
    let cut = &RETRANSMIT_6_18[..60];
    let no_size = "name: x\nID: 1\nformat:\n\tfield:int a;\toffset:0;\n";
    let bad_number = "name: x\nID: 1\nformat:\n\tfield:int a;\toffset:-1;\tsize:4;\n";
    for text in ["", "name: x\nID: seven\n", cut, no_size, bad_number, "\u{fffd}"] {
        let error = Format::parse(text).expect_err(text);
        assert!(matches!(error, FormatError::Unknown { .. }), "{error}");
    }
    let error = Format::parse(bad_number).expect_err("a negative offset").to_string();
    assert!(error.contains("tracepoint x") && error.contains("offset:-1"), "{error}");
}

#[test]
fn events_of_this_kernel_are_read() {
    let tracefs = match Tracefs::open() {
        Ok(tracefs) => tracefs,
        Err(error) if !rustix::process::geteuid().is_root() => {
            crate::requirement::skipped(&format!("not root, and {error}"));
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let ended = tracefs.event("tcp", "tcp_destroy_sock").expect("since 4.16");
    assert!(ended.require("sock_cookie", 8).is_ok() && ended.id > 0);
    let exec = tracefs.event("sched", "sched_process_exec").expect("since 3.4");
    assert_eq!(exec.field("filename").map(|field| field.location), Some(Location::FromRecord));
    let drop = tracefs.event("skb", "kfree_skb").expect("since 2.6");
    let named = drop.symbols("reason").iter().any(|(_, name)| name == "NO_SOCKET");
    assert_eq!(named, drop.offset("reason", 4).is_some(), "{}", drop.print);
    let error = tracefs.event("tcp", "tcp_no_such_event").expect_err("it does not exist");
    assert!(error.to_string().contains("tcp:tcp_no_such_event"), "{error}");
}
