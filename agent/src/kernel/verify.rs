//! Has the verifier look at the object under any combination of switches; attaches nothing.

use std::time::Instant;

use aya::programs::Program;
use serde::Serialize;

use super::attach;
use super::events::Events;
use super::load::{self, Frozen, LoadError, LoadSettings};

/// What the verifier made of one program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verified {
    /// As the object calls it.
    pub program: String,
    /// Why it was refused: the end of what the verifier said.
    pub refused: Option<String>,
    /// Instructions that the verifier walked; `None` where the kernel does not tell (before 5.16).
    pub instructions: Option<u32>,
    /// Bytes of the program as the kernel keeps it.
    pub translated: Option<u32>,
    /// Bytes of machine code; 0 where programs are interpreted.
    pub jitted: u32,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Has every program verified, or those that `only` names, and hands on what came of each,
/// by name.
///
/// # Errors
/// [`LoadError::Object`] where the object or one of its maps is refused.
pub fn verify(
    settings: LoadSettings,
    frozen: Frozen,
    only: &[String],
    mut each: impl FnMut(Verified),
) -> Result<(), LoadError> {
    let mut object = load::load(settings, frozen, &Events::read())?;
    let mut programs: Vec<_> = object
        .programs_mut()
        .filter(|(name, _)| only.is_empty() || only.iter().any(|wanted| wanted == name))
        .collect();
    programs.sort_by_key(|(name, _)| *name);
    for (name, program) in programs {
        each(one(name, program));
    }
    Ok(())
}

fn one(name: &str, program: &mut Program) -> Verified {
    let start = Instant::now();
    let loaded = attach::load_program(program);
    let seconds = start.elapsed().as_secs_f64();
    let information = program.info().ok();
    let information = information.as_ref();
    Verified {
        program: name.to_owned(),
        refused: loaded.err().map(|error| attach::reason(&error)),
        instructions: information.and_then(|told| told.verified_instruction_count()),
        translated: information.and_then(|told| told.size_translated()),
        jitted: information.map_or(0, |told| told.size_jitted()),
        seconds,
    }
}
