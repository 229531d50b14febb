//! `meshtap docs`: references, each from where its things are defined.

use clap::ValueEnum;

use super::observe::schema;
use super::{Exit, Failure, Session};
use crate::config::{self, reference};

/// A reference.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Page {
    /// docs/configuration.md
    Configuration,
    /// docs/metrics.md
    Metrics,
    /// docs/observe.md
    ObserveSchema,
    /// The configuration as JSON Schema.
    ConfigurationSchema,
}

/// Runs `meshtap docs`.
///
/// # Errors
/// Standard output cannot be written.
pub fn docs(page: Page, session: &impl Session) -> Result<(), Failure> {
    super::print(&match page {
        Page::Configuration => configuration(),
        Page::Metrics => session.metrics_reference(),
        Page::ObserveSchema => schema::markdown(),
        Page::ConfigurationSchema => format!("{:#}\n", config::schema::json()),
    })
}

/// `docs/configuration.md`.
fn configuration() -> String {
    let codes = Exit::ALL.map(|exit| format!("| {} | {} |\n", exit.code(), exit.meaning()));
    format!(
        "{}\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n{}",
        reference::markdown(),
        codes.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(file: &str, page: &str, generated: &str) {
        let path = format!("{}/../docs/{file}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "docs/{file} is not what is defined; renew it: meshtap docs {page} > docs/{file}"
        );
    }

    #[test]
    fn the_committed_references_agree_with_the_definitions() {
        agrees("configuration.md", "configuration", &configuration());
        agrees("observe.md", "observe-schema", &schema::markdown());
    }
}
