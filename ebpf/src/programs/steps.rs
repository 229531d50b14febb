//! Steps of a walk, some at a time, by functions that are **exported**: the verifier follows
//! such a function once, however often it is called, where it would follow every way through
//! every step of a program. It takes nothing but the context, by which it finds everything
//! anew, which costs a look-up of the socket's state. **No reference to that state may be held
//! meanwhile**: the caller takes it afterwards.

/// Calls before a program tail-calls itself.
const CALLS: u32 = 32;

/// Calls `some`, which says by 0 that its last step was not taken; false: it never said so.
#[inline(always)]
pub fn all(some: impl Fn() -> u32) -> bool {
    let mut calls = 0;
    while calls < CALLS {
        if some() == 0 {
            return true;
        }
        calls += 1;
    }
    false
}

/// At most `STEPS` of them; 0: the last one was not taken.
#[inline(always)]
pub fn some<const STEPS: u32>(mut step: impl FnMut() -> bool) -> u32 {
    let mut steps = 0;
    while steps < STEPS {
        if !step() {
            return 0;
        }
        steps += 1;
    }
    1
}
