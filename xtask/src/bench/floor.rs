//! The least that any program on packets costs: one that only lets them pass, on the same
//! packets as the agent's.

use std::fs;

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::{CgroupAttachMode, CgroupSkb, CgroupSkbAttachType};
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// `r0 = 1; exit`: the packet passes.
const PASS: [u8; 16] = [0xb7, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
const DIRECTIONS: [(&str, CgroupSkbAttachType); 2] =
    [("ingress", CgroupSkbAttachType::Ingress), ("egress", CgroupSkbAttachType::Egress)];

/// Empty programs at both of the hooks of packets; they go with this value.
#[derive(Debug)]
pub struct Floor {
    /// Nobody asks it anything; the programs live as long as it does.
    _programs: Ebpf,
}

impl Floor {
    /// Loads and attaches them, beside whatever is attached.
    pub fn attach() -> Result<Self> {
        let root = fs::File::open(root()?)?;
        let mut programs = Ebpf::load(&object()?)?;
        for (name, direction) in DIRECTIONS {
            let program = programs.program_mut(name).context("the object lacks a program")?;
            let program: &mut CgroupSkb = program.try_into()?;
            program.load()?;
            program.attach(&root, direction, CgroupAttachMode::default())?;
        }
        Ok(Self { _programs: programs })
    }
}

/// Where version 2 of the cgroups is mounted.
fn root() -> Result<String> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let path = mount.and_then(|line| line.split(' ').nth(1));
    path.map(str::to_owned).context("no cgroup2 is mounted")
}

/// An object file with one program for each direction.
fn object() -> Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let licence = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(licence, b"Apache-2.0\0", 1);
    for (name, _) in DIRECTIONS {
        let section = format!("cgroup_skb/{name}").into_bytes();
        let section = object.add_section(Vec::new(), section, SectionKind::Text);
        object.append_section_data(section, &PASS, 8);
        object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: PASS.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    Ok(object.write()?)
}
