//! `lab kubernetes --record`.

use anyhow::Result;
use meshtap_tests::kubernetes::Node;

pub fn record(_node: &Node) -> Result<()> {
    Ok(())
}
