//! Which systemd service a cgroup path belongs to.
//!
//! Sessions, slices, machines and units that systemd named at random are no services:
//! their processes are known by their executables.

/// A service as its cgroup path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// The unit as systemd calls it: `nginx.service`, `foo@bar.service`; for a socket
    /// unit the service that it starts.
    pub unit: String,
    /// The service's name: without suffix, escapes, a connection's or a random instance.
    pub name: String,
}

/// The innermost service on a cgroup path.
#[must_use]
pub fn from_cgroup(path: &str) -> Option<Unit> {
    path.split('/').rev().find_map(component)
}

fn component(text: &str) -> Option<Unit> {
    // cgroupfs escapes names that it would take for its own files.
    let text = text.strip_prefix('_').unwrap_or(text);
    if let Some(name) = text.strip_suffix(".service") {
        if name.starts_with("user@") || is_transient(name) || name.is_empty() {
            return None;
        }
        let name = match name.strip_prefix("app-") {
            Some(app) => application(app.split_once('@').map_or(app, |(id, _)| id)),
            None => unescape(without_connection(name)),
        };
        return Some(Unit { unit: text.to_owned(), name });
    }
    if let Some(name) = text.strip_suffix(".socket") {
        let name = name.strip_suffix('@').unwrap_or(name);
        return (!name.is_empty())
            .then(|| Unit { unit: format!("{name}.service"), name: unescape(name) });
    }
    let app = text.strip_suffix(".scope")?.strip_prefix("app-")?;
    let id = app.rsplit_once('-').map_or(app, |(id, _)| id);
    Some(Unit { unit: text.to_owned(), name: application(id) })
}

/// `run-u12`, `run-r0a1b…`: names that `systemd-run` made up, another one each time.
fn is_transient(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("run-") else { return false };
    let rest = rest.strip_prefix('p').unwrap_or(rest);
    let rest = rest.strip_prefix(['u', 'r']).unwrap_or(rest);
    let digits = rest.split('-').all(|part| {
        let part = part.strip_prefix('i').unwrap_or(part);
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    !rest.is_empty() && digits
}

/// `sshd@3-10.0.0.1:22-10.0.0.2:5000`: an instance per connection is the template itself.
fn without_connection(name: &str) -> &str {
    let Some((template, instance)) = name.split_once('@') else { return name };
    let mut parts = instance.splitn(2, '-');
    let number = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let endpoints = rest.contains(':')
        || (!rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'));
    if numbered && endpoints { template } else { name }
}

/// `[launcher-]ApplicationID`, the id's own dashes escaped.
fn application(text: &str) -> String {
    unescape(text.rsplit_once('-').map_or(text, |(_, id)| id))
}

/// Undoes systemd's `\x2d` escapes. What is no escape stays.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        // Digits alone: a sign would be read as part of a number.
        let code =
            rest.get(at + 2..at + 4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[at + 4..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_every_layout() {
        for (path, unit, name) in [
            ("/system.slice/nginx.service", "nginx.service", "nginx"),
            ("/nginx.service", "nginx.service", "nginx"),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                "getty@tty1.service",
                "getty@tty1",
            ),
            ("/system.slice/docker.service/supervisor", "docker.service", "docker"),
            ("/system.slice/foo\\x2dbar.service", "foo\\x2dbar.service", "foo-bar"),
            ("/system.slice/web.socket", "web.service", "web"),
            ("/system.slice/sshd.socket", "sshd.service", "sshd"),
            (
                "/system.slice/system-sshd.slice/sshd@3-10.0.0.1:22-10.0.0.2:50000.service",
                "sshd@3-10.0.0.1:22-10.0.0.2:50000.service",
                "sshd",
            ),
            ("/system.slice/varlink@7-312-0.service", "varlink@7-312-0.service", "varlink"),
            (
                "/system.slice/postgresql@15-main.service",
                "postgresql@15-main.service",
                "postgresql@15-main",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service",
                "web.service",
                "web",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4711.scope",
                "app-gnome-firefox-4711.scope",
                "firefox",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Maps@0a1b.service",
                "app-org.gnome.Maps@0a1b.service",
                "org.gnome.Maps",
            ),
            ("/a.slice/a-b.slice/deep.service/x/y", "deep.service", "deep"),
        ] {
            let found = from_cgroup(path).unwrap_or_else(|| panic!("{path} yields no unit"));
            assert_eq!((&*found.unit, &*found.name), (unit, name), "{path}");
        }
    }

    #[test]
    fn sessions_and_random_units_are_no_services() {
        for path in [
            "/",
            "/init.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/user.slice/user-1000.slice/user@1000.service/init.scope",
            "/user.slice/user-1000.slice/user@1000.service",
            "/system.slice/run-u12.service",
            "/system.slice/run-r0a1b2c3d4e5f60718293a4b5c6d7e8f9.service",
            "/system.slice/run-p3124-i3125.service",
            "/system.slice",
            "/.service",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-0a1b.scope",
        ] {
            assert_eq!(from_cgroup(path), None, "{path}");
        }
        assert!(from_cgroup("/system.slice/run-backup.service").is_some(), "a name of a person's");
    }

    #[test]
    fn escapes_are_undone_and_nothing_else() {
        assert_eq!(unescape("a\\x2db"), "a-b");
        assert_eq!(unescape("a\\xzzb\\x"), "a\\xzzb\\x");
        assert_eq!(unescape("\\x2d\\x2d"), "--");
        assert_eq!(unescape("ü\\x2dß"), "ü-ß");
    }

    #[test]
    fn a_sign_is_no_digit_of_an_escape() {
        assert_eq!(unescape("a\\x+fb"), "a\\x+fb");
    }
}
