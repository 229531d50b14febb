//! What is done on each kernel, and what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::kernels::Guest;
use super::plan::{Combination, Plan};
use crate::standalone::{self, Architecture};
use crate::tally::Tally;
use crate::test::libtest::Transcript;
use crate::test::{self, Program};
use crate::workspace::read;

/// Begins the lines that say where a step begins and ends.
const MARK: &str = "@@vm";
/// Seconds that one test program may take in a guest.
const LIMIT: u32 = 1800;
/// How the verifier says that a kind of program may not call a helper.
const NO_SUCH_HELPER: [&str; 2] = ["unknown func", "cannot use helper"];

/// What a guest is asked to do.
pub struct Script<'a> {
    /// The agent's binary.
    pub agent: &'a Path,
    /// What is verified.
    pub plan: &'a Plan,
    /// Test programs that hold tests of the filters.
    pub tests: &'a [Program],
    /// Parts of tests' names.
    pub filters: &'a [String],
}

impl Script<'_> {
    /// As a shell script, each step between two marks.
    pub fn text(&self) -> String {
        let agent = self.agent.display();
        let mut text = format!(
            "step() {{ echo \"{MARK} begin $1\"; name=$1; shift; \"$@\"; \
             code=$?; echo; echo \"{MARK} end $name $code\"; }}\n\
             quiet() {{ \"$@\" 2>/dev/null; }}\n\
             folder=$(mktemp -d)\n\
             apart() {{ \"$@\" >$folder/output 2>$folder/errors; code=$?; cat $folder/output; \
             echo; cat $folder/errors; return $code; }}\n\
             step doctor quiet {agent} doctor --json\n"
        );
        for (number, (combination, programs)) in self.plan.runs.iter().enumerate() {
            let (flags, programs) = (combination.flags(), programs.join(" "));
            text.push_str(&format!("step verify-{number} {agent} verify {flags} {programs}\n"));
        }
        for program in self.tests {
            let folder = program.folder.display();
            text.push_str(&format!(
                "cd {folder}\nstep test-{} apart env CARGO_MANIFEST_DIR={folder} MESHTAP_BIN={agent} \
                 timeout --kill-after=30 {LIMIT} {} {}\n",
                program.name,
                program.executable.display(),
                self.filters.join(" ")
            ));
        }
        text.push_str("rm -r $folder\n");
        text
    }

    /// When the newest of its programs was built.
    pub fn newest(&self) -> Option<SystemTime> {
        let tests = self.tests.iter().map(|program| program.executable.as_path());
        let built = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        tests.chain([self.agent]).filter_map(built).max()
    }
}

/// The end-to-end test programs of this machine that hold a test of these names.
pub fn tests(filters: &[String]) -> Result<Vec<Program>> {
    let mut programs = test::programs(&["--package", test::END_TO_END, "--tests"], &[])?;
    let holds = |program: &Program| -> Result<bool> {
        let list = read(Command::new(&program.executable).arg("--list").args(filters))?;
        Ok(list.lines().any(|line| line.ends_with(": test")))
    };
    let mut kept = Vec::new();
    for program in programs.drain(..) {
        // The harness tests itself elsewhere.
        let is_harness = program.name == test::END_TO_END.replace('-', "_");
        if !is_harness && holds(&program)? {
            kept.push(program);
        }
    }
    ensure!(!kept.is_empty(), "no end-to-end test is called like {}", filters.join(", "));
    Ok(kept)
}

/// The same programs for another architecture, on which this machine cannot ask them.
pub fn tests_for(architecture: Architecture, own: &[Program]) -> Result<Vec<Program>> {
    let variables = standalone::toolchain(architecture)?;
    let mut arguments = vec!["--package", test::END_TO_END, "--target", architecture.triple()];
    for program in own {
        arguments.extend(["--test", &program.name]);
    }
    test::programs(&arguments, &variables)
}

/// What the verifier made of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Why it was refused.
    pub refused: Option<String>,
    /// Instructions that it walked, where the kernel tells.
    pub instructions: Option<u64>,
    /// Bytes as the kernel keeps it.
    pub translated: u64,
    /// Bytes of machine code.
    pub jitted: u64,
}

/// What was found on one kernel.
#[derive(Clone, Debug)]
pub struct Examined {
    /// As the report calls it.
    pub name: &'static str,
    architecture: Architecture,
    /// What `meshtap doctor --json` printed.
    pub doctor: Value,
    /// By run of the plan, by program.
    pub verified: BTreeMap<usize, BTreeMap<String, Verified>>,
    /// Names, outputs and exit codes of test programs.
    tests: Vec<(String, String, i32)>,
    /// Test programs that did not end: the guest was off before.
    unended: Vec<String>,
}

impl Examined {
    /// Whether the guest came to the end of its script.
    pub fn is_whole(&self) -> bool {
        self.unended.is_empty()
    }

    /// Reads what a script printed that runs these tests.
    pub fn read(guest: &Guest, output: &str, programs: &[Program]) -> Result<Self> {
        let name = guest.name;
        let mut doctor = None;
        let mut verified = BTreeMap::new();
        let mut tests = Vec::new();
        for (step, text, code) in steps(output) {
            if step == "doctor" {
                doctor = Some(serde_json::from_str(&text).context("what doctor printed")?);
            } else if let Some(number) = step.strip_prefix("verify-") {
                verified.insert(number.parse()?, verdicts(&text)?);
            } else if let Some(test) = step.strip_prefix("test-") {
                tests.push((test.to_owned(), text, code));
            }
        }
        let doctor = doctor.with_context(|| format!("{name}: doctor did not end: {output}"))?;
        let mut unended: Vec<_> = programs.iter().map(|program| program.name.clone()).collect();
        unended.retain(|program| tests.iter().all(|(name, ..)| name != program));
        let architecture = guest.architecture();
        Ok(Self { name, architecture, doctor, verified, tests, unended })
    }

    /// Whether a helper is there that a switch stands for.
    fn has(&self, helper: &str) -> bool {
        self.doctor["features"]["helpers"][helper]["state"] == "present"
    }

    /// What the loader chooses on this kernel, without logging.
    pub fn chosen(&self) -> Combination {
        Combination {
            packet_netns: self.has("packet_netns_cookie"),
            socket_netns: self.has("sock_ops_netns_cookie"),
            strongly_ordered: self.architecture == Architecture::Amd64,
            repeats: true,
            log_level: 0,
        }
    }

    /// What was found of a program under the combination that the loader chooses.
    pub fn program(&self, plan: &Plan, program: &str) -> Option<&Verified> {
        let combination = plan.stand_in(program, self.chosen())?;
        let number = plan.runs.iter().position(|(run, _)| *run == combination)?;
        self.verified.get(&number)?.get(program)
    }

    /// Why a program's result under a run is not what it has to be.
    fn fault(&self, plan: &Plan, program: &str, run: usize) -> Option<String> {
        let combination = plan.runs[run].0;
        let lacks = plan.needs(program, combination).iter().any(|helper| !self.has(helper));
        let Some(found) = self.verified.get(&run).and_then(|programs| programs.get(program)) else {
            return Some("was not looked at".to_owned());
        };
        let may_lack = lacks || plan.may_need(program).is_some_and(|helper| !self.has(helper));
        match &found.refused {
            None if lacks => Some("loads, although it calls a helper that is absent".to_owned()),
            None => None,
            Some(why) if may_lack && NO_SUCH_HELPER.iter().any(|words| why.contains(words)) => None,
            Some(why) => Some(format!("was refused: {why}")),
        }
    }

    /// How many programs were verified, over all runs, and how many of them were refused
    /// because they called what this kernel does not have, as they had to.
    pub fn counts(&self) -> (usize, usize) {
        let all = || self.verified.values().flat_map(BTreeMap::values);
        (all().count(), all().filter(|found| found.refused.is_some()).count())
    }

    /// What its tests came to, by test program.
    pub fn tests(&self) -> Tally {
        let mut tally = Tally::default();
        for (name, text, code) in &self.tests {
            let transcript = Transcript::read(text.lines());
            tally.add(transcript.tally(name, ExitStatus::from_raw(code << 8), LIMIT));
        }
        tally.failed.extend(self.unended.iter().map(|name| format!("{name} (did not end)")));
        tally
    }

    /// Everything that passed and failed.
    pub fn tally(&self, plan: &Plan) -> Tally {
        let mut tally = Tally::default();
        for (run, (combination, programs)) in plan.runs.iter().enumerate() {
            for program in programs {
                let what = format!("{}: {program} {}", self.name, combination.flags());
                let result = match self.fault(plan, program, run) {
                    None => Ok(()),
                    Some(fault) => Err(anyhow::anyhow!(fault)),
                };
                tally.count(&what, result);
            }
        }
        let mut tests = self.tests();
        for failed in &mut tests.failed {
            *failed = format!("{}: {failed}", self.name);
        }
        for skip in &mut tests.skipped {
            skip.what = format!("{}: {}", self.name, skip.what);
        }
        tally.add(tests);
        let wanted = if self.name.contains("confidentiality") { "confidentiality" } else { "" };
        let lockdown = &self.doctor["features"]["lockdown"];
        if !wanted.is_empty() {
            let result = if lockdown == wanted {
                Ok(())
            } else {
                Err(anyhow::anyhow!("the kernel says lockdown={lockdown}"))
            };
            tally.count(&format!("{}: it is in force", self.name), result);
        }
        tally
    }
}

/// Name, output and exit code of every step that ended.
fn steps(output: &str) -> Vec<(String, String, i32)> {
    let mut found = Vec::new();
    let mut text = String::new();
    for line in output.lines() {
        let Some(words) = line.strip_prefix(MARK) else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let mut words = words.split_whitespace();
        if let (Some("end"), Some(name), Some(code)) = (words.next(), words.next(), words.next()) {
            found.push((name.to_owned(), text.clone(), code.parse().unwrap_or(1)));
        }
        text.clear();
    }
    found
}

fn verdicts(text: &str) -> Result<BTreeMap<String, Verified>> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let told: Value = serde_json::from_str(line).context("what verify printed")?;
        let name = told["program"].as_str().context("a program without a name")?;
        found.insert(
            name.to_owned(),
            Verified {
                refused: told["refused"].as_str().map(str::to_owned),
                instructions: told["instructions"].as_u64(),
                translated: told["translated"].as_u64().unwrap_or_default(),
                jitted: told["jitted"].as_u64().unwrap_or_default(),
            },
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::kernels::{Choice, chosen};

    const OUTPUT: &str = "noise\n@@vm begin doctor\n{\"features\": {\"helpers\": {\n\
        \"sock_ops_netns_cookie\": {\"state\": \"present\"}}}}\n\n@@vm end doctor 0\n\
        @@vm begin verify-0\n{\"program\":\"bind4\",\"refused\":null,\"instructions\":61,\
        \"translated\":560,\"jitted\":317,\"seconds\":0.1}\nmeshtap: words\n@@vm end verify-0 3\n\
        @@vm begin test-http1\ntest curl ... ok\ntest get ... FAILED\ntest result: FAILED. 1 passed; \
        1 failed; 0 ignored\n@@vm end test-http1 101\n@@vm begin test-hangs\ntest x ... ";

    fn guest() -> &'static Guest {
        &chosen(Choice::Bookworm)[0]
    }

    #[test]
    fn what_a_guest_prints_is_read() {
        let found = Examined::read(guest(), OUTPUT, &[Program::named("hangs")]).unwrap();
        let chosen = found.chosen();
        assert_eq!((chosen.packet_netns, chosen.socket_netns), (false, true));
        assert_eq!(found.verified[&0]["bind4"].instructions, Some(61));
        assert_eq!(found.counts(), (1, 0));
        let tests = found.tests();
        assert_eq!(
            (tests.passed, tests.failed.join(", ")),
            (1, "http1 get, hangs (did not end)".into())
        );
    }

    #[test]
    fn a_guest_that_ends_early_is_an_error() {
        assert!(Examined::read(guest(), "@@vm begin doctor\n", &[]).is_err());
    }
}
