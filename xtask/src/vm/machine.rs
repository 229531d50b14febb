//! The machine that a guest runs on: what differs between architectures.

use std::path::Path;

use crate::standalone::Architecture;

/// What QEMU is told of a machine, and the kernel of it.
#[derive(Debug)]
pub struct Machine {
    /// QEMU.
    pub program: &'static str,
    /// Its arguments: machine, processor, a console, a port for what the guest prints.
    pub arguments: Vec<String>,
    /// Words of the kernel's command line.
    pub words: &'static str,
}

impl Machine {
    /// `virtualize`: on this machine's processor, if its architecture is the same.
    pub fn new(
        architecture: Architecture,
        virtualize: bool,
        console: &Path,
        output: &Path,
    ) -> Self {
        let file = |path: &Path| format!("file:{}", path.display());
        let (kind, processor, words) = match architecture {
            Architecture::Amd64 => (
                "pc",
                if virtualize { "host" } else { "max" },
                "console=ttyS0 meshtap.output=ttyS1",
            ),
            Architecture::Arm64 => ("virt", "neoverse-n1", "console=ttyAMA0 meshtap.output=hvc0"),
        };
        let accelerator = if virtualize { "kvm" } else { "tcg,thread=multi" };
        let mut arguments = ["-accel", accelerator, "-cpu", processor, "-machine", kind, "-serial"]
            .map(str::to_owned)
            .to_vec();
        arguments.push(file(console));
        match architecture {
            Architecture::Amd64 => arguments.extend(["-serial".to_owned(), file(output)]),
            // It has one serial port.
            Architecture::Arm64 => {
                arguments.extend(["-device", "virtio-serial-pci", "-chardev"].map(str::to_owned));
                arguments.push(format!("file,id=output,path={}", output.display()));
                arguments.extend(["-device", "virtconsole,chardev=output"].map(str::to_owned));
            }
        }
        Self { program: emulator(architecture).0, arguments, words }
    }
}

/// QEMU for an architecture, and Debian's package of it.
pub fn emulator(architecture: Architecture) -> (&'static str, &'static str) {
    match architecture {
        Architecture::Amd64 => ("qemu-system-x86_64", "qemu-system-x86"),
        Architecture::Arm64 => ("qemu-system-aarch64", "qemu-system-arm"),
    }
}
