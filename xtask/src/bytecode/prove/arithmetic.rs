//! Arithmetic on numbers that are known and on pointers that are followed.

use super::super::instruction::{Class, Instruction};
use super::super::value::{State, Value};

const ADD: u8 = 0x00;
const SUB: u8 = 0x10;
const MUL: u8 = 0x20;
const OR: u8 = 0x40;
const AND: u8 = 0x50;
const LSH: u8 = 0x60;
const RSH: u8 = 0x70;
const XOR: u8 = 0xa0;
const MOV: u8 = 0xb0;

/// The right side: an immediate or a register.
pub(super) fn operand(instruction: Instruction, state: &State) -> Value {
    if instruction.is_register_operand() {
        state.registers[usize::from(instruction.src)]
    } else {
        Value::Constant(instruction.wide_immediate())
    }
}

/// What the destination holds afterwards.
pub(super) fn arithmetic(instruction: Instruction, state: &State) -> Value {
    let left = state.registers[instruction.dst];
    let right = operand(instruction, state);
    let is_narrow = instruction.class() == Class::Arithmetic32;
    let operation = instruction.operation();
    // Sign-extending moves and signed divisions have a distance in the offset field.
    if instruction.offset == 0 {
        if !is_narrow {
            match operation {
                MOV => return right,
                ADD | SUB => return left.add(right, operation == SUB),
                _ => {}
            }
        }
        let known = match (left, right) {
            (_, Value::Constant(right)) if operation == MOV => Some(right),
            (Value::Constant(left), Value::Constant(right)) => {
                fold(operation, left, right, is_narrow)
            }
            _ => None,
        };
        if let Some(number) = known {
            return Value::Constant(if is_narrow { truncate(number, 4) } else { number });
        }
    }
    Value::Any(left.taint().or(right.taint()))
}

fn fold(operation: u8, left: u64, right: u64, is_narrow: bool) -> Option<u64> {
    let (left, bits) = if is_narrow { (truncate(left, 4), 32) } else { (left, 64) };
    let distance = u32::try_from(right).ok().filter(|&distance| distance < bits);
    Some(match operation {
        ADD => left.wrapping_add(right),
        SUB => left.wrapping_sub(right),
        MUL => left.wrapping_mul(right),
        OR => left | right,
        AND => left & right,
        XOR => left ^ right,
        LSH => left << distance?,
        RSH => left >> distance?,
        _ => return None,
    })
}

/// The low `width` bytes.
pub(super) const fn truncate(number: u64, width: u8) -> u64 {
    match width {
        1 => number & 0xff,
        2 => number & 0xffff,
        4 => number & 0xffff_ffff,
        _ => number,
    }
}
