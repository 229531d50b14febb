//! `meshtap verify`: what this kernel's verifier makes of the object under any combination
//! of switches. For `cargo xtask vm`, and for a kernel that refuses a program.

use std::io::Write as _;

use clap::Args;

use super::{Exit, Failure};
use crate::kernel::load::{Frozen, LoadSettings};
use crate::kernel::privilege;
use crate::kernel::verify::{self, Verified};

/// What to freeze, and what to look at.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Packets' programs ask for the network namespace's cookie.
    #[arg(long)]
    packet_netns: bool,
    /// The program on a connection's life asks for it.
    #[arg(long)]
    socket_netns: bool,
    /// Processors write in the order that programs say.
    #[arg(long)]
    strongly_ordered: bool,
    /// Calls that repeat are counted in the kernel.
    #[arg(long)]
    repeats: bool,
    /// How much the programs log: 0 nothing, 4 all.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=4))]
    log_level: u8,
    /// Bytes of a request's head that leave the kernel.
    #[arg(long, default_value_t = meshtap_ebpf::limits::HEAD_PREFIX)]
    head_prefix: u32,
    /// Only these programs.
    programs: Vec<String>,
}

/// Prints a JSON object a line for every program.
///
/// # Errors
/// [`Exit::NotAllowed`] where the object or a program of it was refused.
pub fn verify(arguments: &Arguments) -> Result<(), Failure> {
    // Where it cannot be raised, loading tells.
    let _ = privilege::raise_memory_lock();
    let frozen = Frozen {
        packet_netns: arguments.packet_netns,
        socket_netns: arguments.socket_netns,
        strongly_ordered: arguments.strongly_ordered,
    };
    let settings = LoadSettings {
        log_level: arguments.log_level,
        repeats: arguments.repeats,
        head_prefix: arguments.head_prefix,
        ..LoadSettings::default()
    };
    let mut refused = Vec::new();
    verify::verify(settings, frozen, &arguments.programs, |verified| {
        print(&verified);
        if verified.refused.is_some() {
            refused.push(verified.program);
        }
    })
    .map_err(|error| Failure::new(Exit::NotAllowed, error))?;
    if refused.is_empty() {
        return Ok(());
    }
    let text = format!("the verifier refused {}", refused.join(", "));
    Err(Failure::new(Exit::NotAllowed, text))
}

/// At once: verifying takes long where a kernel is emulated.
fn print(verified: &Verified) {
    let mut output = std::io::stdout().lock();
    // A reader that went away is no reason to stop: the exit code tells, too.
    if serde_json::to_writer(&mut output, verified).is_ok() {
        let _ = writeln!(output);
        let _ = output.flush();
    }
}
