//! The harness of the end-to-end tests: it starts the agent and the programs of
//! others around it, and reads what the agent says. It knows the agent only from
//! outside: its command line, its lines, its `/metrics`.
//!
//! An agent sees the whole host, so tests that attach one take turns
//! ([`agent::Turn`]), and every test looks only at the ports that it opened.

pub mod agent;
pub mod books;
pub mod cache;
pub mod call;
pub mod cgroup;
pub mod cluster;
pub mod component;
pub mod conversation;
pub mod expected;
pub mod frames;
pub mod go;
pub mod helm;
pub mod http;
pub mod kubernetes;
pub mod lanes;
pub mod ledger;
pub mod limit;
pub mod link;
pub mod mesh;
pub mod netns;
pub mod part;
pub mod process;
pub mod receiver;
pub mod requirement;
pub mod runtime;
pub mod scrape;
pub mod signals;
pub mod wire;
pub mod workload;

/// Ends a test that this machine cannot run: prints why, in a form that can be counted.
#[macro_export]
macro_rules! skip {
    ($reason:expr) => {{
        $crate::requirement::skipped(&$reason);
        return;
    }};
}

/// Ends a test by [`skip!`] unless it runs as root and every program named is installed.
#[macro_export]
macro_rules! require {
    ($($program:expr),* $(,)?) => {
        if let Some(reason) = $crate::requirement::missing(&[$($program),*]) {
            $crate::skip!(reason);
        }
    };
}
