//! Patterns, looks of segments, learning and its bounds.

use proptest::prelude::*;

use super::segment::{parameter, split_ending};
use super::*;

fn routes() -> Routes {
    Routes::new(RouteSettings::default())
}

fn with_patterns(patterns: &[(&str, &str)]) -> Routes {
    let patterns = patterns
        .iter()
        .map(|(service, pattern)| RoutePattern::new(service, pattern).unwrap())
        .collect();
    Routes::new(RouteSettings { patterns, ..RouteSettings::default() })
}

#[test]
fn looks_of_segments() {
    for (segment, expected) in [
        ("42", Some("{id}")),
        ("0", Some("{id}")),
        ("123456789012345678901234567890", Some("{id}")),
        ("users", None),
        ("v2", None),
        ("1.4.0", None),
        ("covid-19", None),
        ("123e4567-e89b-12d3-a456-426614174000", Some("{uuid}")),
        ("123E4567-E89B-12D3-A456-426614174000", Some("{uuid}")),
        ("123e4567-e89b-12d3-a456-42661417400g", Some("{token}")),
        ("2024-02-29", Some("{date}")),
        ("2024-02-29T12:00:00Z", Some("{date}")),
        ("2024-13-01", None),
        ("a@b.example", Some("{email}")),
        ("first.last%40example.org", Some("{email}")),
        ("@scope", None),
        ("10.0.0.1", Some("{ip}")),
        ("d41d8cd98f00b204e9800998ecf8427e", Some("{hash}")),
        ("507f1f77bcf86cd799439011", Some("{hash}")),
        ("deadbeef", None),
        ("facade12", Some("{hash}")),
        ("dQw4w9WgXcQ", Some("{token}")),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Some("{token}")),
        ("getAllMyOwnTopItems", None),
        ("GetUserByIdOrName", None),
        ("introduction-to-http2-and-http3", None),
        ("jquery-3.6.0.min.js", None),
        ("", None),
    ] {
        assert_eq!(parameter(segment), expected, "{segment}");
    }
    let long = "a-".repeat(40);
    assert_eq!(parameter(&long), Some("{param}"));
    assert_eq!(split_ending("42.json"), ("42", ".json"));
    assert_eq!(split_ending(".hidden"), (".hidden", ""));
    assert_eq!(split_ending("1.4"), ("1.4", ""));
    assert_eq!(split_ending("a@b.org"), ("a@b.org", ""));
}

#[test]
fn parameters_are_found_by_looks_at_once() {
    let mut routes = routes();
    for (path, route) in [
        ("/users/42", "/users/{id}"),
        ("/users/43", "/users/{id}"),
        ("/users/me", "/users/me"),
        ("/users/42/orders/123e4567-e89b-12d3-a456-426614174000", "/users/{id}/orders/{uuid}"),
        ("/", "/"),
        ("/users/", "/users/"),
        ("//x", "//x"),
        ("/items/42.json", "/items/{id}.json"),
        ("/a;session=1234/b", "/a/b"),
        ("/{id}/{whatever}", "/{param}/{param}"),
        ("", UNKNOWN),
        ("*", ASTERISK),
        ("example.org:443", AUTHORITY),
        (
            "/1/2/3/4/5/6/7/8/9/10/11/12/13/14",
            "/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/*",
        ),
    ] {
        assert_eq!(&*routes.resolve("shop", path), route, "{path}");
        assert_eq!(&*routes.resolve("shop", path), route, "{path} again");
    }
}

#[test]
fn patterns_come_first_and_in_order() {
    let mut routes = with_patterns(&[
        ("cart-*", "/items/{sku}"),
        ("*", "/users/{id}/orders/*"),
        ("*", "/users/{name}"),
        ("*", "/files/*/raw"),
    ]);
    for (service, path, route) in [
        ("cart-v1", "/items/red-shoe", "/items/{sku}"),
        ("stock", "/items/red-shoe", "/items/red-shoe"),
        ("stock", "/users/ann/orders/7/lines", "/users/{id}/orders/*"),
        ("stock", "/users/ann/orders/7", "/users/{id}/orders/*"),
        ("stock", "/users/ann/orders", "/users/ann/orders"),
        ("stock", "/users/ann/orders/", "/users/ann/orders/"),
        ("stock", "/users/ann", "/users/{name}"),
        ("stock", "/users/", "/users/"),
        ("stock", "/files/a/raw", "/files/*/raw"),
        ("stock", "/files/a/b/raw", "/files/a/b/raw"),
    ] {
        assert_eq!(&*routes.resolve(service, path), route, "{service} {path}");
    }
}

#[test]
fn globs_of_services() {
    for (glob, service, fits) in [
        ("*", "anything", true),
        ("*", "", true),
        ("a*c", "abc", true),
        ("a*c", "abcd", false),
        ("a*b*c", "aXbXbXc", true),
        ("", "x", false),
        ("shop", "shop", true),
        ("shop*", "shop", true),
    ] {
        let pattern = RoutePattern::new(glob, "/x").unwrap();
        assert_eq!(pattern.fits(service, "/x"), fits, "{glob} {service}");
    }
}

#[test]
fn patterns_that_never_fit_are_refused_with_the_remedy() {
    for (pattern, part) in [
        ("users/{id}", "write `/users/{id}`"),
        ("/users?id=1", "leave out what follows"),
        ("/users/{id}.json", "segment `{id}.json`"),
        ("/users/a*", "segment `a*`"),
        ("/users/{}", "segment `{}`"),
        ("/users/{a{b}", "segment `{a{b}`"),
    ] {
        let error = RoutePattern::new("*", pattern).unwrap_err().to_string();
        assert!(error.contains(part), "{pattern}: {error}");
    }
}

#[test]
fn a_position_with_too_many_names_becomes_a_parameter_once() {
    let mut routes = routes();
    for n in 0..64 {
        let name = word(n);
        assert_eq!(
            *routes.resolve("wiki", &format!("/pages/{name}/edit")),
            *format!("/pages/{name}/edit")
        );
    }
    assert_eq!(routes.occupancy().routes, 64);
    assert_eq!(
        &*routes.resolve("wiki", &format!("/pages/{}/edit", word(64))),
        "/pages/{param}/edit"
    );
    // What was remembered under its own name is not given out any more.
    assert_eq!(
        &*routes.resolve("wiki", &format!("/pages/{}/edit", word(0))),
        "/pages/{param}/edit"
    );
    assert_eq!(&*routes.resolve("wiki", "/pages/7/edit"), "/pages/{id}/edit");
    assert_eq!(
        &*routes.resolve("other-wiki", &format!("/pages/{}/edit", word(0))),
        "/pages/baaa/edit"
    );
    let occupancy = routes.occupancy();
    assert_eq!((occupancy.routes, occupancy.collapsed, occupancy.services), (3, 1, 2));
}

#[test]
fn a_service_has_no_more_routes_than_the_bound() {
    let mut routes =
        Routes::new(RouteSettings { routes_per_service: 8, ..RouteSettings::default() });
    for n in 0..8 {
        routes.resolve("s", &format!("/{}/x", word(n)));
    }
    assert_eq!(&*routes.resolve("s", "/late/x"), OTHER);
    assert_eq!(*routes.resolve("s", &format!("/{}/x", word(3))), *format!("/{}/x", word(3)));
    assert_eq!(routes.occupancy().other, 1);
    // Names that found no room count for their position all the same, each once.
    for n in 8..70 {
        routes.resolve("s", &format!("/{}/x", word(n)));
        routes.resolve("s", &format!("/{}/x", word(n)));
    }
    assert_eq!(&*routes.resolve("s", "/late/x"), "/{param}/x");
    assert_eq!(routes.occupancy().routes, 1);
}

#[test]
fn services_are_bounded() {
    let mut routes = Routes::new(RouteSettings { services: 2, ..RouteSettings::default() });
    for service in ["a", "b", "a", "c"] {
        routes.resolve(service, &format!("/{service}/x"));
    }
    let occupancy = routes.occupancy();
    assert_eq!((occupancy.services, occupancy.services_evicted, occupancy.routes), (2, 1, 2));
    assert_eq!(occupancy.remembered, 1, "only `a` was asked for twice");
}

#[test]
fn a_repeated_path_is_answered_from_memory() {
    let mut routes = routes();
    for _ in 0..10 {
        routes.resolve("s", "/users/42");
    }
    let occupancy = routes.occupancy();
    assert_eq!((occupancy.resolved, occupancy.remembered), (1, 9));
}

#[test]
fn the_very_same_texts_have_the_route_that_stands() {
    let mut routes = routes();
    let (service, path) = (Arc::<str>::from("wiki"), Text::from("/pages/main".to_owned()));
    for _ in 0..2 {
        assert_eq!(&*routes.of(&service, &path), "/pages/main");
    }
    assert_eq!((routes.occupancy().resolved, routes.occupancy().remembered), (1, 1));
    for n in 0..64 {
        routes.resolve("wiki", &format!("/pages/{}", word(n)));
    }
    assert_eq!(&*routes.of(&service, &path), "/pages/{param}");
    let other = Arc::<str>::from("shop");
    assert_eq!(&*routes.of(&other, &path), "/pages/main");
}

/// Words without digits, so that only their number gives them away.
fn word(n: u32) -> String {
    let letters =
        (0..4).map(|place| char::from(b'a' + u8::try_from((n >> (4 * place)) & 15).unwrap()));
    letters.rev().collect::<String>().replacen('a', "b", 1)
}

proptest! {
    #[test]
    fn any_paths_keep_the_bounds(paths in prop::collection::vec(("[ab]", "(/[a-z0-9{}*.;@-]{0,6}){0,5}|\\PC{0,20}"), 0..60)) {
        let settings = RouteSettings {
            routes_per_service: 10, children: 4, services: 1, remembered: 8, ..RouteSettings::default()
        };
        let mut routes = Routes::new(settings);
        for (service, path) in &paths {
            let route = routes.resolve(service, path);
            prop_assert!(!route.is_empty());
            prop_assert_eq!(&route, &routes.resolve(service, path), "a route stands while nothing else comes");
            prop_assert!(routes.occupancy().routes <= 10);
            prop_assert!(routes.occupancy().services <= 1);
        }
    }
}

#[test]
fn without_learning_only_patterns_are_routes() {
    let patterns = vec![RoutePattern::new("shop", "/users/{id}").unwrap()];
    let mut routes =
        Routes::new(RouteSettings { patterns, learns: false, ..RouteSettings::default() });
    assert_eq!(&*routes.resolve("shop", "/users/7"), "/users/{id}");
    for path in ["/orders/7", "/", "/users"] {
        assert_eq!(&*routes.resolve("shop", path), "", "{path}");
    }
    assert_eq!(&*routes.resolve("other", "/users/7"), "", "the pattern is another service's");
    // What names no path is known without learning.
    assert_eq!(&*routes.resolve("shop", ""), UNKNOWN);
    assert_eq!(&*routes.resolve("shop", "*"), ASTERISK);
    assert_eq!(&*routes.resolve("shop", "example.org:443"), AUTHORITY);
    let occupancy = routes.occupancy();
    assert_eq!((occupancy.services, occupancy.routes, occupancy.other), (0, 0, 0));
}

/// What a gRPC call with this outcome is counted under.
fn method(routes: &mut Routes, service: &str, path: &str, status: Option<u32>) -> String {
    routes.of_call(&Arc::from(service), &Exchange::sample(path, status)).to_string()
}

#[test]
fn a_method_has_its_name_once_an_answer_showed_that_the_service_has_it() {
    let mut routes = routes();
    // UNIMPLEMENTED, UNAUTHENTICATED, PERMISSION_DENIED.
    for status in [12, 16, 7] {
        assert_eq!(method(&mut routes, "cart", "/shop.Cart/Add", Some(status)), OTHER_METHOD);
    }
    let silent = Exchange { status: None, ..Exchange::sample("/shop.Cart/Add", None) };
    let refused = Exchange { status: Some(404), ..silent.clone() };
    for exchange in [&silent, &refused] {
        assert_eq!(&*routes.of_call(&"cart".into(), exchange), OTHER_METHOD);
    }
    // INTERNAL: the method fails, so there is one.
    assert_eq!(method(&mut routes, "cart", "/shop.Cart/Add", Some(13)), "shop.Cart/Add");
    for status in [Some(12), Some(16), None] {
        assert_eq!(method(&mut routes, "cart", "/shop.Cart/Add", status), "shop.Cart/Add");
    }
    assert_eq!(&*routes.of_call(&"cart".into(), &silent), "shop.Cart/Add");
    assert_eq!(method(&mut routes, "pay", "/shop.Cart/Add", Some(12)), OTHER_METHOD, "not its own");
    // A stream that goes on has answered.
    assert_eq!(method(&mut routes, "cart", "/shop.Cart/Watch", None), "shop.Cart/Watch");
}

#[test]
fn methods_are_no_routes_and_what_is_unknown_stays() {
    let mut routes = with_patterns(&[("*", "/shop.Cart/{method}")]);
    assert_eq!(method(&mut routes, "cart", "/shop.Cart/42", Some(0)), "shop.Cart/42");
    assert_eq!(method(&mut routes, "cart", exchange::UNKNOWN, Some(0)), exchange::UNKNOWN);
    assert_eq!(method(&mut routes, "cart", "", None), exchange::UNKNOWN);
    let http = |path| Exchange { rpc: None, ..Exchange::sample(path, None) };
    assert_eq!(&*routes.of_call(&"cart".into(), &http("/shop.Cart/42")), "/shop.Cart/{method}");
    assert_eq!(&*routes.of_call(&"cart".into(), &http(exchange::UNKNOWN)), UNKNOWN);
}

#[test]
fn methods_and_their_services_are_bounded() {
    let settings = RouteSettings { routes_per_service: 3, services: 2, ..Default::default() };
    let mut routes = Routes::new(settings);
    for number in 0..10 {
        let expected = if number < 3 { format!("a.B/M{number}") } else { OTHER_METHOD.to_owned() };
        assert_eq!(method(&mut routes, "cart", &format!("/a.B/M{number}"), Some(0)), expected);
    }
    assert_eq!(method(&mut routes, "cart", "/a.B/M2", Some(0)), "a.B/M2", "what is known stays");
    assert_eq!((routes.occupancy().methods, routes.occupancy().methods_other), (3, 7));
    let long = format!("/{}", "x".repeat(300));
    assert_eq!(method(&mut routes, "pay", &long, Some(0)), OTHER_METHOD);
    for service in ["one", "two", "three"] {
        assert_eq!(method(&mut routes, service, "/a.B/M", Some(0)), "a.B/M");
    }
    assert_eq!(routes.occupancy().methods, 2, "of two services");
    assert_eq!(method(&mut routes, "cart", "/a.B/M2", Some(12)), OTHER_METHOD, "forgotten");
}

#[test]
fn the_very_same_texts_have_the_method_that_stands() {
    let mut routes = Routes::new(RouteSettings { services: 1, ..Default::default() });
    let (cart, pay): (Arc<str>, Arc<str>) = ("cart".into(), "pay".into());
    let mut call = Exchange::sample("/a.B/M", Some(0));
    let first = routes.of_call(&cart, &call);
    assert!(Arc::ptr_eq(&first, &routes.of_call(&cart, &call)));
    assert_eq!(&*routes.of_call(&pay, &call), "a.B/M");
    call.rpc.as_mut().unwrap().status = Some(12);
    assert_eq!(&*routes.of_call(&cart, &call), OTHER_METHOD, "its service was forgotten");
}
