//! The functions of a kernel object, and which of them call which.
//!
//! **Every byte of every executable section belongs to a function**, or the object
//! is refused: what is not seen cannot be proven.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget,
    SectionIndex, SectionKind, SymbolKind,
};

use super::instruction::{CALL_LOCAL, Instruction};

/// Relocation of a `lddw`: the address of a map, a global or a function.
const R_BPF_64_64: u32 = 1;
/// Relocation of a `call`.
const R_BPF_64_32: u32 = 10;
/// Where compilers put the functions that are no programs.
const SUBPROGRAMS: &str = ".text";

/// One function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Symbol.
    pub name: String,
    /// Section; for a program it says the type.
    pub section: String,
    /// Where its first slot stands in the file.
    pub file_offset: usize,
    /// Its slots; the second half of a `lddw` is a slot of its own.
    pub slots: Vec<Instruction>,
    /// Slot of a local call, or of a `lddw` that takes a function's address: index of that function.
    pub targets: BTreeMap<usize, usize>,
    /// Section and address of what it takes the address of and is no function.
    pub data: BTreeSet<Place>,
}

impl Function {
    /// Whether the kernel enters here.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.section != SUBPROGRAMS
    }
}

/// All functions of one object.
#[derive(Clone, Debug)]
pub struct Image {
    /// In the order of section and address.
    pub functions: Vec<Function>,
}

/// Section and address.
pub type Place = (usize, u64);

impl Image {
    /// Reads an ELF object.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let file = object::File::parse(bytes).context("the object is no ELF file")?;
        let mut functions = Vec::new();
        let mut places = BTreeMap::new();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let name = section.name().context("a section without a name")?;
            let (start, _) = section.file_range().context("code without bytes in the file")?;
            let code = section.data().context("code that cannot be read")?;
            let mut covered = 0;
            for (address, size, symbol) in symbols(&file, section.index())? {
                if address < covered {
                    // A second name of the function before.
                    let index = *places.get(&(section.index().0, address)).with_context(|| {
                        format!("{name}: {symbol} begins inside another function")
                    })?;
                    places.insert((section.index().0, address), index);
                    continue;
                }
                ensure!(
                    address == covered,
                    "{name}: bytes {covered} to {address} belong to no function"
                );
                let end = address + size;
                let bytes = code
                    .get(usize::try_from(address)?..usize::try_from(end)?)
                    .with_context(|| format!("{name}: {symbol} is longer than its section"))?;
                places.insert((section.index().0, address), functions.len());
                functions.push(Function {
                    name: symbol,
                    section: name.to_owned(),
                    file_offset: usize::try_from(start + address)?,
                    slots: decode(bytes)?,
                    targets: BTreeMap::new(),
                    data: BTreeSet::new(),
                });
                covered = end;
            }
            ensure!(
                covered == section.size(),
                "{name}: bytes {covered} to {} belong to no function",
                section.size()
            );
        }
        link(&file, &mut functions, &places)?;
        ensure!(functions.iter().any(Function::is_program), "the object holds no program");
        Ok(Self { functions })
    }

    /// The functions that the kernel enters, by index.
    pub fn programs(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.functions.len()).filter(|&index| self.functions[index].is_program())
    }
}

fn decode(bytes: &[u8]) -> Result<Vec<Instruction>> {
    let (slots, rest) = bytes.as_chunks::<8>();
    ensure!(rest.is_empty(), "a function's length is no multiple of eight");
    Ok(slots.iter().copied().map(Instruction::decode).collect())
}

/// Address, size and name of a section's functions, by address.
fn symbols(file: &object::File<'_>, section: SectionIndex) -> Result<Vec<(u64, u64, String)>> {
    let mut found = Vec::new();
    for symbol in file.symbols() {
        if symbol.section_index() == Some(section) && symbol.kind() == SymbolKind::Text {
            let name = symbol.name().context("a function without a name")?;
            found.push((symbol.address(), symbol.size(), name.to_owned()));
        }
    }
    found.sort();
    Ok(found)
}

/// Finds the function behind every local call and every function pointer.
fn link(
    file: &object::File<'_>,
    functions: &mut [Function],
    places: &BTreeMap<Place, usize>,
) -> Result<()> {
    for (&(section, start), &index) in places {
        let relocated = relocations(file, SectionIndex(section))?;
        let mut is_second_half = false;
        for slot in 0..functions[index].slots.len() {
            let instruction = functions[index].slots[slot];
            if is_second_half {
                is_second_half = false;
                continue;
            }
            is_second_half = instruction.is_wide();
            let address = start + slot as u64 * 8;
            // Loaders resolve nothing but calls and 64-bit immediates.
            let is_resolved = instruction.is_call() || instruction.is_wide();
            let target = match relocated.get(&address).filter(|_| is_resolved) {
                Some(&(kind, symbol, value)) => {
                    let address = aim(file, instruction, kind, symbol, value)?;
                    if address.is_none() {
                        let address = value.wrapping_add_signed(instruction.imm.into());
                        functions[index].data.insert((symbol.0, address));
                    }
                    address.map(|address| (symbol.0, address))
                }
                None if instruction.is_call() && instruction.src == CALL_LOCAL => {
                    let distance = (i64::from(instruction.imm) + 1) * 8;
                    Some((section, address.wrapping_add_signed(distance)))
                }
                None => None,
            };
            if let Some(place) = target {
                let function = &mut functions[index];
                let callee = *places.get(&place).with_context(|| {
                    format!("{}: slot {slot} calls a place where no function begins", function.name)
                })?;
                function.targets.insert(slot, callee);
            }
        }
    }
    Ok(())
}

/// Address in its section of the function that a relocation names; `None` for maps and globals.
fn aim(
    file: &object::File<'_>,
    instruction: Instruction,
    kind: u32,
    section: SectionIndex,
    value: u64,
) -> Result<Option<u64>> {
    let is_code = file.section_by_index(section)?.kind() == SectionKind::Text;
    match kind {
        R_BPF_64_32 if is_code => {
            Ok(Some(value.wrapping_add_signed((i64::from(instruction.imm) + 1) * 8)))
        }
        R_BPF_64_64 if is_code => Ok(Some(value.wrapping_add_signed(instruction.imm.into()))),
        R_BPF_64_64 => Ok(None),
        other => bail!("a relocation of type {other} that is not understood"),
    }
}

/// Relocations of a section by address: type, and section and value of the symbol.
fn relocations(
    file: &object::File<'_>,
    section: SectionIndex,
) -> Result<BTreeMap<u64, (u32, SectionIndex, u64)>> {
    let mut found = BTreeMap::new();
    for (address, relocation) in file.section_by_index(section)?.relocations() {
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            bail!("a relocation that is not ELF's");
        };
        let RelocationTarget::Symbol(index) = relocation.target() else {
            bail!("a relocation without a symbol");
        };
        let symbol = file.symbol_by_index(index)?;
        let target = symbol.section_index().with_context(|| {
            format!("undefined symbol {}", symbol.name().unwrap_or("without a name"))
        })?;
        found.insert(address, (r_type, target, symbol.address()));
    }
    Ok(found)
}
