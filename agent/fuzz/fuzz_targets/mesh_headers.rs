//! What proxies of meshes write into headers, and peers of remote procedure calls into headers
//! and the ends of bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::protocol::{RpcSystem, http1, rpc};

const NAMES: [&str; 3] = ["x-forwarded-client-cert", "l5d-client-id", "x-envoy-attempt-count"];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, value)) = bytes.split_first() else { return };
    let name = NAMES[usize::from(*kind) % NAMES.len()];
    let head = [b"GET / HTTP/1.1\r\n", name.as_bytes(), b": ", value, b"\r\n\r\n"].concat();
    let head = http1::parse(&head);
    let relayed = &head.relayed;
    for said in [&relayed.client, &relayed.server, &relayed.linkerd_client] {
        assert!(said.as_ref().is_none_or(|said| !said.as_str().contains(char::is_control)));
    }
    assert!(relayed.attempt.is_none_or(|attempt| attempt > 0));
    for system in [RpcSystem::Grpc, RpcSystem::GrpcWeb, RpcSystem::Connect] {
        let _ = rpc::closing_status(system, value);
        let _ = rpc::tail_status(system, value);
    }
    // At most eight digits and a unit: `TimeoutValue` of gRPC over HTTP/2.
    assert!(rpc::timeout(value).is_none() || value.len() <= 9);
    if let Some(number) = rpc::decimal(value) {
        assert_eq!(
            std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
            Some(number)
        );
    }
});
