//! Prints the plain manifests for Kubernetes; builds helm where that was not done before.

fn main() -> anyhow::Result<()> {
    print!("{}", meshtap_tests::helm::Helm::build()?.manifests()?);
    Ok(())
}
