//! The plain manifests, which the real helm renders from the chart.
//!
//! How they are rendered is in the tests' program `manifests`, so that what is written here
//! is what is tested there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::workspace::{cargo, read, root};

fn file() -> PathBuf {
    root().join("deploy/kubernetes/meshtap.yaml")
}

/// Writes them anew. The first time helm is built, which takes minutes and needs Go.
pub fn write() -> Result<()> {
    let text = render()?;
    if let Some(folder) = file().parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file(), text)?;
    println!("deploy/kubernetes/meshtap.yaml");
    Ok(())
}

/// Fails where the chart gives others.
pub fn check() -> Result<()> {
    ensure!(
        fs::read_to_string(file()).ok() == Some(render()?),
        "deploy/kubernetes/meshtap.yaml is not what the chart gives; renew it: cargo xtask \
         manifests"
    );
    Ok(())
}

fn render() -> Result<String> {
    let program = ["run", "--quiet", "--locked", "--package", "meshtap-tests"];
    read(cargo().args(program).args(["--bin", "manifests"]))
}
