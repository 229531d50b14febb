//! What the table of privileges promises to the unit and the chart, and giving up in threads.

use std::fs;

use super::*;

#[test]
fn a_need_is_met_by_any_of_its_sets_and_by_nothing_less() {
    let set = |list: &[Capability]| list.iter().copied().collect::<CapsHashSet>();
    assert!(Need::Trace.is_met_by(&set(&[Capability::CAP_PERFMON])));
    assert!(Need::Trace.is_met_by(&set(&[Capability::CAP_SYS_ADMIN])));
    assert!(!Need::Trace.is_met_by(&set(&[Capability::CAP_BPF])));
    assert!(!Need::ReadProcesses.is_met_by(&set(&[Capability::CAP_SYS_PTRACE])));
    assert!(Need::ALL.iter().all(|need| !need.is_met_by(&CapsHashSet::new())));
    assert_eq!(Need::ReadProcesses.remedy(), "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
}

#[test]
fn the_unit_grants_what_is_needed_and_nothing_else() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/systemd/meshtap.service");
    let unit = fs::read_to_string(unit).expect("the unit is part of the repository");
    let granted: Vec<_> =
        unit.lines().filter_map(|line| line.strip_prefix("CapabilityBoundingSet=")).collect();
    let [granted] = granted.as_slice() else { panic!("one set is granted: {granted:?}") };
    let granted: CapsHashSet =
        granted.split(' ').map(|name| name.parse().expect("a capability")).collect();
    assert_eq!(granted, needed());
}

fn needed() -> CapsHashSet {
    let narrowest = |need: Need| need.alternatives().first().into_iter().copied().flatten();
    Need::ALL.into_iter().flat_map(narrowest).copied().collect()
}

#[test]
fn the_chart_grants_what_is_needed_and_nothing_else() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/meshtap/values.schema.json");
    let schema = fs::read_to_string(schema).expect("the chart is part of the repository");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("is JSON");
    let granted = &schema["properties"]["capabilities"]["default"];
    let granted = granted.as_array().expect("a list").iter();
    let named = |name: &serde_json::Value| format!("CAP_{}", name.as_str().unwrap_or_default());
    let granted: CapsHashSet =
        granted.map(|name| named(name).parse().expect("a capability")).collect();
    assert_eq!(granted, needed());
}

#[test]
fn the_limit_on_locked_memory_never_falls() {
    let before = getrlimit(Resource::Memlock).current;
    let after = raise_memory_lock();
    assert!(after.unlimited || after.bytes >= before, "{before:?} became {after:?}");
}

#[test]
fn dropping_leaves_what_was_kept_and_nothing_else() {
    let held = Privileges::held().expect("Linux has capabilities");
    if !held.effective.contains(&Capability::CAP_NET_ADMIN) {
        crate::requirement::skipped("dropping capabilities takes having some");
        return;
    }
    // A thread of its own: the others keep what they have.
    let dropped = std::thread::spawn(|| {
        let capabilities = [Capability::CAP_NET_ADMIN].into_iter().collect();
        give_up(&Kept { capabilities, user: Some(65_534) }).expect("giving up is allowed");
        let sets = [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Bounding]
            .map(|set| caps::read(None, set).expect("readable"));
        let again = caps::raise(None, CapSet::Permitted, Capability::CAP_SYS_ADMIN);
        (sets, again.is_err(), rustix::process::geteuid().as_raw())
    });
    let ([effective, permitted, inheritable, bounding], refused, user) =
        dropped.join().expect("the thread ends");
    let kept: CapsHashSet = [Capability::CAP_NET_ADMIN].into_iter().collect();
    assert_eq!((&effective, &permitted), (&kept, &kept));
    assert!(inheritable.is_empty() && refused);
    if held.effective.contains(&Capability::CAP_SETPCAP) {
        assert_eq!(bounding, kept);
    }
    let root = [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_DAC_READ_SEARCH];
    if held.root && root.iter().all(|one| held.effective.contains(one)) {
        assert_eq!(user, 65_534);
    }
    assert_eq!(Privileges::held().expect("still"), held, "other threads keep theirs");
}

#[test]
fn the_reader_keeps_what_it_reads_with_and_the_others_next_to_nothing() {
    use Capability as C;
    let set = |list: &[Capability]| list.iter().copied().collect::<CapsHashSet>();
    let reader = [C::CAP_SYS_PTRACE, C::CAP_DAC_READ_SEARCH, C::CAP_NET_ADMIN];
    assert_eq!(Kept::by_reader(None, false).capabilities, set(&reader));
    let older = [reader.as_slice(), &[C::CAP_BPF]].concat();
    assert_eq!(Kept::by_reader(None, true).capabilities, set(&older));
    assert_eq!(Kept::by_others(None).capabilities, set(&[C::CAP_DAC_READ_SEARCH]));
}

#[test]
fn what_works_without_is_found_out_and_nothing_lost_by_it() {
    let before = Privileges::held().expect("Linux has capabilities");
    let found = works_without(Need::AskNetwork, || {
        !Privileges::held().expect("still").meets(Need::AskNetwork)
    });
    assert!(found.expect("may be lowered"));
    assert_eq!(Privileges::held().expect("still"), before);
}
