//! Which program reads which global: what the verifier's answer to it depends on.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::image::{Image, Place};

/// Section of the globals that the loader freezes.
const FROZEN: &str = ".rodata";

/// Every program with the frozen globals that it, or a function that it calls, may read.
pub fn read_by(bytes: &[u8]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let image = Image::read(bytes)?;
    let globals = globals(bytes)?;
    let mut found = BTreeMap::new();
    for program in image.programs() {
        let mut open = vec![program];
        let mut walked = BTreeSet::new();
        let mut read = BTreeSet::new();
        while let Some(index) = open.pop() {
            if walked.insert(index) {
                let function = &image.functions[index];
                open.extend(function.targets.values());
                read.extend(function.data.iter().filter_map(|place| globals.get(place).cloned()));
            }
        }
        found.insert(image.functions[program].name.clone(), read);
    }
    Ok(found)
}

/// The frozen globals that have a name, by place.
fn globals(bytes: &[u8]) -> Result<BTreeMap<Place, String>> {
    let file = object::File::parse(bytes).context("the object is no ELF file")?;
    let section = file.section_by_name(FROZEN).context("the object freezes nothing")?.index();
    let mut found = BTreeMap::new();
    for symbol in file.symbols() {
        if symbol.section_index() == Some(section) && symbol.kind() == SymbolKind::Data {
            found.insert((section.0, symbol.address()), symbol.name()?.to_owned());
        }
    }
    Ok(found)
}
