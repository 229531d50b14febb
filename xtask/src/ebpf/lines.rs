//! Leaves the line information out of an object.
//!
//! LLVM notes two lines for one instruction where an instruction between them
//! vanished, and the kernel refuses such an object (`Invalid line_info`). Types and
//! functions, which maps and subprograms need, stay.

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _};

/// Where `.BTF.ext` holds the length of its line information.
const LINE_LENGTH: usize = 20;

/// Sets the length of the object's line information to zero.
pub fn drop(bytes: &mut [u8]) -> Result<()> {
    let file = object::File::parse(&*bytes).context("not an ELF file")?;
    let section = file.section_by_name(".BTF.ext").context("the object has no .BTF.ext")?;
    let (start, size) = section.file_range().context(".BTF.ext has no bytes in the file")?;
    ensure!(size >= LINE_LENGTH as u64 + 4, ".BTF.ext is too short");
    let place = usize::try_from(start)? + LINE_LENGTH;
    bytes[place..place + 4].fill(0);
    Ok(())
}
