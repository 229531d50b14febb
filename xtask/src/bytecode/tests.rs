//! The proof on hand-assembled functions: what it must accept, and what it must refuse.

use std::collections::BTreeMap;
use std::path::Path;

use super::alter;
use super::image::{Function, Image};
use super::instruction::Instruction;
use super::prove::{self, Proof, Violation};
use super::rules::{LOOP, TAIL_CALL};

const PACKET: &str = "cgroup/skb";
const SOCK_OPS: &str = "sockops";

const fn slot(opcode: u8, dst: usize, src: u8, offset: i16, imm: i32) -> Instruction {
    Instruction { opcode, dst, src, offset, imm }
}

const fn set(register: usize, number: i32) -> Instruction {
    slot(0xb7, register, 0, 0, number)
}

const fn copy(to: usize, from: u8) -> Instruction {
    slot(0xbf, to, from, 0, 0)
}

const fn add(register: usize, number: i32) -> Instruction {
    slot(0x07, register, 0, 0, number)
}

/// `*(u32 *)(register + offset) = 0`
const fn store_word(register: usize, offset: i16) -> Instruction {
    slot(0x62, register, 0, offset, 0)
}

/// `*(u64 *)(base + offset) = from`
const fn spill(base: usize, offset: i16, from: u8) -> Instruction {
    slot(0x7b, base, from, offset, 0)
}

/// `to = *(u64 *)(base + offset)`
const fn fill(to: usize, base: u8, offset: i16) -> Instruction {
    slot(0x79, to, base, offset, 0)
}

/// `if register == number goto +distance`
const fn if_equal(register: usize, number: i32, distance: i16) -> Instruction {
    slot(0x15, register, 0, distance, number)
}

const fn goto(distance: i16) -> Instruction {
    slot(0x05, 0, 0, distance, 0)
}

const fn helper(number: i32) -> Instruction {
    slot(0x85, 0, 0, 0, number)
}

/// Calls the function of this index.
const fn local(index: i32) -> Instruction {
    slot(0x85, 0, 1, 0, index)
}

/// Both slots of `register = &function`.
const fn address_of(register: usize, index: i32) -> [Instruction; 2] {
    [slot(0x18, register, 4, 0, index), slot(0, 0, 0, 0, 0)]
}

const EXIT: Instruction = slot(0x95, 0, 0, 0, 0);

/// An image of a program and the functions that it calls by their index, from 1.
fn image(section: &str, program: &[Instruction], functions: &[&[Instruction]]) -> Image {
    let code = std::iter::once((section, program))
        .chain(functions.iter().map(|function| (".text", *function)));
    let functions = code.enumerate().map(|(index, (section, slots))| {
        let targets = slots.iter().enumerate().filter_map(|(at, slot)| {
            let names_function = (slot.is_call() && slot.src == 1) || slot.opcode == 0x18;
            names_function.then(|| (at, usize::try_from(slot.imm).unwrap()))
        });
        Function {
            name: format!("f{index}"),
            section: section.to_owned(),
            file_offset: 0,
            slots: slots.to_vec(),
            targets: targets.collect::<BTreeMap<_, _>>(),
            data: std::collections::BTreeSet::new(),
        }
    });
    Image { functions: functions.collect() }
}

fn run(
    section: &str,
    program: &[Instruction],
    functions: &[&[Instruction]],
) -> Result<Proof, Violation> {
    prove::program(&image(section, program, functions), 0)
}

#[track_caller]
fn refused(section: &str, program: &[Instruction], functions: &[&[Instruction]], reason: &str) {
    match run(section, program, functions) {
        Ok(_) => panic!("accepted, expected: {reason}"),
        Err(violation) => {
            let text = violation.to_string();
            assert!(text.contains(reason), "{text:?} does not say {reason:?}");
        }
    }
}

#[test]
fn every_exit_counts() {
    assert!(run(PACKET, &[set(0, 1), EXIT], &[]).is_ok());
    refused(PACKET, &[set(0, 0), EXIT], &[], "f0 instruction 1: returns 0, which drops the packet");
    refused(PACKET, &[set(0, 2), EXIT], &[], "returns 2");
    refused(PACKET, &[set(0, -1), EXIT], &[], "returns -1");
    refused(PACKET, &[EXIT], &[], "not known to be 1");
    // One path of two.
    let forked = [set(0, 1), if_equal(1, 0, 1), EXIT, set(0, 0), EXIT];
    refused(PACKET, &forked, &[], "f0 instruction 4: returns 0");
    let joined = [set(0, 1), if_equal(1, 0, 1), set(0, 0), EXIT];
    refused(PACKET, &joined, &[], "not known to be 1");
    let proof = run(PACKET, &[if_equal(1, 0, 2), set(0, 1), EXIT, set(0, 1), EXIT], &[]).unwrap();
    assert_eq!(proof.exits.len(), 2);
}

#[test]
fn numbers_are_followed_through_registers_stack_and_comparisons() {
    let moved = [set(6, 1), copy(0, 6), EXIT];
    assert!(run(PACKET, &moved, &[]).is_ok());
    let spilled = [set(6, 1), spill(10, -8, 6), helper(7), fill(0, 10, -8), EXIT];
    assert!(run(PACKET, &spilled, &[]).is_ok());
    let overwritten = [set(6, 1), spill(10, -8, 6), store_word(10, -4), fill(0, 10, -8), EXIT];
    refused(PACKET, &overwritten, &[], "not known to be 1");
    // Behind the comparison, r0 is what it was compared with.
    let compared = [helper(7), if_equal(0, 1, 1), set(0, 1), EXIT];
    assert!(run(PACKET, &compared, &[]).is_ok());
    let counted = [set(0, 0), add(0, 1), EXIT];
    assert!(run(PACKET, &counted, &[]).is_ok());
    // A loop: the number changes with every round.
    let looped = [set(0, 1), add(0, 1), if_equal(1, 0, -2), EXIT];
    refused(PACKET, &looped, &[], "drops the packet");
}

#[test]
fn a_helper_that_fills_a_buffer_makes_it_unknown() {
    // skb_load_bytes(ctx, 0, fp - 8, 8) over the spilled number.
    let program = |length: i32| {
        let buffer = [copy(3, 10), add(3, -8), set(2, 0), set(4, length), helper(26)];
        let mut slots = vec![set(6, 1), spill(10, -8, 6)];
        slots.extend(buffer);
        slots.extend([fill(0, 10, -8), EXIT]);
        slots
    };
    refused(PACKET, &program(8), &[], "not known to be 1");
    refused(PACKET, &program(1), &[], "not known to be 1");
    // A buffer that ends below it.
    let mut below = program(8);
    below[3] = add(3, -16);
    assert!(run(PACKET, &below, &[]).is_ok());
    // With a length that is not known it may reach anything above.
    below[5] = copy(4, 0);
    refused(PACKET, &below, &[], "not known to be 1");
}

#[test]
fn results_of_functions_and_failed_tail_calls_count() {
    assert!(run(PACKET, &[local(1), set(0, 1), EXIT], &[&[set(0, 0), EXIT]]).is_ok());
    assert!(run(PACKET, &[local(1), EXIT], &[&[set(0, 1), EXIT]]).is_ok());
    refused(PACKET, &[local(1), EXIT], &[&[set(0, 0), EXIT]], "returns 0");
    let forked: &[Instruction] = &[if_equal(1, 0, 2), set(0, 1), EXIT, set(0, 0), EXIT];
    refused(PACKET, &[local(1), EXIT], &[forked], "not known to be 1");
    refused(PACKET, &[helper(TAIL_CALL), EXIT], &[], "not known to be 1");
    let proof = run(PACKET, &[helper(TAIL_CALL), set(0, 1), EXIT], &[]).unwrap();
    assert_eq!(proof.tail_calls.len(), 1);
    // Where the tail call succeeds inside a function, another program's result comes back.
    let tail: &[Instruction] = &[helper(TAIL_CALL), set(0, 1), EXIT];
    refused(PACKET, &[local(1), EXIT], &[tail], "not known to be 1");
    assert!(run(PACKET, &[local(1), set(0, 1), EXIT], &[tail]).is_ok());
    // A function never hands over a caller's r6.
    refused(PACKET, &[set(6, 1), local(1), EXIT], &[&[copy(0, 6), EXIT]], "not known to be 1");
}

#[test]
fn a_function_may_write_the_callers_stack() {
    let caller =
        [set(6, 1), spill(10, -8, 6), copy(1, 10), add(1, -8), local(1), fill(0, 10, -8), EXIT];
    assert!(run(PACKET, &caller, &[&[set(0, 0), EXIT]]).is_ok());
    let writes: &[Instruction] = &[store_word(1, 0), set(0, 0), EXIT];
    refused(PACKET, &caller, &[writes], "not known to be 1");
    let puts_one: &[Instruction] = &[set(2, 1), spill(1, 0, 2), set(0, 0), EXIT];
    assert!(run(PACKET, &caller, &[puts_one]).is_ok());
}

#[test]
fn nothing_writes_the_context() {
    let reason = "writes bytes 4 to 8 of its context";
    refused(SOCK_OPS, &[store_word(1, 4), set(0, 1), EXIT], &[], reason);
    refused(SOCK_OPS, &[copy(6, 1), add(6, 4), store_word(6, 0), set(0, 1), EXIT], &[], reason);
    // Through the stack, across a helper.
    let spilled = [spill(10, -8, 1), helper(7), fill(6, 10, -8), store_word(6, 4), set(0, 1), EXIT];
    refused(SOCK_OPS, &spilled, &[], reason);
    // In a function that gets it as an argument, or a pointer to where it stands.
    let writes: &[Instruction] = &[store_word(1, 4), set(0, 0), EXIT];
    refused(SOCK_OPS, &[local(1), set(0, 1), EXIT], &[writes], "f1 instruction 0: writes");
    let through: &[Instruction] = &[fill(2, 1, 0), store_word(2, 4), set(0, 0), EXIT];
    let passes = [spill(10, -8, 1), copy(1, 10), add(1, -8), local(1), set(0, 1), EXIT];
    refused(SOCK_OPS, &passes, &[through], "f1 instruction 1: writes");
    // On one path of two.
    let forked = [copy(6, 10), if_equal(1, 0, 1), copy(6, 1), store_word(6, -8), set(0, 1), EXIT];
    refused(SOCK_OPS, &forked, &[], "may write its context");
    // At a distance that is not known.
    let far = [copy(6, 1), helper(7), slot(0x0f, 6, 0, 0, 0), store_word(6, 0), set(0, 1), EXIT];
    refused(SOCK_OPS, &far, &[], "may write its context");
    // An atomic operation is a store too.
    refused(SOCK_OPS, &[slot(0xc3, 1, 2, 4, 0), set(0, 1), EXIT], &[], reason);
    // Hidden in memory that is not followed.
    let hidden = [copy(6, 1), helper(7), spill(0, 0, 6), set(0, 1), EXIT];
    refused(SOCK_OPS, &hidden, &[], "where it cannot be followed");
    // Other memory may be written.
    assert!(run(SOCK_OPS, &[helper(1), store_word(0, 4), set(0, 1), EXIT], &[]).is_ok());
    assert!(run(SOCK_OPS, &[store_word(10, -8), set(0, 1), EXIT], &[]).is_ok());
}

#[test]
fn scratch_of_packets_may_be_written_and_their_mark_may_not() {
    assert!(run(PACKET, &[store_word(1, 48), set(0, 1), EXIT], &[]).is_ok());
    assert!(run(PACKET, &[store_word(1, 64), set(0, 1), EXIT], &[]).is_ok());
    refused(PACKET, &[store_word(1, 66), set(0, 1), EXIT], &[], "writes bytes 66 to 70");
    refused(PACKET, &[store_word(1, 8), set(0, 1), EXIT], &[], "writes bytes 8 to 12");
    refused("cgroup/connect4", &[store_word(1, 4), set(0, 1), EXIT], &[], "writes bytes 4 to 8");
}

#[test]
fn callbacks_are_followed() {
    let program = |callback: i32| {
        let mut slots = vec![set(6, 1), spill(10, -8, 6), spill(10, -16, 1)];
        slots.extend([copy(3, 10), add(3, -16), set(1, 9)]);
        slots.extend(address_of(2, callback));
        slots.extend([set(4, 0), helper(LOOP), fill(0, 10, -8), EXIT]);
        slots
    };
    let harmless: &[Instruction] = &[set(0, 0), EXIT];
    let writes_caller: &[Instruction] = &[store_word(2, 8), set(0, 0), EXIT];
    let writes_context: &[Instruction] = &[fill(3, 2, 0), store_word(3, 4), set(0, 0), EXIT];
    assert!(run(SOCK_OPS, &program(1), &[harmless]).is_ok());
    refused(SOCK_OPS, &program(1), &[writes_caller], "not known to be 1");
    refused(SOCK_OPS, &program(1), &[writes_context], "f1 instruction 1: writes bytes 4 to 8");
}

#[test]
fn what_cannot_be_resolved_is_refused() {
    let then = |first: Instruction| vec![first, set(0, 1), EXIT];
    // bpf_setsockopt, bpf_skb_store_bytes, bpf_bind; a kernel function; a call through a register.
    for number in [49, 9, 64] {
        refused(SOCK_OPS, &then(helper(number)), &[], "not known to observe only");
    }
    refused(PACKET, &then(helper(59)), &[], "not known to observe only");
    assert!(run(SOCK_OPS, &then(helper(59)), &[]).is_ok());
    refused(PACKET, &then(slot(0x85, 0, 2, 0, 77)), &[], "no helper");
    refused(PACKET, &then(slot(0x8d, 6, 0, 0, 0)), &[], "not understood");
    // Legacy packet loads end the program with 0; goto_or_nop; stores of unknown kinds.
    refused(PACKET, &then(slot(0x30, 0, 0, 0, 0)), &[], "legacy packet load");
    refused(PACKET, &then(slot(0xe5, 0, 0, 0, 0)), &[], "not understood");
    refused(PACKET, &then(slot(0x82, 10, 0, -8, 0)), &[], "not understood");
    refused(PACKET, &then(slot(0xb7, 11, 0, 0, 0)), &[], "does not exist");
    refused(PACKET, &then(set(10, 0)), &[], "cannot be written");
    refused(PACKET, &[set(0, 1)], &[], "out of the function");
    refused(PACKET, &[set(0, 1), goto(5), EXIT], &[], "jumps out of the function");
    refused(PACKET, &[goto(-2), set(0, 1), EXIT], &[], "jumps out of the function");
    let [low, high] = address_of(2, 1);
    let middle = [if_equal(1, 0, 1), low, high, set(0, 1), EXIT];
    refused(PACKET, &middle, &[&[set(0, 0), EXIT]], "middle of an instruction");
    refused("sk_msg", &then(set(0, 1)), &[], "no rules are written");
    // A function that calls itself.
    refused(PACKET, &[local(1), set(0, 1), EXIT], &[&[local(1), EXIT]], "nest deeper");
}

#[test]
fn tracepoints_hide_no_event() {
    refused("tracepoint", &[set(0, 0), EXIT], &[], "hides the event from other observers");
    assert!(run("tracepoint/tcp/tcp_probe", &[set(0, 1), EXIT], &[]).is_ok());
}

#[test]
fn instructions_survive_decoding() {
    for bytes in [[0xb7, 0x10, 0x34, 0x92, 1, 2, 3, 0xff], [0x7b, 0x6a, 0xf8, 0xff, 0, 0, 0, 0]] {
        assert_eq!(Instruction::decode(bytes).encode(), bytes);
    }
}

/// The committed object and altered copies of it, as CI proves them.
#[test]
fn the_committed_object_is_proven_and_altered_copies_are_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ebpf/object/meshtap.bpf.o");
    let bytes = std::fs::read(&path).expect("the committed object");
    let summary = super::prove(&bytes).unwrap();
    assert!(summary.refused >= 3 * summary.programs, "{summary}");
    let image = Image::read(&bytes).unwrap();
    let program = image.programs().next().unwrap();
    let proof = prove::program(&image, program).unwrap();
    for copy in alter::copies(&bytes, &image, program, &proof) {
        let error = super::prove(&copy.bytes).expect_err(&copy.what).to_string();
        assert!(error.contains(&image.functions[program].name), "{error}");
    }
}

#[test]
fn what_is_no_object_is_an_error() {
    assert!(super::prove(b"").is_err());
    assert!(super::prove(&[0x7f; 4096]).is_err());
}
