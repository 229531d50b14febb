//! What a register or a place on the stack may hold, and how that changes.
//!
//! **A value that is not known to be free of the context pointer counts as it.**

use std::collections::BTreeMap;

/// An abstract value. [`Value::UNKNOWN`] is any number or any pointer to elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Exactly this number.
    Constant(u64),
    /// The program's context, at this distance if known.
    Context(Option<i64>),
    /// The stack of the frame of this depth, at this distance from its end if known.
    Stack(usize, Option<i64>),
    /// The address of a function of the object.
    Function(usize),
    /// Anything, but pointers to context and stack only where said.
    Any(Taint),
}

/// Which pointers a value may be, or be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Taint {
    /// The context.
    pub context: bool,
    /// Some frame of the stack.
    pub stack: bool,
}

impl Taint {
    /// What either may be.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self { context: self.context || other.context, stack: self.stack || other.stack }
    }
}

impl Value {
    /// Neither context nor stack.
    pub const UNKNOWN: Self = Self::Any(Taint { context: false, stack: false });

    /// Which pointers it may be.
    #[must_use]
    pub const fn taint(self) -> Taint {
        match self {
            Self::Constant(_) | Self::Function(_) => Taint { context: false, stack: false },
            Self::Context(_) => Taint { context: true, stack: false },
            Self::Stack(..) => Taint { context: false, stack: true },
            Self::Any(taint) => taint,
        }
    }

    /// What holds on both of two paths.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (left, right) if left == right => left,
            (Self::Context(_), Self::Context(_)) => Self::Context(None),
            (Self::Stack(left, _), Self::Stack(right, _)) if left == right => {
                Self::Stack(left, None)
            }
            (left, right) => Self::Any(left.taint().or(right.taint())),
        }
    }

    /// The sum, where `self` or `other` may be a pointer.
    #[must_use]
    pub fn add(self, other: Self, negative: bool) -> Self {
        let shift = |at: Option<i64>, by: u64| {
            let by = by.cast_signed();
            at.and_then(|at| if negative { at.checked_sub(by) } else { at.checked_add(by) })
        };
        match (self, other) {
            (Self::Constant(left), Self::Constant(right)) if negative => {
                Self::Constant(left.wrapping_sub(right))
            }
            (Self::Constant(left), Self::Constant(right)) => {
                Self::Constant(left.wrapping_add(right))
            }
            (Self::Context(at), Self::Constant(by)) => Self::Context(shift(at, by)),
            (Self::Stack(frame, at), Self::Constant(by)) => Self::Stack(frame, shift(at, by)),
            (Self::Constant(_), Self::Context(_) | Self::Stack(..)) if !negative => {
                other.add(self, false)
            }
            (Self::Context(_), Self::Any(taint)) if !taint.stack && !taint.context => {
                Self::Context(None)
            }
            (Self::Stack(frame, _), Self::Any(taint)) if !taint.stack && !taint.context => {
                Self::Stack(frame, None)
            }
            (left, right) => Self::Any(left.taint().or(right.taint())),
        }
    }
}

/// The stack of one function.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// By distance from the frame's end: width, and what stands there.
    slots: BTreeMap<i64, (u8, Value)>,
    /// What may also stand anywhere in it.
    anywhere: Taint,
}

impl Frame {
    /// What `width` bytes at `at` may be; `None`: at an unknown place.
    #[must_use]
    pub fn load(&self, at: Option<i64>, width: u8) -> Value {
        let loose = Value::Any(self.anywhere);
        match at {
            Some(at) => {
                match self.slots.get(&at) {
                    Some(&(stored, value)) if stored == width => {
                        if self.anywhere == Taint::default() { value } else { value.join(loose) }
                    }
                    _ => loose,
                }
            }
            None => Value::Any(self.taint()),
        }
    }

    /// Notes a store; `None`: to an unknown place.
    pub fn store(&mut self, at: Option<i64>, width: u8, value: Value) {
        let Some(at) = at else {
            self.blur();
            self.anywhere = self.anywhere.or(value.taint());
            return;
        };
        self.forget(at, at + i64::from(width));
        if value != Value::UNKNOWN {
            self.slots.insert(at, (width, value));
        }
    }

    /// The kernel wrote `length` bytes at `at`; `None`: any number of bytes.
    pub fn fill(&mut self, at: i64, length: Option<i64>) {
        match length {
            Some(length) => self.forget(at, at.saturating_add(length)),
            None => {
                for (_, (_, value)) in self.slots.range_mut(at - 7..) {
                    *value = Value::Any(value.taint());
                }
            }
        }
    }

    fn forget(&mut self, start: i64, end: i64) {
        self.slots.retain(|&at, &mut (width, _)| at + i64::from(width) <= start || at >= end);
    }

    /// Something wrote somewhere: numbers are no longer known, pointers may still stand.
    pub fn blur(&mut self) {
        for (_, value) in self.slots.values_mut() {
            *value = Value::Any(value.taint());
        }
        self.slots.retain(|_, (_, value)| *value != Value::UNKNOWN);
    }

    /// Pointers that may stand in it.
    #[must_use]
    pub fn taint(&self) -> Taint {
        self.slots.values().fold(self.anywhere, |taint, (_, value)| taint.or(value.taint()))
    }

    /// What holds on both of two paths.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined =
            Self { slots: BTreeMap::new(), anywhere: self.anywhere.or(other.anywhere) };
        for (at, &(width, value)) in &self.slots {
            match other.slots.get(at) {
                Some(&(same, theirs)) if same == width => {
                    joined.keep(*at, width, value.join(theirs));
                }
                _ => joined.keep(*at, width, Value::Any(value.taint())),
            }
        }
        for (at, &(width, value)) in &other.slots {
            match self.slots.get(at) {
                Some(&(same, _)) if same == width => {}
                // Both may stand there, with different widths.
                Some(_) => joined.anywhere = joined.anywhere.or(value.taint()),
                None => joined.keep(*at, width, Value::Any(value.taint())),
            }
        }
        joined
    }

    fn keep(&mut self, at: i64, width: u8, value: Value) {
        if value != Value::UNKNOWN {
            self.slots.insert(at, (width, value));
        }
    }
}

/// Registers and stacks at one point of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// `r0` to `r10`.
    pub registers: [Value; 11],
    /// The program's own frame first, the running function's last.
    pub frames: Vec<Frame>,
}

impl State {
    /// At the start of a function, with its arguments in `r1` to `r5`.
    #[must_use]
    pub fn enter(arguments: [Value; 5], mut frames: Vec<Frame>) -> Self {
        let mut registers = [Value::UNKNOWN; 11];
        registers[1..6].copy_from_slice(&arguments);
        registers[super::instruction::FRAME_POINTER] = Value::Stack(frames.len(), Some(0));
        frames.push(Frame::default());
        Self { registers, frames }
    }

    /// `r1` to `r5`.
    #[must_use]
    pub fn arguments(&self) -> [Value; 5] {
        let [_, one, two, three, four, five, ..] = self.registers;
        [one, two, three, four, five]
    }

    /// After a call: `r0` is the result, `r1` to `r5` are gone.
    pub fn leave(&mut self, result: Value) {
        self.registers[..6].fill(Value::UNKNOWN);
        self.registers[0] = result;
    }

    /// What holds on both of two paths.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self {
            registers: std::array::from_fn(|register| {
                self.registers[register].join(other.registers[register])
            }),
            frames: join_frames(&self.frames, &other.frames),
        }
    }
}

/// What holds on both of two paths, frame by frame.
#[must_use]
pub fn join_frames(left: &[Frame], right: &[Frame]) -> Vec<Frame> {
    left.iter().zip(right).map(|(left, right)| left.join(right)).collect()
}
