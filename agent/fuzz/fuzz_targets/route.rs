//! Any paths of two services: no panic, every bound kept, equal paths equal routes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshtap::protocol::{RouteSettings, Routes};

fuzz_target!(|text: &str| {
    let settings = RouteSettings {
        routes_per_service: 8,
        children: 4,
        services: 2,
        remembered: 4,
        ..RouteSettings::default()
    };
    let mut routes = Routes::new(settings);
    for line in text.split('\n') {
        let (service, path) = line.split_at_checked(1).unwrap_or_default();
        let route = routes.resolve(service, path);
        assert!(!route.is_empty());
        assert_eq!(route, routes.resolve(service, path));
        let occupancy = routes.occupancy();
        assert!(occupancy.services <= 2 && occupancy.routes <= 16);
    }
});
