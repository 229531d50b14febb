//! Who is taken for one that makes spans, and who is not.

use super::*;
use crate::export::sample::{call, identity};
use crate::protocol::exchange::TraceContext;

fn detecting() -> Traced {
    Traced::new(TracedSettings::default())
}

/// A workload of these tests: its calls have one identity, as interned ones have.
struct Process(Arc<Identity>, u32);

impl Process {
    fn new(name: &str, pid: u32) -> Self {
        Self(identity(name), pid)
    }

    fn call(&self, side: Side, ids: Option<(u128, u64)>, (start, end): (u64, u64)) -> Call {
        let mut call = call(side);
        let local = match side {
            Side::Client => &mut call.client,
            Side::Server => &mut call.server,
        };
        (local.identity, local.pid) = (Arc::clone(&self.0), self.1);
        let context = |(trace_id, span_id)| TraceContext { trace_id, span_id, sampled: Some(true) };
        call.exchange.trace = ids.map(context);
        (call.exchange.start_ns, call.exchange.end_ns) = (start, end);
        call
    }

    fn received(&self, ids: (u128, u64), times: (u64, u64)) -> Call {
        self.call(Side::Server, Some(ids), times)
    }

    fn sent(&self, ids: (u128, u64), times: (u64, u64)) -> Call {
        self.call(Side::Client, Some(ids), times)
    }

    /// Asks somebody while it answers, in `traces` traces; `made` says whether with ids of
    /// its own.
    fn answers(&self, traced: &Traced, traces: std::ops::Range<u128>, made: bool) {
        for trace in traces {
            traced.observe(&self.sent((trace, if made { 9 } else { 7 }), (20, 30)));
            traced.observe(&self.received((trace, 7), (10, 40)));
        }
    }

    fn by(&self, traced: &Traced) -> Option<TracedBy> {
        traced.by(&self.received((1, 1), (1, 2)))
    }
}

#[test]
fn ids_of_its_own_in_three_traces_prove_an_sdk() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    shop.answers(&traced, 1..3, true);
    assert_eq!(shop.by(&traced), None, "two traces are not enough");
    shop.answers(&traced, 3..4, true);
    assert_eq!(shop.by(&traced), Some(TracedBy::Itself));
    assert_eq!(traced.stats().processes, 1);
}

#[test]
fn one_trace_proves_once() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    for _ in 0..3 {
        shop.answers(&traced, 1..2, true);
    }
    assert_eq!(shop.by(&traced), None);
}

#[test]
fn the_order_in_which_the_calls_end_does_not_matter() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    for trace in 1..4 {
        traced.observe(&shop.received((trace, 7), (10, 40)));
        traced.observe(&shop.sent((trace, 9), (20, 90)));
    }
    assert_eq!(shop.by(&traced), Some(TracedBy::Itself));
}

#[test]
fn a_header_that_is_passed_on_unchanged_proves_no_sdk() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    shop.answers(&traced, 1..10, false);
    assert_eq!(shop.by(&traced), None);
}

#[test]
fn one_that_passes_on_once_is_never_taken_for_one_that_traces() {
    for against_first in [true, false] {
        let (traced, shop) = (detecting(), Process::new("shop", 5));
        if against_first {
            shop.answers(&traced, 100..101, false);
        }
        shop.answers(&traced, 1..10, true);
        if !against_first {
            assert_eq!(shop.by(&traced), Some(TracedBy::Itself));
            shop.answers(&traced, 100..101, false);
        }
        assert_eq!(shop.by(&traced), None, "{against_first}");
        shop.answers(&traced, 11..20, true);
        assert_eq!(shop.by(&traced), None, "{against_first}");
    }
}

/// Two requests of one trace are open; what the second brought goes out, and while the
/// second is not over only the first is known.
#[test]
fn what_another_request_of_the_trace_brought_is_passed_on() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    for trace in 1..3 {
        traced.observe(&shop.sent((trace, 8), (20, 30)));
        traced.observe(&shop.received((trace, 7), (10, 40)));
        assert_eq!(shop.by(&traced), None);
        traced.observe(&shop.received((trace, 8), (15, 50)));
    }
    shop.answers(&traced, 10..20, true);
    assert_eq!(shop.by(&traced), None);
}

#[test]
fn contexts_that_no_request_brought_prove_nothing() {
    let (traced, job) = (detecting(), Process::new("job", 5));
    for trace in 1..10 {
        traced.observe(&job.sent((trace, 9), (20, 30)));
    }
    assert_eq!(traced.by(&job.sent((99, 9), (20, 30))), None);
    // Nor do those that were sent before, or long after, what reached it.
    for trace in 11..20 {
        traced.observe(&job.sent((trace, 9), (5, 30)));
        traced.observe(&job.sent((trace, 8), (50, 60)));
        traced.observe(&job.received((trace, 7), (10, 40)));
    }
    assert_eq!(job.by(&traced), None);
    // One that was sent out first and came back is not passed on.
    traced.observe(&job.sent((30, 7), (5, 60)));
    traced.observe(&job.received((30, 7), (10, 40)));
    job.answers(&traced, 31..34, true);
    assert_eq!(job.by(&traced), Some(TracedBy::Itself));
}

#[test]
fn another_process_does_not_testify() {
    let traced = detecting();
    let (one, other) = (Process::new("python", 5), Process::new("python", 6));
    let other = Process(Arc::clone(&one.0), other.1);
    for trace in 1..10 {
        traced.observe(&one.sent((trace, 9), (20, 30)));
        traced.observe(&other.received((trace, 7), (10, 40)));
    }
    assert_eq!((one.by(&traced), other.by(&traced)), (None, None));
    one.answers(&traced, 11..14, true);
    assert_eq!(one.by(&traced), Some(TracedBy::Itself));
    assert_eq!(other.by(&traced), None);
}

/// The process is named by its port where it answers, and by its program where it asks.
#[test]
fn a_process_may_have_a_name_for_each_side() {
    let traced = detecting();
    let (port, program) = (Process::new("shop", 5), Process::new("node", 5));
    for trace in 1..4 {
        traced.observe(&program.sent((trace, 9), (20, 30)));
        traced.observe(&port.received((trace, 7), (10, 40)));
    }
    assert_eq!(port.by(&traced), Some(TracedBy::Itself));
    assert_eq!(traced.by(&program.sent((9, 9), (1, 2))), Some(TracedBy::Itself));
    assert_eq!(traced.stats().processes, 1);
}

#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let traced = detecting();
    let (shop, job) = (Process::new("shop", 5), Process::new("job", 5));
    shop.answers(&traced, 1..4, true);
    assert_eq!(job.by(&traced), None, "before anything is learnt of it");
    traced.observe(&job.sent((1, 9), (20, 30)));
    assert_eq!((shop.by(&traced), job.by(&traced)), (None, None));
    job.answers(&traced, 1..4, true);
    assert_eq!(job.by(&traced), Some(TracedBy::Itself));
    let stats = traced.stats();
    assert_eq!((stats.processes, stats.evicted), (1, 0));
}

#[test]
fn who_is_not_known_is_not_judged() {
    let traced = detecting();
    let nobody = Process::new("shop", 0);
    nobody.answers(&traced, 1..10, true);
    assert_eq!(nobody.by(&traced), None);
    let unknown =
        Identity { kind: IdentityKind::Unknown, ..Identity::clone(&Process::new("unknown", 5).0) };
    let unknown = Process(Arc::new(unknown), 5);
    unknown.answers(&traced, 1..10, true);
    assert_eq!(unknown.by(&traced), None);
    assert_eq!(traced.stats().processes, 0);
}

#[test]
fn a_crowded_trace_proves_nothing() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    for trace in 1..10 {
        for span in 1..=5 {
            traced.observe(&shop.received((trace, span), (10, 40)));
        }
        traced.observe(&shop.sent((trace, 99), (20, 30)));
    }
    assert_eq!(shop.by(&traced), None);
}

#[test]
fn only_its_own_requests_without_a_context_are_left_to_this_agent() {
    let (traced, shop) = (detecting(), Process::new("shop", 5));
    shop.answers(&traced, 1..4, true);
    let bare = |side| traced.by(&shop.call(side, None, (1, 2)));
    assert_eq!(bare(Side::Client), None, "its SDK does not know of this request");
    assert_eq!(bare(Side::Server), Some(TracedBy::Itself), "its SDK begins a trace");
    assert_eq!(traced.by(&shop.sent((9, 9), (1, 2))), Some(TracedBy::Itself));
}

#[test]
fn a_configured_service_is_traced_whatever_it_does() {
    let services = ["shop-*".to_owned(), "cart".to_owned()].map(|text| text.parse().unwrap());
    let traced = Traced::new(TracedSettings { services: services.to_vec(), detects: false });
    for (name, by) in [
        ("shop-front", Some(TracedBy::Configured)),
        ("cart", Some(TracedBy::Configured)),
        ("shop", None),
        ("carts", None),
    ] {
        let process = Process::new(name, 5);
        assert_eq!(process.by(&traced), by, "{name}");
        assert_eq!(traced.by(&process.call(Side::Client, None, (1, 2))), by, "{name}");
    }
    let other = Process::new("other", 5);
    other.answers(&traced, 1..10, true);
    assert_eq!((other.by(&traced), traced.stats().processes), (None, 0), "nothing is found out");
}

#[test]
fn processes_are_bounded_and_what_leaves_is_counted() {
    let traced = detecting();
    let shop = Process::new("shop", 1);
    for pid in 1..=1_100 {
        let worker = Process(Arc::clone(&shop.0), pid);
        worker.answers(&traced, 1..4, true);
    }
    let stats = traced.stats();
    assert_eq!((stats.processes, stats.evicted), (PROCESSES, 1_100 - PROCESSES as u64));
    assert_eq!(shop.by(&traced), None, "it is forgotten, and so its spans are sent");
    assert_eq!(Process(Arc::clone(&shop.0), 1_100).by(&traced), Some(TracedBy::Itself));
}

#[test]
fn what_is_left_out_is_counted_by_who_traces() {
    let traced = detecting();
    traced.left_out(TracedBy::Itself);
    traced.left_out(TracedBy::Itself);
    traced.left_out(TracedBy::Configured);
    let stats = traced.stats();
    assert_eq!((stats.itself, stats.configured), (2, 1));
}
