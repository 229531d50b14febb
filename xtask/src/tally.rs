//! What passed, failed and was skipped, and the line that says so.

/// Something that this machine could not show, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The test or check.
    pub what: String,
    /// Why, and where it is known how to change that.
    pub reason: String,
    /// How many.
    pub count: usize,
}

impl Skip {
    /// One test or check.
    pub fn one(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into(), count: 1 }
    }
}

/// Counts over everything that a command ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many passed.
    pub passed: usize,
    /// What failed, by name.
    pub failed: Vec<String>,
    /// What was skipped.
    pub skipped: Vec<Skip>,
}

impl Tally {
    /// Counts one check by its result, and says on the spot why it failed.
    pub fn count(&mut self, what: &str, result: anyhow::Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("\n{what} FAILED: {error:#}\n");
                self.failed.push(what.to_owned());
            }
        }
    }

    /// Counts a skip.
    pub fn skip(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        let skip = Skip::one(what, reason);
        eprintln!("SKIP {}: {}", skip.what, skip.reason);
        self.skipped.push(skip);
    }

    /// Counts tests of one program that are skipped for one reason.
    pub fn skip_many(&mut self, program: &str, count: usize, reason: &str) {
        if count > 0 {
            let what = format!("{program} ({count})");
            self.skipped.push(Skip { count, ..Skip::one(what, reason) });
        }
    }

    /// Adds what another part counted.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }

    /// Prints failures, skips with their reasons, and last the counts; fails where something did.
    pub fn finish(&self) -> anyhow::Result<()> {
        print!("{self}");
        anyhow::ensure!(self.failed.is_empty(), "{} failed", self.failed.len());
        Ok(())
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for name in &self.failed {
            writeln!(formatter, "failed   {name}")?;
        }
        let width = self.skipped.iter().map(|skip| skip.what.len()).max().unwrap_or(0);
        for Skip { what, reason, .. } in &self.skipped {
            writeln!(formatter, "skipped  {what:width$}  {reason}")?;
        }
        let failed = self.failed.len();
        let skipped: usize = self.skipped.iter().map(|skip| skip.count).sum();
        writeln!(formatter, "{} passed, {failed} failed, {skipped} skipped", self.passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_holds_the_counts() {
        let mut tally = Tally::default();
        tally.count("good", Ok(()));
        tally.count("bad", Err(anyhow::anyhow!("broken")));
        tally.skip("absent", "no such program");
        tally.skip_many("slow", 3, "takes hours");
        tally.skip_many("quick", 0, "takes hours");
        let text = tally.to_string();
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 4 skipped"));
        assert!(text.contains("skipped  absent    no such program"));
        assert!(tally.finish().is_err());
    }
}
