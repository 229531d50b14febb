//! The digest of everything that the kernel object is made from.
//!
//! Shared with `agent/build.rs`, so it needs only `std` and `sha2`, and **no compiler
//! of eBPF: a fresh clone can check it**. Times of files mean nothing here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The committed object, from the repository's top folder.
pub const OBJECT: &str = "ebpf/object/meshtap.bpf.o";
/// What it was made from and with.
pub const DIGEST: &str = "ebpf/object/meshtap.bpf.digest";
/// The command that renews both.
pub const RENEW: &str = "cargo xtask ebpf";

/// Manifest of the kernel half.
pub const MANIFEST: &str = "ebpf/Cargo.toml";
/// Says which versions and features its dependencies have.
pub const WORKSPACE: &str = "Cargo.toml";
/// Says which exactly.
pub const LOCK: &str = "Cargo.lock";
/// Sources of the kernel half.
pub const SOURCES: &str = "ebpf/src";
/// Flags of its compilation.
pub const RECIPE: &str = "xtask/src/ebpf/recipe.rs";
const PACKAGE: &str = "meshtap-ebpf";

/// SHA-256 in hexadecimal over the kernel half's sources, its manifest, the lines of the
/// workspace and the locked packages that it depends on, and the recipe.
pub fn digest(root: &Path) -> Result<String, String> {
    let mut hash = Sha256::new();
    let mut part = |name: &str, text: &str| {
        for piece in [name, text] {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
    };
    let mut files = Vec::new();
    collect(root, Path::new(SOURCES), &mut files)?;
    files.sort();
    for file in &files {
        part(&file.to_string_lossy(), &read(root, file)?);
    }
    let manifest = read(root, Path::new(MANIFEST))?;
    part(MANIFEST, &manifest);
    part(RECIPE, &read(root, Path::new(RECIPE))?);
    let direct = dependencies(&manifest);
    let workspace = read(root, Path::new(WORKSPACE))?;
    for line in workspace.lines().filter(|line| direct.contains(key(line))) {
        part(WORKSPACE, line);
    }
    let lock = read(root, Path::new(LOCK))?;
    for package in locked(&lock, &direct) {
        part(LOCK, package);
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The value behind `name` in the text of the digest file.
#[must_use]
pub fn entry<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim())
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(root: &Path, file: &Path) -> Result<String, String> {
    let path = root.join(file);
    // A checkout that converts line ends compiles to the same object.
    fs::read_to_string(&path)
        .map(|text| text.replace("\r\n", "\n"))
        .map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// Rust files below `folder`, but for the tests, which the programs do not contain.
fn collect(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(root.join(folder))
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
        let path = folder.join(entry.file_name());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        if is_folder && !is_tests {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") && !is_tests {
            files.push(path);
        }
    }
    Ok(())
}

fn key(line: &str) -> &str {
    line.split(['=', '.']).next().unwrap_or_default().trim()
}

/// Names below `[dependencies]`; those of tests do not reach the object.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let table = manifest.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    table
        .take_while(|line| !line.starts_with('['))
        .map(key)
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect()
}

/// The lock file's entries of everything that `direct` leads to, in the file's order.
fn locked<'a>(lock: &'a str, direct: &BTreeSet<&str>) -> Vec<&'a str> {
    let packages: Vec<&str> = lock.split("[[package]]").skip(1).map(str::trim).collect();
    let field = |package: &'a str, name: &str| {
        package
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
    };
    // `name`, `name version` or `name version (source)`, as the lock file writes it.
    let find = |wanted: &str| {
        let mut words = wanted.split(' ');
        let (name, version) = (words.next(), words.next());
        packages.iter().position(|package| {
            field(package, "name") == name
                && (version.is_none() || field(package, "version") == version)
        })
    };
    let needs = |package: &'a str| {
        let list = package.split_once("dependencies = [").map_or("", |(_, list)| list);
        list.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix("\","))
    };
    let root = packages.iter().copied().find(|package| field(package, "name") == Some(PACKAGE));
    let mut open: Vec<usize> = root
        .into_iter()
        .flat_map(needs)
        .filter(|name| name.split(' ').next().is_some_and(|name| direct.contains(name)))
        .filter_map(find)
        .collect();
    let mut reached = BTreeSet::new();
    while let Some(index) = open.pop() {
        if reached.insert(index) {
            open.extend(needs(packages[index]).filter_map(find));
        }
    }
    reached.into_iter().map(|index| packages[index]).collect()
}
