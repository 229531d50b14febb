//! Objects as Kubernetes' interface sends them: any JSON is read, names nothing, or is refused.
//!
//! The first byte says of which kind the object is.
#![no_main]

use std::collections::HashSet;
use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use meshtap::attribution::cluster::{Object, ObjectKind};
use meshtap::kubernetes::object::read;

const KINDS: [ObjectKind; 5] = [
    ObjectKind::Pod,
    ObjectKind::Service,
    ObjectKind::Endpoints,
    ObjectKind::Node,
    ObjectKind::Namespace,
];

fn each_once(addresses: &[IpAddr]) -> bool {
    addresses.iter().collect::<HashSet<_>>().len() == addresses.len()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, json)) = bytes.split_first() else { return };
    let wanted = KINDS[usize::from(kind & 7) % KINDS.len()];
    let labels = kind & 8 != 0;
    let Ok(Some(object)) = read(wanted, json, labels) else { return };
    let (kind, _) = object.key();
    assert_eq!(kind, wanted);
    match &object {
        Object::Pod(pod) => {
            assert!(each_once(&pod.addresses));
            assert!(pod.containers.iter().all(|(id, _)| json.len() >= id.len()));
        }
        Object::Service(service) => {
            assert!(each_once(&service.addresses) && !service.node_ports.contains(&0));
        }
        Object::Node(node) => assert!(each_once(&node.addresses)),
        Object::Endpoints(_) | Object::Namespace(_) => {}
    }
    // Nothing but the clock makes it another object the next time.
    let again = read(wanted, json, labels).expect("as before").expect("as before");
    assert_eq!(again.key(), object.key());
});
