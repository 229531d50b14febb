//! Each rule on text that breaks it and on text that only looks like it.

use std::path::Path;

use super::{Finding, inspect};

fn findings(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    inspect(Path::new(file), text, &mut findings);
    findings.iter().map(Finding::to_string).collect()
}

#[track_caller]
fn breaks(file: &str, text: &str, expected: &str) {
    let found = findings(file, text);
    assert!(found.iter().any(|line| line.contains(expected)), "{expected:?} not in {found:?}");
}

#[track_caller]
fn keeps(file: &str, text: &str) {
    assert_eq!(findings(file, text), Vec::<String>::new());
}

#[test]
fn a_stage_knows_no_later_stage() {
    let late = "must not know export";
    breaks("agent/src/protocol/http1.rs", "//! x\nuse crate::export::Span;\n", late);
    breaks("agent/src/protocol.rs", "//! x\nuse super::export;\n", late);
    breaks("agent/src/protocol.rs", "//! x\nfn f() { crate::export::g() }\n", late);
    let list = "//! x\nuse crate::{\n    ring_buffer::{Event, reader},\n    export::Span,\n};\n";
    breaks("agent/src/protocol.rs", list, late);
    breaks("agent/src/kernel.rs", "//! x\nuse crate::pipeline;\n", "must not know pipeline");
    keeps("agent/src/export/otlp.rs", "//! x\nuse crate::aggregation::Series;\n");
    keeps("agent/src/protocol/export.rs", "//! x\nuse super::export;\n");
    keeps(
        "agent/src/protocol.rs",
        "//! x\n// crate::export is next\nconst S: &str = \"crate::export\";\n",
    );
    let tests = "//! x\n#[cfg(test)]\nmod tests {\n    use crate::export::Span;\n}\n";
    keeps("agent/src/protocol.rs", tests);
    breaks("agent/src/protocol.rs", &format!("{tests}use crate::export::Span;\n"), late);
}

#[test]
fn aya_has_its_seat() {
    breaks("agent/src/export.rs", "//! x\nuse aya::Ebpf;\n", "aya outside");
    breaks("agent/src/pipeline.rs", "//! x\nfn f() -> aya::maps::Map {}\n", "aya outside");
    keeps("agent/src/kernel/load.rs", "//! x\nuse aya::Ebpf;\n");
    keeps("agent/src/ring_buffer/reader.rs", "//! x\nuse aya::maps::RingBuf;\n");
    keeps("agent/src/export.rs", "//! x\nuse himalaya::Peak;\n");
}

#[test]
fn maps_have_their_seat() {
    breaks("ebpf/src/programs/packet.rs", "//! x\n#[map]\nstatic M: u8 = 0;\n", "a map outside");
    let section = "//! x\n#[unsafe(link_section = \".maps\")]\nstatic M: u8 = 0;\n";
    breaks("ebpf/src/programs/packet.rs", section, "a map outside");
    keeps("ebpf/src/programs/state.rs", section);
}

#[test]
fn long_things_are_noticed() {
    let long = "    x();\n".repeat(61);
    breaks("agent/src/a.rs", &format!("//! x\npub(crate) const fn f() {{\n{long}}}\n"), "61 lines");
    keeps("agent/src/a.rs", &format!("//! x\nfn f() {{\n{}}}\n", "    x();\n".repeat(60)));
    breaks("agent/src/a.rs", &format!("//! x\n{}", "const X: u8 = 0;\n".repeat(400)), "401 lines");
    let tests = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    // y\n".repeat(500));
    breaks("agent/src/a.rs", &tests, "inline tests");
    keeps("agent/src/a/tests.rs", &format!("//! x\n{}", "const X: u8 = 0;\n".repeat(900)));
}

#[test]
fn words_are_noticed() {
    breaks("agent/src/a.rs", "fn f() {}\n", "does not say what it owns");
    breaks("agent/src/a/mod.rs", "//! x\n", "stands beside its folder");
    breaks("agent/src/a.rs", concat!("//! x\nfn f() { to", "do!() }\n"), "unfinished");
    breaks("agent/src/a.rs", concat!("//! x\n#[all", "ow(dead_code)]\nfn f() {}\n"), "#[expect");
    breaks("README.md", concat!("see /work", "/shared\n"), "one machine");
    keeps(
        "agent/src/a.rs",
        "//! x\n// once there was a todo!() here\nconst R: &str = r#\"todo!()\"#;\n",
    );
}
