//! Copies of an object that were altered to break the rules: the proof must refuse each.
//!
//! Alterations stand on the object itself, so that a proof which has gone blind to
//! what the compiler writes today is noticed today.

use super::image::{Function, Image};
use super::instruction::{Class, Instruction};
use super::prove::Proof;

/// `r0 = 1`, in 64 and in 32 bits.
const SET_RESULT: [u8; 2] = [0xb7, 0xb4];
/// `*(u32 *)(dst + offset) = imm`
const STORE_WORD: u8 = 0x62;
const EXIT: u8 = 0x95;
/// `goto`, with a distance of 0: the next instruction.
const GOTO: u8 = 0x05;
/// Where a `sock_ops` program would write its reply.
const REPLY: i16 = 4;

/// One altered copy.
#[derive(Debug)]
pub struct Altered {
    /// The program whose proof must fail.
    pub program: usize,
    /// What was done to it.
    pub what: String,
    /// The object.
    pub bytes: Vec<u8>,
}

/// All alterations of one program.
#[must_use]
pub fn copies(bytes: &[u8], image: &Image, program: usize, proof: &Proof) -> Vec<Altered> {
    let function = &image.functions[program];
    let mut altered = Vec::new();
    let mut alter = |function: &Function, slots: &[(usize, Instruction)], what: String| {
        let mut copy = bytes.to_vec();
        for &(slot, instruction) in slots {
            let at = function.file_offset + slot * 8;
            copy[at..at + 8].copy_from_slice(&instruction.encode());
        }
        altered.push(Altered { program, what, bytes: copy });
    };
    for slot in result_setters(function, proof) {
        let zero = Instruction { imm: 0, ..function.slots[slot] };
        alter(
            function,
            &[(slot, zero)],
            format!("{}: instruction {slot} to r0 = 0", function.name),
        );
    }
    for &exit in &proof.exits {
        let Some(before) = exit.checked_sub(1) else { continue };
        let is_second_half = before.checked_sub(1).is_some_and(|slot| {
            function.slots[slot].is_wide() && function.slots[before].opcode == 0
        });
        if !is_second_half {
            let zero = Instruction { opcode: SET_RESULT[0], dst: 0, src: 0, offset: 0, imm: 0 };
            let what = format!("{}: r0 = 0 before the exit {exit}", function.name);
            alter(function, &[(before, zero)], what);
        }
    }
    let store = Instruction { opcode: STORE_WORD, dst: 1, src: 0, offset: REPLY, imm: 0 };
    let nothing = Instruction { opcode: GOTO, dst: 0, src: 0, offset: 0, imm: 0 };
    let start: &[_] =
        if function.slots[0].is_wide() { &[(0, store), (1, nothing)] } else { &[(0, store)] };
    // A call keeps its relocation, so it cannot become another instruction.
    if !function.targets.contains_key(&0) {
        alter(
            function,
            start,
            format!("{}: instruction 0 to a store to the context", function.name),
        );
    }
    let exit = Instruction { opcode: EXIT, dst: 0, src: 0, offset: 0, imm: 0 };
    for &(index, slot) in proof.tail_calls.iter().filter(|&&(index, _)| index == program) {
        let function = &image.functions[index];
        alter(
            function,
            &[(slot + 1, exit)],
            format!("{}: exit behind the tail call {slot}", function.name),
        );
    }
    altered
}

/// Slots that set `r0` to 1 and run into an exit without anything in between that could set it again.
fn result_setters(function: &Function, proof: &Proof) -> Vec<usize> {
    let setters = function.slots.iter().enumerate().filter(|(_, instruction)| {
        SET_RESULT.contains(&instruction.opcode) && instruction.dst == 0 && instruction.imm == 1
    });
    setters.map(|(slot, _)| slot).filter(|&slot| runs_to_exit(function, slot + 1, proof)).collect()
}

fn runs_to_exit(function: &Function, mut slot: usize, proof: &Proof) -> bool {
    for _ in 0..function.slots.len() {
        if proof.exits.contains(&slot) {
            return true;
        }
        let Some(instruction) = function.slots.get(slot) else { return false };
        match instruction.class() {
            Class::Jump if instruction.operation() == 0 => {
                let target = (slot as i64 + 1).checked_add(instruction.offset.into());
                match target.and_then(|target| usize::try_from(target).ok()) {
                    Some(target) => slot = target,
                    None => return false,
                }
            }
            Class::Store | Class::StoreRegister => slot += 1,
            _ => return false,
        }
    }
    false
}
