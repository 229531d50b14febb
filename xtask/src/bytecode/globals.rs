//! What the verifier's answer to a program depends on: globals that it reads, helpers that it calls.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

use super::image::{Image, Place};
use super::instruction::CALL_HELPER;

/// Section of the globals that the loader freezes.
const FROZEN: &str = ".rodata";

/// What a program, or a function that it calls, depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Depends {
    /// Frozen globals that it may read.
    pub globals: BTreeSet<String>,
    /// Numbers of the helpers that it may call.
    pub helpers: BTreeSet<i32>,
}

/// Every program, and what it depends on.
pub fn depends(bytes: &[u8]) -> Result<BTreeMap<String, Depends>> {
    let image = Image::read(bytes)?;
    let globals = globals(bytes)?;
    let mut found = BTreeMap::new();
    for program in image.programs() {
        let mut open = vec![program];
        let mut walked = BTreeSet::new();
        let mut depends = Depends::default();
        while let Some(index) = open.pop() {
            if !walked.insert(index) {
                continue;
            }
            let function = &image.functions[index];
            open.extend(function.targets.values());
            let read = function.data.iter().filter_map(|place| globals.get(place).cloned());
            depends.globals.extend(read);
            let calls = function.slots.iter().filter(|slot| slot.is_call());
            let helpers = calls.filter(|slot| slot.src == CALL_HELPER).map(|slot| slot.imm);
            depends.helpers.extend(helpers);
        }
        found.insert(image.functions[program].name.clone(), depends);
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
