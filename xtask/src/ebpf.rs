//! The committed kernel object: built reproducibly, compared, proven.

mod lines;
mod recipe;
mod sources;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::bytecode;
use crate::tally::Tally;
use crate::workspace::{cargo, root, run, target};
use toolchain::Toolchain;

/// Rebuilds the object and writes it with its digest.
pub fn renew() -> Result<()> {
    let toolchain = Toolchain::install()?;
    let object = build(&toolchain)?;
    let summary = bytecode::prove(&object)?;
    let root = root();
    let folder = root.join(sources::OBJECT);
    fs::create_dir_all(folder.parent().context("the object has no folder")?)?;
    let text =
        digest_text(&toolchain, &sources::digest(&root).map_err(anyhow::Error::msg)?, &object);
    fs::write(root.join(sources::OBJECT), &object)?;
    fs::write(root.join(sources::DIGEST), text)?;
    println!("{}: {} bytes; {summary}", sources::OBJECT, object.len());
    Ok(())
}

/// Checks the committed object: fresh, proven, and the same bytes when built here.
pub fn check(tally: &mut Tally) {
    let committed = fs::read(root().join(sources::OBJECT))
        .with_context(|| format!("{} is missing; renew it: {}", sources::OBJECT, sources::RENEW));
    let committed = match committed {
        Ok(bytes) => bytes,
        Err(error) => return tally.count("kernel object", Err(error)),
    };
    tally.count("kernel object is fresh", is_fresh(&committed));
    let proven = bytecode::prove(&committed).map(|summary| println!("bytecode: {summary}"));
    tally.count("kernel object is proven", proven);
    match comparable() {
        Ok(toolchain) => {
            tally.count("kernel object is reproducible", compare(&toolchain, &committed));
        }
        Err(reason) => tally.skip("kernel object is reproducible", format!("{reason:#}")),
    }
}

/// The committed object.
pub fn object() -> PathBuf {
    root().join(sources::OBJECT)
}

fn digest_file() -> Result<String> {
    fs::read_to_string(root().join(sources::DIGEST))
        .with_context(|| format!("{} is missing; renew it: {}", sources::DIGEST, sources::RENEW))
}

fn is_fresh(committed: &[u8]) -> Result<()> {
    let text = digest_file()?;
    let now = sources::digest(&root()).map_err(anyhow::Error::msg)?;
    ensure!(
        sources::entry(&text, "sources") == Some(&now),
        "the kernel object is older than its sources; renew it: {}",
        sources::RENEW
    );
    ensure!(
        sources::entry(&text, "object") == Some(&sources::of_bytes(committed)),
        "{} is not the file that {} describes; renew both: {}",
        sources::OBJECT,
        sources::DIGEST,
        sources::RENEW
    );
    Ok(())
}

/// The tool chain here, if it can give the committed bytes; the error is the reason of a skip.
fn comparable() -> Result<Toolchain> {
    let text = digest_file()?;
    let differs = |name: &str, here: &str| {
        let made_with = sources::entry(&text, name).unwrap_or("an unknown version");
        ensure!(made_with == here, "the object was made with {name} {made_with}, here is {here}");
        Ok(())
    };
    // Before anything is installed for it.
    differs("rustc", &toolchain::rustc()?)?;
    let toolchain = Toolchain::install().context("the tool chain cannot be had here")?;
    differs("bpf-linker", &toolchain.linker)?;
    differs("llvm", &toolchain.llvm)?;
    Ok(toolchain)
}

fn compare(toolchain: &Toolchain, committed: &[u8]) -> Result<()> {
    let built = build(toolchain)?;
    if built == committed {
        return Ok(());
    }
    let other = target().join("ebpf/meshtap.bpf.o");
    fs::write(&other, &built)?;
    bail!(
        "built here the object has other bytes ({} instead of {}, left in {}); renew it: {}",
        sources::of_bytes(&built),
        sources::of_bytes(committed),
        other.display(),
        sources::RENEW
    )
}

/// The object's bytes, without debugging information and without names of this machine.
fn build(toolchain: &Toolchain) -> Result<Vec<u8>> {
    let folder = target().join("ebpf");
    let renamed = renamed(toolchain)?;
    let mut flags: Vec<String> = recipe::RUSTFLAGS.map(str::to_owned).to_vec();
    for (from, to) in &renamed {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    }
    run(cargo()
        .args(recipe::CARGO)
        .arg("--target-dir")
        .arg(&folder)
        .envs(recipe::PROFILE)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env("PATH", toolchain::path()?))?;
    let linked = folder.join(recipe::TARGET).join("release/meshtap-ebpf");
    let stripped = folder.join("meshtap.stripped.o");
    let objcopy = Path::new(recipe::LLVM).join("bin/llvm-objcopy");
    run(Command::new(objcopy).arg("--strip-debug").arg(&linked).arg(&stripped))?;
    let mut bytes = fs::read(&stripped)?;
    lines::drop(&mut bytes)?;
    for (from, _) in &renamed {
        let needle = from.as_os_str().as_encoded_bytes();
        ensure!(
            !bytes.windows(needle.len()).any(|window| window == needle),
            "the object names {}, a folder of this machine",
            from.display()
        );
    }
    Ok(bytes)
}

/// Folders of this machine, and what the object calls them.
fn renamed(toolchain: &Toolchain) -> Result<Vec<(PathBuf, &'static str)>> {
    let home = toolchain::cargo_home()?;
    let mut renamed = vec![(home.clone(), "/cargo")];
    // Where packages are unpacked differs with the mirror they came from.
    let unpacked = home.join("registry/src");
    if let Ok(mirrors) = fs::read_dir(&unpacked) {
        for mirror in mirrors {
            renamed.push((mirror?.path(), "/packages"));
        }
    }
    renamed.push((toolchain.sysroot.clone(), "/rust"));
    renamed.push((root(), "/meshtap"));
    Ok(renamed)
}

fn digest_text(toolchain: &Toolchain, sources: &str, object: &[u8]) -> String {
    let Toolchain { rustc, linker, llvm, .. } = toolchain;
    let object = sources::of_bytes(object);
    format!(
        "# What the kernel object beside this file was made from and with; written by `{}`.\n\
         sources {sources}\nobject {object}\nrustc {rustc}\nbpf-linker {linker}\nllvm {llvm}\n",
        sources::RENEW
    )
}
