//! Processes that only pass a connection on: no application, so both of their ends are
//! folded away and the two applications behind them become each other's peers.
//!
//! Known today: docker's userland proxy.

use std::net::{IpAddr, SocketAddr};

use super::program::base_name;

/// A process that passes connections on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Where every connection goes, if the hop's command line says so.
    pub target: Option<SocketAddr>,
}

/// Whether the process is a hop.
#[must_use]
pub fn detect(executable: &str, arguments: &[String]) -> Option<Hop> {
    let executable = executable.strip_suffix(" (deleted)").unwrap_or(executable);
    if !matches!(base_name(executable), "docker-proxy" | "rootlesskit-docker-proxy") {
        return None;
    }
    let address = option(arguments, "container-ip").and_then(|text| text.parse::<IpAddr>().ok());
    let port = option(arguments, "container-port").and_then(|text| text.parse::<u16>().ok());
    Some(Hop { target: address.zip(port).map(SocketAddr::from) })
}

/// `-key value`, `--key value`, `-key=value` as Go's flags allow.
fn option<'a>(arguments: &'a [String], key: &str) -> Option<&'a str> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(bare) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        match bare.strip_prefix(key) {
            Some("") => return words.next().map(String::as_str),
            Some(rest) if rest.starts_with('=') => return Some(&rest[1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn dockers_proxy_says_where_it_leads() {
        let line = words(
            "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80",
        );
        let target = Some("172.17.0.2:80".parse().unwrap());
        assert_eq!(detect("/usr/bin/docker-proxy", &line), Some(Hop { target }));
        let line = words("docker-proxy --container-ip=fd00::2 -container-port=80 -use-listen-fd");
        let target = Some("[fd00::2]:80".parse().unwrap());
        assert_eq!(detect("docker-proxy", &line), Some(Hop { target }));
    }

    #[test]
    fn a_proxy_without_its_command_line_is_still_one() {
        assert_eq!(detect("/usr/bin/docker-proxy", &[]), Some(Hop { target: None }));
        assert_eq!(
            detect("docker-proxy", &words("docker-proxy -container-ip")),
            Some(Hop { target: None })
        );
        assert_eq!(detect("/usr/bin/dockerd", &words("dockerd -container-ip 1.2.3.4")), None);
    }
}
