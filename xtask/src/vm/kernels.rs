//! Which kernels there are, and as what they are booted.

use clap::ValueEnum;

use crate::standalone::Architecture;

/// A kernel of Debian's.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Folder of the cache.
    pub name: &'static str,
    /// Suites that have it, and whether each is of the security archive; the highest version wins.
    pub suites: &'static [(&'static str, bool)],
    /// What it runs on.
    pub architecture: Architecture,
}

const fn x86(name: &'static str, suites: &'static [(&'static str, bool)]) -> Kernel {
    Kernel { name, suites, architecture: Architecture::Amd64 }
}

const DEBIAN_12: &[(&str, bool)] = &[("bookworm", false), ("bookworm-security", true)];
const OLDEST: Kernel = x86("5.10", &[("bullseye-security", true)]);
/// That whose systemd is as old as this repository's unit was tried with.
pub const BOOKWORM: Kernel = x86("6.1", DEBIAN_12);
const TRIXIE: Kernel = x86("6.12", &[("trixie", false), ("trixie-security", true)]);
const NEWEST: Kernel =
    x86("newest", &[("trixie-backports", false), ("sid", false), ("experimental", false)]);
const ARM: Kernel =
    Kernel { name: "6.1-arm64", suites: DEBIAN_12, architecture: Architecture::Arm64 };

/// A configuration that is examined.
#[derive(Debug, PartialEq, Eq)]
pub struct Guest {
    /// As the report calls it.
    pub name: &'static str,
    /// What is booted; `None`: this machine, as it is.
    pub kernel: Option<&'static Kernel>,
    /// More for the kernel's command line.
    pub append: &'static str,
}

/// All of them.
const GUESTS: [Guest; 7] = [
    Guest { name: "5.10", kernel: Some(&OLDEST), append: "" },
    Guest { name: "6.1", kernel: Some(&BOOKWORM), append: "" },
    Guest { name: "6.12", kernel: Some(&TRIXIE), append: "" },
    Guest { name: "newest", kernel: Some(&NEWEST), append: "" },
    Guest {
        name: "lockdown=confidentiality",
        kernel: Some(&TRIXIE),
        append: "lockdown=confidentiality",
    },
    Guest { name: "this machine", kernel: None, append: "" },
    Guest { name: "6.1 on arm64", kernel: Some(&ARM), append: "" },
];

/// What the command line may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// Debian 11
    #[value(name = "5.10")]
    Oldest,
    /// Debian 12
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13
    #[value(name = "6.12")]
    Trixie,
    /// The newest that Debian has
    Newest,
    /// That of Debian 13 with lockdown=confidentiality
    Lockdown,
    /// That of Debian 12 on 64-bit ARM, emulated; its programs are built for it first
    Arm64,
    /// None: this machine's own, as it runs
    Host,
    /// All of these
    All,
}

impl Guest {
    /// What it runs on.
    pub fn architecture(&self) -> Architecture {
        self.kernel.map_or(Architecture::NATIVE, |kernel| kernel.architecture)
    }
}

/// What a choice comes to.
pub fn chosen(choice: Choice) -> &'static [Guest] {
    match choice {
        Choice::Oldest => &GUESTS[0..1],
        Choice::Bookworm => &GUESTS[1..2],
        Choice::Trixie => &GUESTS[2..3],
        Choice::Newest => &GUESTS[3..4],
        Choice::Lockdown => &GUESTS[4..5],
        Choice::Host => &GUESTS[5..6],
        Choice::Arm64 => &GUESTS[6..7],
        Choice::All => &GUESTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_the_guest_of_its_name() {
        let name = |choice| chosen(choice)[0].name;
        assert_eq!(name(Choice::Oldest), "5.10");
        assert_eq!(name(Choice::Newest), "newest");
        assert!(chosen(Choice::Lockdown)[0].append.contains("confidentiality"));
        assert_eq!(name(Choice::Arm64), "6.1 on arm64");
        assert_eq!(chosen(Choice::Host)[0].kernel, None);
        assert_eq!(chosen(Choice::All).len(), 7);
    }
}
