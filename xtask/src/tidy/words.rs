//! Words that do not belong into the repository.

use super::source::Source;

/// Folders of a developer's machine.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/work", "/wt"),
    concat!("/work", "/main"),
    concat!("/work", "/shared"),
    concat!("/root", "/."),
    concat!("/Users", "/"),
];

/// In every text file.
pub fn everywhere(text: &str, note: &mut impl FnMut(usize, String)) {
    for (index, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            if line.contains(path) {
                note(index + 1, format!("{path} is a folder of one machine"));
            }
        }
        if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
            note(index + 1, "a conflict that was not resolved".to_owned());
        }
    }
}

/// In Rust files.
pub fn rust(source: &Source, note: &mut impl FnMut(usize, String)) {
    if source.file.file_name().is_some_and(|name| name == "mod.rs") {
        note(0, "a module's file is named after it and stands beside its folder".to_owned());
    }
    let first = source.lines.iter().position(|line| !line.trim().is_empty());
    if first.is_none_or(|first| !source.lines[first].starts_with("//!")) {
        note(1, "the file does not say what it owns: begin with a sentence behind //!".to_owned());
    }
    for (index, line) in source.code.iter().enumerate() {
        if line.contains("todo!") || line.contains("unimplemented!") {
            note(index + 1, "unfinished".to_owned());
        }
        let lone = line.trim_start();
        if lone.starts_with("#[allow") || lone.starts_with("#![allow") {
            note(index + 1, "say #[expect(…, reason = \"…\")]".to_owned());
        }
    }
}
