//! Tests of features.

use super::probe::lockdown_from;
use super::*;

#[test]
fn lockdown_is_the_word_in_brackets() {
    assert_eq!(lockdown_from("[none] integrity confidentiality\n"), Lockdown::None);
    assert_eq!(lockdown_from("none [integrity] confidentiality"), Lockdown::Integrity);
    assert_eq!(lockdown_from("none integrity [confidentiality]"), Lockdown::Confidentiality);
    assert_eq!(lockdown_from("none [brand-new]"), Lockdown::Unknown);
    assert_eq!(lockdown_from(""), Lockdown::Unknown);
}

#[test]
fn what_is_unknown_switches_nothing_on() {
    let mut features = Features::probe();
    let all_off = Support::Unknown("not tried".into());
    features.helpers.packet_netns_cookie = all_off.clone();
    features.helpers.packet_loop = Support::Absent("too old".into());
    features.helpers.packet_current_task = Support::Present;
    features.helpers.socket_comm = Support::Present;
    features.helpers.address_comm = all_off;
    let switches = features.switches();
    assert!(!switches.netns_cookie && !switches.packet_loop && switches.skb_current_task);
    assert!(!switches.socket_comm, "both kinds of programs share this switch");
}

#[test]
fn facts_are_serialised_with_their_reasons() {
    let text = |support: &Support| serde_json::to_string(support).expect("plain data");
    assert_eq!(text(&Support::Present), r#"{"state":"present"}"#);
    assert_eq!(text(&Support::Absent("no".into())), r#"{"state":"absent","reason":"no"}"#);
}

#[test]
fn this_kernel_answers() {
    let features = Features::probe();
    assert!(!features.release.is_empty());
    assert_eq!(features.hooks.len(), AttachType::ALL.len());
    if !rustix::process::geteuid().is_root() {
        crate::requirement::skipped(&format!("trying takes root; {}", features.ring_buffer));
        return;
    }
    let text = serde_json::to_string_pretty(&features).expect("plain data");
    // What the agent cannot do without, on any kernel that it supports.
    assert!(features.ring_buffer.is_present() && features.socket_storage.is_present(), "{text}");
    for hook in &features.hooks {
        assert!(hook.load.is_present(), "{hook:?}");
    }
    assert!(features.helpers.socket_current_task.is_present(), "{text}");
    assert!(features.helpers.address_current_task.is_present(), "{text}");
    assert!(
        features.tracepoint("tcp_destroy_sock").is_some_and(|t| t.attach.is_present()),
        "{text}"
    );
    // The order in which the kernel gained these never changed.
    if features.helpers.packet_netns_cookie.is_present() {
        assert!(features.helpers.sock_ops_netns_cookie.is_present(), "{text}");
    }
    if features.helpers.packet_current_task.is_present() {
        assert!(features.helpers.packet_loop.is_present(), "{text}");
        assert_eq!(features.memory_lock_counts, Some(false), "{text}");
    }
    println!("{text}");
}
