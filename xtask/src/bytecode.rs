//! Proves on the bytecode that the kernel object disturbs nobody.
//!
//! For every program of the object: **each exit returns 1, with whatever functions and
//! failed tail calls lie before it; nothing writes the context (a `sock_ops` reply, a
//! packet's mark, an address); only helpers that observe are called.** It refuses what
//! it cannot resolve. Nothing here needs a kernel, a compiler or privileges.

mod alter;
mod globals;
mod image;
mod instruction;
mod prove;
mod rules;
#[cfg(test)]
mod tests;
mod value;

use anyhow::{Context as _, Result, bail, ensure};

pub use globals::{Depends, depends};
use image::Image;

/// What was shown, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Programs proven.
    pub programs: usize,
    /// Their exits, each with 1.
    pub exits: usize,
    /// Tail calls whose failing path was followed.
    pub tail_calls: usize,
    /// Functions walked, programs included.
    pub functions: usize,
    /// Altered copies that were refused, as they must be.
    pub refused: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { programs, exits, tail_calls, functions, refused } = self;
        write!(
            formatter,
            "{programs} programs, {functions} functions: {exits} exits return 1, {tail_calls} \
             tail calls fall through to 1, no context is written; {refused} altered copies refused"
        )
    }
}

/// Proves every program of the object, then that altered copies of it are refused.
pub fn prove(bytes: &[u8]) -> Result<Summary> {
    let image = Image::read(bytes).context("the kernel object cannot be read")?;
    let mut summary = Summary::default();
    let mut violations = Vec::new();
    let mut walked = std::collections::BTreeSet::new();
    for program in image.programs() {
        let function = &image.functions[program];
        match prove::program(&image, program) {
            Ok(proof) => {
                ensure!(!proof.exits.is_empty(), "{}: no exit was found", function.name);
                summary.programs += 1;
                summary.exits += proof.exits.len();
                summary.tail_calls += proof.tail_calls.len();
                summary.refused += refuse_altered(bytes, &image, program, &proof)?;
                walked.extend(proof.functions);
            }
            Err(violation) => {
                violations.push(format!("{} ({}): {violation}", function.name, function.section));
            }
        }
    }
    if !violations.is_empty() {
        bail!("the kernel object breaks its rules:\n  {}", violations.join("\n  "));
    }
    summary.functions = walked.len();
    Ok(summary)
}

fn refuse_altered(
    bytes: &[u8],
    image: &Image,
    program: usize,
    proof: &prove::Proof,
) -> Result<usize> {
    let copies = alter::copies(bytes, image, program, proof);
    for copy in &copies {
        let altered = Image::read(&copy.bytes).with_context(|| copy.what.clone())?;
        ensure!(
            prove::program(&altered, copy.program).is_err(),
            "the proof has gone blind: it accepts an object altered to break the rules ({})",
            copy.what
        );
    }
    // The store and at least one result: fewer means that the alterations no longer fit the code.
    ensure!(
        copies.len() >= 2,
        "{}: no exit whose result could be altered was found, so the proof cannot be tried on it",
        image.functions[program].name
    );
    Ok(copies.len())
}
