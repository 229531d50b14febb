//! `server.address` and `server.port` out of the authority that a client asked for.

/// What plain HTTP means without a port.
pub const DEFAULT_PORT: u16 = 80;
/// Longest host name that is taken: that of DNS.
const HOST: usize = 255;

/// Host, in lower case, and port of `host`, `host:port`, `[v6]:port`, `user@host`.
/// `None` where there is no host, or a port that is none.
#[must_use]
pub fn split(authority: &str) -> Option<(String, u16)> {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host).trim();
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some(""))?)
    } else {
        match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => (authority, ""),
            Some((host, port)) => (host, port),
            None => (authority, ""),
        }
    };
    let fits = !host.is_empty()
        && host.len() <= HOST
        && !host.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().ok()? };
    fits.then(|| (host.trim_end_matches('.').to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_every_form() {
        for (text, host, port) in [
            ("Shop.example.org", "shop.example.org", 80),
            ("shop:8080", "shop", 8080),
            ("shop:", "shop", 80),
            ("127.0.0.1:9000", "127.0.0.1", 9000),
            ("[FD00::1]:81", "fd00::1", 81),
            ("[::1]", "::1", 80),
            ("::1", "::1", 80),
            ("user:secret@shop:81", "shop", 81),
            ("shop.:80", "shop", 80),
        ] {
            assert_eq!(split(text), Some((host.to_owned(), port)), "{text}");
        }
        let long = "a".repeat(256);
        for text in ["", ":80", "shop:port", "shop:99999", "[::1", "[::1]x", "a b", &long] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
