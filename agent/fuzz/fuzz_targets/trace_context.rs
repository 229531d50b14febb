//! Any values of the context headers: no panic, no id of zeros, no state beyond its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::protocol::trace_context::{Carrier, TRACE_STATE_MAX};

const NAMES: [&str; 7] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-sampled",
    "x-b3-flags",
];

fuzz_target!(|bytes: &[u8]| {
    let mut carrier = Carrier::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((name, value)) = line.split_first() else { continue };
        carrier.header(NAMES[usize::from(*name) % NAMES.len()], value);
    }
    if let Some((context, _)) = carrier.context() {
        assert!(context.trace_id != 0 && context.span_id != 0);
    }
    let mut state = Vec::new();
    carrier.trace_state(&mut state);
    assert!(state.len() <= TRACE_STATE_MAX);
});
