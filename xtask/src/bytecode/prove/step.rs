//! What one instruction does to registers and stacks, and what it must not do.

use super::super::instruction::{CALL_HELPER, CALL_LOCAL, Class, FRAME_POINTER, Instruction};
use super::super::rules::{FOR_EACH, LOOP};
use super::super::value::{Frame, State, Taint, Value};
use super::arithmetic::{arithmetic, operand, truncate};
use super::{Outcome, Place, ROUNDS, Violation, Walk};

/// A place to go on at, and what holds there.
type Arrival = Option<(usize, State)>;

const MODE_MEMORY: u8 = 0x60;
const MODE_SIGNED: u8 = 0x80;
const MODE_ATOMIC: u8 = 0xc0;

const JUMP_ALWAYS: u8 = 0x00;
const JUMP_EQUAL: u8 = 0x10;
const JUMP_NOT_EQUAL: u8 = 0x50;
/// `jsle`, the last comparison.
const JUMP_LAST: u8 = 0xd0;
/// Between the comparisons: calls and exits in forms that no program needs.
const NO_JUMPS: [u8; 2] = [0x80, 0x90];

/// `cmpxchg`: the old value goes to `r0`.
const COMPARE_EXCHANGE: i32 = 0xf1;
/// Set where an atomic operation returns the old value.
const FETCH: i32 = 0x01;

impl Walk<'_> {
    /// Where a taken jump leads, and what follows otherwise.
    pub(super) fn step(
        &mut self,
        place: Place,
        instruction: Instruction,
        mut state: State,
    ) -> Result<(Arrival, Arrival), Violation> {
        let mut width = 1;
        match instruction.class() {
            Class::Arithmetic | Class::Arithmetic32 => {
                let value = arithmetic(instruction, &state);
                self.write(place, instruction.dst, value, &mut state)?;
            }
            Class::Load => {
                if !instruction.is_wide() {
                    return self.refuse(
                        place,
                        "a legacy packet load ends the program with 0 where the packet is short",
                    );
                }
                width = 2;
                let value = self.wide(place, instruction)?;
                self.write(place, instruction.dst, value, &mut state)?;
            }
            Class::LoadRegister => {
                let value = self.load(place, instruction, &state)?;
                self.write(place, instruction.dst, value, &mut state)?;
            }
            Class::Store | Class::StoreRegister => self.store(place, instruction, &mut state)?,
            Class::Jump if instruction.is_call() => {
                if !self.call(place, instruction, &mut state)? {
                    return Ok((None, None));
                }
            }
            Class::Jump | Class::Jump32 => return self.jump(place, instruction, state),
        }
        Ok((None, Some((place.slot + width, state))))
    }

    fn write(
        &self,
        place: Place,
        register: usize,
        value: Value,
        state: &mut State,
    ) -> Result<(), Violation> {
        if register >= FRAME_POINTER {
            return self.refuse(place, "writes a register that cannot be written");
        }
        state.registers[register] = value;
        Ok(())
    }

    fn wide(&self, place: Place, instruction: Instruction) -> Result<Value, Violation> {
        let function = &self.image.functions[place.function];
        let Some(high) = function.slots.get(place.slot + 1) else {
            return self.refuse(place, "the second half of a 64-bit immediate is missing");
        };
        if let Some(&target) = function.targets.get(&place.slot) {
            return Ok(Value::Function(target));
        }
        // Without a relocation and with a plain source it is a number; else a map or global.
        // A relocated address reads 0 here, so 0 is not taken for a number.
        let low = u64::from(instruction.imm.cast_unsigned());
        let number = u64::from(high.imm.cast_unsigned()) << 32 | low;
        Ok(if instruction.src == 0 && number > u64::from(u32::MAX) {
            Value::Constant(number)
        } else {
            Value::UNKNOWN
        })
    }

    fn load(
        &self,
        place: Place,
        instruction: Instruction,
        state: &State,
    ) -> Result<Value, Violation> {
        let is_signed = instruction.mode() == MODE_SIGNED;
        if !is_signed && instruction.mode() != MODE_MEMORY {
            return self.refuse(place, "a load of a kind that is not understood");
        }
        let base = state.registers[usize::from(instruction.src)];
        let value = read(state, base, instruction.offset, instruction.width());
        Ok(if is_signed { Value::Any(value.taint()) } else { value })
    }

    fn store(
        &self,
        place: Place,
        instruction: Instruction,
        state: &mut State,
    ) -> Result<(), Violation> {
        let width = instruction.width();
        let base = state.registers[instruction.dst];
        let is_atomic =
            instruction.class() == Class::StoreRegister && instruction.mode() == MODE_ATOMIC;
        if !is_atomic && instruction.mode() != MODE_MEMORY {
            return self.refuse(place, "a store of a kind that is not understood");
        }
        let stored = match instruction.class() {
            Class::Store => Value::Constant(truncate(instruction.wide_immediate(), width)),
            _ => match state.registers[usize::from(instruction.src)] {
                Value::Constant(number) => Value::Constant(truncate(number, width)),
                value => value,
            },
        };
        self.permit(place, instruction, base, stored)?;
        if is_atomic {
            let old = Value::Any(read(state, base, instruction.offset, width).taint());
            put(state, base, instruction.offset, width, Value::Any(stored.taint().or(old.taint())));
            if instruction.imm == COMPARE_EXCHANGE {
                state.registers[0] = old;
            } else if instruction.imm & FETCH != 0 {
                self.write(place, instruction.src.into(), old, state)?;
            }
        } else {
            put(state, base, instruction.offset, width, stored);
        }
        Ok(())
    }

    /// Refuses a store that changes the context, or hides it where it cannot be followed.
    fn permit(
        &self,
        place: Place,
        instruction: Instruction,
        base: Value,
        stored: Value,
    ) -> Result<(), Violation> {
        match base {
            Value::Context(Some(at)) => {
                let at = at + i64::from(instruction.offset);
                let end = at + i64::from(instruction.width());
                let scratch = &self.rules.scratch;
                if at < scratch.start || end > scratch.end {
                    return self.refuse(
                        place,
                        format!(
                            "writes bytes {at} to {end} of its context (a reply, a mark, an address)"
                        ),
                    );
                }
            }
            base if base.taint().context => {
                return self.refuse(place, "may write its context at a place that is not known");
            }
            _ => {}
        }
        if stored.taint().context && !matches!(base, Value::Stack(..)) {
            return self.refuse(place, "puts the context where it cannot be followed");
        }
        Ok(())
    }

    fn jump(
        &self,
        place: Place,
        instruction: Instruction,
        state: State,
    ) -> Result<(Arrival, Arrival), Violation> {
        let operation = instruction.operation();
        let target = match self.jump_target(place, instruction)? {
            Some(target) if operation <= JUMP_LAST && !NO_JUMPS.contains(&operation) => target,
            _ => return self.refuse(place, "a jump of a kind that is not understood"),
        };
        if operation == JUMP_ALWAYS {
            return Ok((None, Some((target, state))));
        }
        let mut taken = state.clone();
        let mut following = state;
        if instruction.class() == Class::Jump {
            let operand = operand(instruction, &taken);
            let equal = match operation {
                JUMP_EQUAL => Some(&mut taken),
                JUMP_NOT_EQUAL => Some(&mut following),
                _ => None,
            };
            let register = instruction.dst;
            if let (Some(state), Value::Constant(_)) = (equal, operand)
                && state.registers[register] == Value::UNKNOWN
            {
                state.registers[register] = operand;
            }
        }
        Ok((Some((target, taken)), Some((place.slot + 1, following))))
    }

    /// `false` where the call never returns.
    fn call(
        &mut self,
        place: Place,
        instruction: Instruction,
        state: &mut State,
    ) -> Result<bool, Violation> {
        match instruction.src {
            CALL_HELPER => self.helper(place, instruction.imm, state).map(|()| true),
            CALL_LOCAL => {
                let function = &self.image.functions[place.function];
                let Some(&callee) = function.targets.get(&place.slot) else {
                    return self.refuse(place, "calls a function that is not in the object");
                };
                let entry = State::enter(state.arguments(), state.frames.clone());
                let Some((result, frames)) = self.function(callee, entry)? else {
                    return Ok(false);
                };
                state.frames = frames;
                state.leave(result);
                Ok(true)
            }
            _ => self.refuse(place, "calls a function of the kernel that is no helper"),
        }
    }

    fn helper(&mut self, place: Place, number: i32, state: &mut State) -> Result<(), Violation> {
        if !self.rules.allows_helper(number) {
            return self.refuse(
                place,
                format!("calls helper {number}, which is not known to observe only"),
            );
        }
        let arguments = state.arguments();
        let callbacks = arguments.iter().filter_map(|argument| match argument {
            Value::Function(function) => Some(*function),
            _ => None,
        });
        for callback in callbacks {
            self.callback(place, number, callback, state)?;
        }
        if let Some((buffer, length)) = self.rules.fills(number) {
            fill(state, arguments[buffer], arguments[length]);
        }
        state.leave(Value::UNKNOWN);
        Ok(())
    }

    /// The kernel may call it never, once or often: its effect is joined until it settles.
    fn callback(
        &mut self,
        place: Place,
        number: i32,
        callback: usize,
        state: &mut State,
    ) -> Result<(), Violation> {
        let [_, _, context, ..] = state.arguments();
        let mut arguments = [Value::UNKNOWN; 5];
        match number {
            LOOP => arguments[1] = context,
            FOR_EACH => arguments[3] = context,
            _ => return self.refuse(place, "a helper whose callbacks are not understood"),
        }
        for _ in 0..ROUNDS {
            let entry = State::enter(arguments, state.frames.clone());
            let after: Option<Outcome> = self.function(callback, entry)?;
            let Some((_, frames)) = after else { return Ok(()) };
            let joined = super::join_frames(&state.frames, &frames);
            if joined == state.frames {
                return Ok(());
            }
            state.frames = joined;
        }
        self.refuse(place, "a callback whose effect does not settle")
    }
}

fn read(state: &State, base: Value, offset: i16, width: u8) -> Value {
    match base {
        Value::Stack(frame, at) => {
            state.frames[frame].load(at.map(|at| at + i64::from(offset)), width)
        }
        base if base.taint().stack => Value::Any(
            state.frames.iter().fold(Taint::default(), |taint, frame| taint.or(frame.taint())),
        ),
        _ => Value::UNKNOWN,
    }
}

fn put(state: &mut State, base: Value, offset: i16, width: u8, value: Value) {
    match base {
        Value::Stack(frame, at) => {
            state.frames[frame].store(at.map(|at| at + i64::from(offset)), width, value);
        }
        base if base.taint().stack => {
            for frame in &mut state.frames {
                frame.store(None, width, value);
            }
        }
        _ => {}
    }
}

/// A helper wrote `length` bytes at `buffer`.
fn fill(state: &mut State, buffer: Value, length: Value) {
    let length = match length {
        Value::Constant(length) => i64::try_from(length).ok(),
        _ => None,
    };
    match buffer {
        Value::Stack(frame, Some(at)) => state.frames[frame].fill(at, length),
        buffer if buffer.taint().stack => state.frames.iter_mut().for_each(Frame::blur),
        _ => {}
    }
}
