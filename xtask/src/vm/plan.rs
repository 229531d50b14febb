//! Which programs have to be verified under which switches, so that every combination is.
//!
//! What the verifier sees of a program depends only on the switches that it reads. So a
//! combination needs only those programs for which it sets these as no combination before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Result, ensure};

use crate::bytecode::{self, Depends};
use crate::ebpf;

/// One setting of all switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Combination {
    /// `PACKET_NETNS`
    pub packet_netns: bool,
    /// `SOCKET_NETNS`
    pub socket_netns: bool,
    /// `IS_STRONGLY_ORDERED`
    pub strongly_ordered: bool,
    /// `REPEATS`
    pub repeats: bool,
    /// `AYA_LOG_LEVEL`
    pub log_level: u8,
}

/// Nothing, warnings, all: between them the object holds no line.
const LOG_LEVELS: [u8; 3] = [0, 2, 4];
/// `bpf_probe_read_kernel` and the same for texts, which lockdown=confidentiality takes away
/// together.
const PROBE_READ_KERNEL: [i32; 2] = [113, 115];
/// The switches by the names of their globals.
const SWITCHES: [&str; 5] =
    ["PACKET_NETNS", "SOCKET_NETNS", "IS_STRONGLY_ORDERED", "REPEATS", "AYA_LOG_LEVEL"];

impl Combination {
    /// All, with those first that loaders choose on x86.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for log_level in LOG_LEVELS {
            for strongly_ordered in [true, false] {
                for repeats in [true, false] {
                    for packet_netns in [false, true] {
                        for socket_netns in [false, true] {
                            all.push(Self {
                                packet_netns,
                                socket_netns,
                                strongly_ordered,
                                repeats,
                                log_level,
                            });
                        }
                    }
                }
            }
        }
        all
    }

    /// Flags of `meshtap verify`.
    pub fn flags(self) -> String {
        let mut flags = format!("--log-level={}", self.log_level);
        for (is_set, flag) in [
            (self.packet_netns, "--packet-netns"),
            (self.socket_netns, "--socket-netns"),
            (self.strongly_ordered, "--strongly-ordered"),
            (self.repeats, "--repeats"),
        ] {
            if is_set {
                flags.push(' ');
                flags.push_str(flag);
            }
        }
        flags
    }

    /// As far as a program that reads these switches can tell.
    fn seen_by(self, switches: &BTreeSet<String>) -> Self {
        let reads = |name: &str| switches.contains(name);
        Self {
            packet_netns: self.packet_netns && reads(SWITCHES[0]),
            socket_netns: self.socket_netns && reads(SWITCHES[1]),
            strongly_ordered: self.strongly_ordered && reads(SWITCHES[2]),
            repeats: self.repeats && reads(SWITCHES[3]),
            log_level: if reads(SWITCHES[4]) { self.log_level } else { 0 },
        }
    }
}

/// What is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Programs, and what the verifier's answer to each depends on.
    depends: BTreeMap<String, Depends>,
    /// Combinations with the programs that are verified under them; those that bring
    /// nothing new are left out.
    pub runs: Vec<(Combination, Vec<String>)>,
}

/// The plan for the committed object.
pub fn plan() -> Result<Plan> {
    let object = fs::read(ebpf::object())?;
    let depends = bytecode::depends(&object)?;
    for switch in SWITCHES {
        ensure!(
            depends.values().any(|depends| depends.globals.contains(switch)),
            "no program reads the switch {switch}: it has another name, or the reading of the \
             object has gone blind"
        );
    }
    Ok(Plan::new(depends))
}

impl Plan {
    fn new(depends: BTreeMap<String, Depends>) -> Self {
        let mut seen = BTreeSet::new();
        let mut runs = Vec::new();
        for combination in Combination::all() {
            let new = |(name, depends): &(&String, &Depends)| {
                seen.insert(((*name).clone(), combination.seen_by(&depends.globals)))
            };
            let programs: Vec<String> =
                depends.iter().filter(new).map(|(name, _)| name.clone()).collect();
            if !programs.is_empty() {
                runs.push((combination, programs));
            }
        }
        Self { depends, runs }
    }

    /// The same without anything to verify.
    pub fn of_nothing(self) -> Self {
        Self { runs: Vec::new(), ..self }
    }

    /// Programs, by name.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.depends.keys().map(String::as_str)
    }

    /// Under which combination of [`Plan::runs`] a program was verified as under this one.
    pub fn stand_in(&self, program: &str, combination: Combination) -> Option<Combination> {
        let switches = &self.depends.get(program)?.globals;
        let wanted = combination.seen_by(switches);
        let mut runs = self.runs.iter();
        runs.find(|(run, programs)| {
            run.seen_by(switches) == wanted && programs.iter().any(|name| name == program)
        })
        .map(|(run, _)| *run)
    }

    /// Helpers that a program certainly calls under a combination and that not every kernel
    /// has for it, as `meshtap doctor` calls them.
    pub fn needs(&self, program: &str, combination: Combination) -> Vec<&'static str> {
        let Some(depends) = self.depends.get(program) else { return Vec::new() };
        let seen = combination.seen_by(&depends.globals);
        let needed = [
            (seen.packet_netns, "packet_netns_cookie"),
            (seen.socket_netns, "sock_ops_netns_cookie"),
        ];
        needed.into_iter().filter(|(is_needed, _)| *is_needed).map(|(_, name)| name).collect()
    }

    /// Likewise one that it may call: where the event has not what it asks for, the verifier
    /// does not come by.
    pub fn may_need(&self, program: &str) -> Option<&'static str> {
        let helpers = &self.depends.get(program)?.helpers;
        let reads = PROBE_READ_KERNEL.iter().any(|helper| helpers.contains(helper));
        reads.then_some("tracepoint_text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(names: &[(&str, &[&str])]) -> BTreeMap<String, Depends> {
        let depends = |switches: &[&str]| Depends {
            globals: switches.iter().map(|&name| name.to_owned()).collect(),
            helpers: BTreeSet::new(),
        };
        names.iter().map(|&(name, switches)| (name.to_owned(), depends(switches))).collect()
    }

    #[test]
    fn every_combination_is_covered_and_nothing_is_verified_twice() {
        let plan = Plan::new(reads(&[
            ("bind4", &["DROP_REASON"]),
            ("egress", &["PACKET_NETNS", "AYA_LOG_LEVEL"]),
            ("lifecycle", &["SOCKET_NETNS"]),
        ]));
        let times = |program: &str| {
            plan.runs.iter().filter(|(_, names)| names.iter().any(|name| name == program)).count()
        };
        assert_eq!([times("bind4"), times("egress"), times("lifecycle")], [1, 6, 2]);
        for combination in Combination::all() {
            for program in ["bind4", "egress", "lifecycle"] {
                assert!(plan.stand_in(program, combination).is_some(), "{program} {combination:?}");
            }
        }
    }

    #[test]
    fn only_who_reads_a_switch_needs_its_helper() {
        let mut depends = reads(&[("egress", &["PACKET_NETNS"]), ("bind4", &[]), ("exec", &[])]);
        depends.get_mut("exec").unwrap().helpers.insert(PROBE_READ_KERNEL[1]);
        let plan = Plan::new(depends);
        let all = Combination { packet_netns: true, socket_netns: true, ..Combination::default() };
        assert_eq!(plan.needs("egress", all), ["packet_netns_cookie"]);
        assert!(plan.needs("bind4", all).is_empty());
        assert!(plan.needs("exec", all).is_empty());
        assert_eq!(plan.may_need("exec"), Some("tracepoint_text"));
        assert_eq!(plan.may_need("egress"), None);
    }

    #[test]
    fn the_committed_object_has_a_plan() {
        let plan = plan().unwrap();
        assert!(plan.programs().any(|name| name == "lifecycle"));
        assert_eq!(plan.runs[0].1.len(), plan.programs().count());
    }
}
