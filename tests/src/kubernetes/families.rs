//! Which families of addresses the laboratory has: IPv4, and IPv6 beside it where it can be had.

use std::path::Path;
use std::sync::LazyLock;

use crate::process::run;
use crate::requirement::program;

/// Found once: it does not change while a laboratory runs.
static LACKS_IPV6: LazyLock<Option<String>> = LazyLock::new(|| {
    let off = |of: &str| {
        let file = format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6");
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    };
    if !Path::new("/proc/net/if_inet6").exists() {
        Some("this kernel has no IPv6".to_owned())
    } else if off("all") || off("default") {
        Some("IPv6 is switched off here".to_owned())
    } else if program("ip6tables").is_none() {
        Some("not installed: ip6tables".to_owned())
    } else {
        let translates = run("ip6tables -t nat -S").is_ok();
        (!translates).then(|| "this kernel does not translate addresses of IPv6".to_owned())
    }
});

/// Why nodes, pods and Services have no addresses of IPv6 here; `None`: they have one each,
/// second to that of IPv4.
#[must_use]
pub fn lacks_ipv6() -> Option<String> {
    LACKS_IPV6.clone()
}

/// What is said of IPv4, and what of IPv6 where that is to be had.
pub(super) fn each<T>(ipv4: T, ipv6: T) -> Vec<T> {
    if LACKS_IPV6.is_none() { vec![ipv4, ipv6] } else { vec![ipv4] }
}

/// [`each`], as Kubernetes' programs take it.
pub(super) fn both(ipv4: &str, ipv6: &str) -> String {
    each(ipv4, ipv6).join(",")
}
