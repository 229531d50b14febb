//! How a test says what it lacks here.
//!
//! **Nothing is skipped in silence**: the line is one that whoever counts the tests knows.

use std::io::Write as _;

/// Prints `SKIP <test>: <reason>` past the capture of the test harness, which would swallow it
/// for a test that passes. The test's own thread has its name.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let reason = reason.replace('\n', " ");
    // A closed standard error is no reason to fail.
    drop(writeln!(std::io::stderr(), "SKIP {test}: {reason}"));
}
