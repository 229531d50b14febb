//! What published encoders wrote (<https://github.com/http2jp/hpack-test-case>), read from
//! the first block and from any later one.
//!
//! The stories are not part of this repository. `MESHTAP_HPACK_STORIES` names the folder
//! that has them; else `~/.cache/meshtap/hpack-test-case` is looked at.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

/// One block of a story.
struct Case {
    block: Vec<u8>,
    headers: Written,
}

fn folder() -> PathBuf {
    std::env::var_os("MESHTAP_HPACK_STORIES").map_or_else(
        || {
            let home = std::env::var_os("HOME").unwrap_or_default();
            Path::new(&home).join(".cache/meshtap/hpack-test-case")
        },
        PathBuf::from,
    )
}

/// Every file of the folders of encoders; those of `raw-data` have nothing to decode.
fn stories(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let is_story = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "json")
            && !path.parent().is_some_and(|parent| parent.ends_with("raw-data"))
    };
    let mut files: Vec<_> =
        entries(folder).iter().flat_map(|folder| entries(folder)).filter(is_story).collect();
    files.sort();
    files
}

fn cases(path: &Path) -> Vec<Case> {
    let story: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let case = |case: &Value| {
        let header = |header: &Value| {
            let (name, value) = header.as_object().unwrap().iter().next().unwrap();
            (name.clone().into_bytes(), value.as_str().unwrap().as_bytes().to_vec())
        };
        let headers = case["headers"].as_array().unwrap().iter().map(header).collect();
        Case { block: bytes(case["wire"].as_str().unwrap()), headers }
    };
    story["cases"].as_array().unwrap().iter().map(case).collect()
}

#[test]
fn published_stories_are_read_from_every_block_on() {
    let folder = folder();
    let files = stories(&folder);
    if files.is_empty() {
        // Past the capture of the test harness, which would swallow it.
        let reason = format!("no stories in {}", folder.display());
        drop(writeln!(std::io::stderr(), "SKIP published_stories_are_read: {reason}"));
        return;
    }
    for file in files {
        let cases = cases(&file);
        // Joining is tried at the first blocks, and at a later one.
        let joins = [0, 1, 2, cases.len() / 2].into_iter().filter(|begin| *begin < cases.len());
        for begin in joins {
            let mut decoder = if begin == 0 {
                Decoder::whole(&Budget::default())
            } else {
                Decoder::unknown(&Budget::default())
            };
            for (number, case) in cases.iter().enumerate().skip(begin) {
                let place = || format!("{}, block {number} from {begin}", file.display());
                let got = read(&mut decoder, &case.block).unwrap_or_else(|_| panic!("{}", place()));
                let unknown = late::check(&got, &case.headers)
                    .unwrap_or_else(|error| panic!("{}: {error}", place()));
                assert!(begin > 0 || unknown == 0, "{}", place());
            }
        }
    }
}
