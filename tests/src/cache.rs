//! What tests fetch from package registries or build from source: once, and outside of the clone.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock, statvfs};

/// One at a time: a build uses every core.
static PREPARE: Mutex<()> = Mutex::new(());

/// The folder `name` of the cache, where `make` is called with it unless it has `product`
/// already. It begins with copies of the files in `source`, and is another one as soon as
/// one of them changes.
pub fn prepared(
    name: &str,
    source: &Path,
    product: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let _one = PREPARE.lock();
    let folder = place(name, source)?;
    if folder.join(product).exists() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&folder)?;
    // Other processes wait, too, and find it made then.
    let lock = File::create(folder.join(".lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if folder.join(product).exists() {
        return Ok(folder);
    }
    lay_out(source, &folder)?;
    make(&folder).with_context(|| format!("{name} is not built"))?;
    Ok(folder)
}

/// Copies the files in `source` into a folder. They are kept under other names, so that no
/// tool takes them for a part of this project.
pub fn lay_out(source: &Path, folder: &Path) -> Result<()> {
    for file in files(source)? {
        let name = file.file_name().context("a file has a name")?.to_string_lossy();
        std::fs::copy(&file, folder.join(name.strip_suffix(".txt").unwrap_or(&name)))?;
    }
    Ok(())
}

/// Whether [`prepared`] would find `product` without making it.
#[must_use]
pub fn has(name: &str, source: &Path, product: &str) -> bool {
    place(name, source).is_ok_and(|folder| folder.join(product).exists())
}

/// Bytes that are free where the cache is.
pub fn free() -> Result<u64> {
    let mut folder = cache()?;
    while !folder.exists() && folder.pop() {}
    let free = statvfs(&folder).with_context(|| folder.display().to_string())?;
    Ok(free.f_bavail.saturating_mul(free.f_frsize))
}

fn place(name: &str, source: &Path) -> Result<PathBuf> {
    Ok(cache()?.join(format!("{name}-{}", version(source)?)))
}

fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("meshtap"))
}

fn files(source: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(source)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}

/// Changes with every byte of what it is built from.
fn version(source: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files(source)? {
        std::fs::read(&file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
