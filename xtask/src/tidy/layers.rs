//! Who may know whom: the flow of the agent, the seat of aya, the seat of the maps.

use super::source::Source;

/// The flow: a stage knows only those before it.
const STAGES: [&str; 6] =
    ["kernel", "ring_buffer", "protocol", "attribution", "aggregation", "export"];
/// They wire the stages, so no stage knows them.
const TOP: [&str; 2] = ["command", "pipeline"];
/// The only places that talk to the kernel through aya.
const SEATS_OF_AYA: [&str; 3] =
    ["agent/src/kernel.rs", "agent/src/kernel/", "agent/src/ring_buffer/reader.rs"];
/// The only place with maps, because every map's memory has to be known.
const SEAT_OF_MAPS: &str = "ebpf/src/programs/state.rs";

/// Notes what knows too much.
pub fn check(source: &Source, note: &mut impl FnMut(usize, String)) {
    let file = source.file.to_string_lossy().into_owned();
    if file.starts_with("ebpf/src/") && file != SEAT_OF_MAPS {
        maps(source, note);
    }
    let Some(inside) = file.strip_prefix("agent/src/") else { return };
    if !SEATS_OF_AYA.iter().any(|seat| file.starts_with(seat)) {
        aya(source, note);
    }
    let owner = inside.split(['/', '.']).next().unwrap_or_default();
    if let Some(stage) = STAGES.iter().position(|stage| *stage == owner) {
        let is_root_of_stage = inside == format!("{owner}.rs");
        imports(source, stage, is_root_of_stage, note);
    }
}

fn maps(source: &Source, note: &mut impl FnMut(usize, String)) {
    for (number, line) in source.proper() {
        // What a section is called stands in a string, which `code` leaves out.
        let written = source.lines[number - 1].trim_start();
        let is_section = line.contains("link_section")
            && (written.contains("\"maps\"") || written.contains("\".maps\""));
        if is_section
            || ["#[map", "#[btf_map"].iter().any(|mark| line.trim_start().starts_with(mark))
        {
            note(number, format!("a map outside {SEAT_OF_MAPS}"));
        }
    }
}

fn aya(source: &Source, note: &mut impl FnMut(usize, String)) {
    for (number, line) in source.proper() {
        if ["aya", "aya_obj", "aya_log"].iter().any(|name| names(line, name)) {
            note(number, format!("aya outside {}", SEATS_OF_AYA.join(", ")));
        }
    }
}

/// Whether a path begins with `crate_name`.
fn names(line: &str, crate_name: &str) -> bool {
    line.match_indices(crate_name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let begins =
            before.is_none_or(|before| !before.is_alphanumeric() && !"_:".contains(before));
        begins && line[at + crate_name.len()..].starts_with("::")
    })
}

fn imports(
    source: &Source,
    stage: usize,
    is_root_of_stage: bool,
    note: &mut impl FnMut(usize, String),
) {
    let proper: Vec<(usize, &str)> = source.proper().collect();
    let mut prefixes = vec!["crate::", "meshtap::"];
    if is_root_of_stage {
        prefixes.push("super::");
    }
    for (position, &(number, line)) in proper.iter().enumerate() {
        for prefix in &prefixes {
            for (at, _) in line.match_indices(prefix) {
                let mut rest = line[at + prefix.len()..].to_owned();
                for (_, more) in proper[position + 1..].iter().take(40) {
                    rest.push('\n');
                    rest.push_str(more);
                }
                for name in heads(&rest) {
                    let later = STAGES[stage + 1..].contains(&name.as_str());
                    if later || TOP.contains(&name.as_str()) {
                        note(number, format!("{} must not know {name}", STAGES[stage]));
                    }
                }
            }
        }
    }
}

/// First segments of what follows `crate::`: one name, or those of a braced list.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let Some(list) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut found = Vec::new();
    let mut depth = 0;
    let mut item = String::new();
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(name(std::mem::take(&mut item).trim_start())),
            _ if depth == 0 => item.push(letter),
            _ => {}
        }
    }
    found.push(name(item.trim_start()));
    found
}
