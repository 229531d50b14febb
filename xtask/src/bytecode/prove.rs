//! The proof: a walk over everything a program may execute, with what its registers
//! and stack may hold.
//!
//! **What cannot be resolved is a refusal**, never a pass: the walk follows calls
//! into functions and callbacks with the arguments they get, joins what differs
//! between paths, and knows a number only where every path agrees on it.

mod arithmetic;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use super::image::Image;
use super::instruction::{CALL_HELPER, Class, FRAME_POINTER, Instruction};
use super::rules::{Rules, TAIL_CALL};
use super::value::{Frame, State, Value, join_frames};

/// Frames that the kernel allows one program.
const DEPTH: usize = 8;
/// Rounds after which a callback's effect must have settled; more is a refusal.
const ROUNDS: usize = 64;

/// Why the object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Function in which it happens.
    pub function: String,
    /// Slot of the instruction, from 0 at the function's start.
    pub slot: usize,
    /// What it does, or what could not be told.
    pub reason: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} instruction {}: {}", self.function, self.slot, self.reason)
    }
}

/// What was shown of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Exits of the program proper, each with 1 in `r0`.
    pub exits: BTreeSet<usize>,
    /// Tail calls, by function and slot; their failing paths were followed.
    pub tail_calls: BTreeSet<(usize, usize)>,
    /// Functions that were walked, the program included.
    pub functions: BTreeSet<usize>,
}

/// Proves one program of the image.
pub fn program(image: &Image, index: usize) -> Result<Proof, Violation> {
    let function = &image.functions[index];
    let rules = Rules::of(&function.section).map_err(|error| Violation {
        function: function.name.clone(),
        slot: 0,
        reason: error.to_string(),
    })?;
    let mut walk = Walk { image, rules, proof: Proof::default(), known: BTreeMap::new() };
    let arguments =
        [Value::Context(Some(0)), Value::UNKNOWN, Value::UNKNOWN, Value::UNKNOWN, Value::UNKNOWN];
    walk.function(index, State::enter(arguments, Vec::new()))?;
    Ok(walk.proof)
}

/// What a function leaves behind: its result, and the frames of its callers.
type Outcome = (Value, Vec<Frame>);

struct Walk<'a> {
    image: &'a Image,
    rules: Rules,
    proof: Proof,
    /// Functions with the state they were entered in: each is walked once.
    known: BTreeMap<(usize, State), Option<Outcome>>,
}

/// Where the walk stands.
#[derive(Clone, Copy)]
struct Place {
    function: usize,
    slot: usize,
}

impl Walk<'_> {
    fn refuse<T>(&self, place: Place, reason: impl Into<String>) -> Result<T, Violation> {
        Err(Violation {
            function: self.image.functions[place.function].name.clone(),
            slot: place.slot,
            reason: reason.into(),
        })
    }

    /// Walks a function; `None` where no path leaves it.
    fn function(&mut self, index: usize, entry: State) -> Result<Option<Outcome>, Violation> {
        let key = (index, entry);
        if let Some(outcome) = self.known.get(&key) {
            return Ok(outcome.clone());
        }
        let place = Place { function: index, slot: 0 };
        if key.1.frames.len() > DEPTH {
            return self.refuse(place, "calls nest deeper than the kernel allows");
        }
        self.proof.functions.insert(index);
        let outcome = self.paths(index, key.1.clone())?;
        self.known.insert(key, outcome.clone());
        Ok(outcome)
    }

    /// Follows all paths of a function until nothing new is learnt.
    fn paths(&mut self, index: usize, entry: State) -> Result<Option<Outcome>, Violation> {
        let is_main = entry.frames.len() == 1;
        let joints = self.joints(index)?;
        let mut states = BTreeMap::from([(0, entry)]);
        let mut open = BTreeSet::from([0]);
        let mut outcome: Option<Outcome> = None;
        while let Some(start) = open.pop_first() {
            let mut slot = start;
            let mut state = states[&start].clone();
            loop {
                let place = Place { function: index, slot };
                let instruction = self.fetch(place)?;
                if instruction.is_exit() {
                    self.exit(place, is_main, &state, &mut outcome)?;
                    break;
                }
                if instruction.is_call()
                    && instruction.src == CALL_HELPER
                    && instruction.imm == TAIL_CALL
                {
                    self.proof.tail_calls.insert((index, slot));
                    // Where it succeeds in a function, the other program returns to the caller.
                    merge(&mut outcome, Value::UNKNOWN, caller_frames(&state));
                }
                let (taken, next) = self.step(place, instruction, state)?;
                if let Some((target, state)) = taken {
                    arrive(&mut states, &mut open, target, &state);
                }
                let Some((following, after)) = next else { break };
                if joints.contains(&following) {
                    arrive(&mut states, &mut open, following, &after);
                    break;
                }
                (slot, state) = (following, after);
            }
        }
        Ok(outcome)
    }

    fn exit(
        &mut self,
        place: Place,
        is_main: bool,
        state: &State,
        outcome: &mut Option<Outcome>,
    ) -> Result<(), Violation> {
        let result = state.registers[0];
        if is_main {
            self.proof.exits.insert(place.slot);
            let otherwise = self.rules.otherwise;
            return match result {
                Value::Constant(1) => Ok(()),
                Value::Constant(other) => self
                    .refuse(place, format!("returns {}, which {otherwise}", other.cast_signed())),
                _ => self.refuse(
                    place,
                    format!("returns what is not known to be 1; anything else {otherwise}"),
                ),
            };
        }
        merge(outcome, result, caller_frames(state));
        Ok(())
    }

    fn fetch(&self, place: Place) -> Result<Instruction, Violation> {
        match self.image.functions[place.function].slots.get(place.slot) {
            Some(instruction)
                if instruction.dst > FRAME_POINTER
                    || usize::from(instruction.src) > FRAME_POINTER =>
            {
                self.refuse(place, "names a register that does not exist")
            }
            Some(&instruction) => Ok(instruction),
            None => self.refuse(place, "runs or jumps out of the function"),
        }
    }

    /// Slots that a jump of the function leads to.
    fn joints(&self, index: usize) -> Result<BTreeSet<usize>, Violation> {
        let mut joints = BTreeSet::new();
        let mut second_halves = BTreeSet::new();
        for (slot, instruction) in self.image.functions[index].slots.iter().enumerate() {
            if second_halves.contains(&slot) {
                continue;
            }
            if instruction.is_wide() {
                second_halves.insert(slot + 1);
            }
            let place = Place { function: index, slot };
            if let Some(target) = self.jump_target(place, *instruction)? {
                joints.insert(target);
            }
        }
        match joints.intersection(&second_halves).next() {
            Some(&slot) => self.refuse(
                Place { function: index, slot },
                "a jump leads into the middle of an instruction",
            ),
            None => Ok(joints),
        }
    }

    fn jump_target(
        &self,
        place: Place,
        instruction: Instruction,
    ) -> Result<Option<usize>, Violation> {
        let is_jump = matches!(instruction.class(), Class::Jump | Class::Jump32);
        if !is_jump || instruction.is_call() || instruction.is_exit() {
            return Ok(None);
        }
        // The long jump of 2023 keeps its distance in the immediate.
        let is_long = instruction.class() == Class::Jump32 && instruction.operation() == 0;
        let distance =
            if is_long { i64::from(instruction.imm) } else { i64::from(instruction.offset) };
        let target = (place.slot as u64 + 1).checked_add_signed(distance);
        match target.and_then(|target| usize::try_from(target).ok()) {
            Some(target) if target < self.image.functions[place.function].slots.len() => {
                Ok(Some(target))
            }
            _ => self.refuse(place, "jumps out of the function"),
        }
    }
}

fn caller_frames(state: &State) -> Vec<Frame> {
    state.frames[..state.frames.len() - 1].to_vec()
}

fn merge(outcome: &mut Option<Outcome>, result: Value, frames: Vec<Frame>) {
    *outcome = Some(match outcome.take() {
        Some((earlier, stacks)) => (earlier.join(result), join_frames(&stacks, &frames)),
        None => (result, frames),
    });
}

fn arrive(
    states: &mut BTreeMap<usize, State>,
    open: &mut BTreeSet<usize>,
    slot: usize,
    state: &State,
) {
    let joined = match states.get(&slot) {
        Some(known) => known.join(state),
        None => state.clone(),
    };
    if states.get(&slot) != Some(&joined) {
        states.insert(slot, joined);
        open.insert(slot);
    }
}
