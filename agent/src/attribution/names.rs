//! Names given in the configuration: the first rule that matches wins.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use regex::Regex;
use serde::Deserialize;

/// One rule. Every matcher that is set must match; a rule without any matches nothing.
///
/// `executable`, `unit` and `cgroup` speak of local sockets only; `port` and `address`
/// of local and remote ends alike.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameRule {
    /// `service.name` of what matches.
    pub name: String,
    /// `service.namespace` of what matches.
    #[serde(default)]
    pub namespace: String,
    /// The port that the workload listens on; never the port that a client was lent.
    #[serde(default)]
    pub port: Option<u16>,
    /// Path of the executable; a pattern without `/` is compared with the base name.
    #[serde(default)]
    pub executable: Option<Glob>,
    /// systemd unit, with or without `.service`.
    #[serde(default)]
    pub unit: Option<Glob>,
    /// cgroup path from the root of any hierarchy (`/system.slice/**`).
    #[serde(default)]
    pub cgroup: Option<Glob>,
    /// The workload's own address: an IP address or a network (`10.1.0.0/16`).
    #[serde(default)]
    pub address: Option<Network>,
}

/// What a rule is held against. `None` and empty: not known, so no matcher on it matches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Subject<'a> {
    /// Port of the listening end.
    pub port: Option<u16>,
    /// Path, or at least base name.
    pub executable: Option<&'a str>,
    /// `X.service`.
    pub unit: Option<&'a str>,
    /// Path in some hierarchy.
    pub cgroup: Option<&'a str>,
    /// Address of this end.
    pub address: Option<IpAddr>,
}

impl NameRule {
    /// Whether the rule names `subject`.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let text = |glob: &Option<Glob>, value: Option<&str>| {
            glob.as_ref().map(|glob| value.is_some_and(|value| glob.matches(value)))
        };
        let executable = self.executable.as_ref().map(|glob| {
            subject.executable.is_some_and(|path| {
                let whole = glob.text.contains('/');
                glob.matches(if whole { path } else { super::program::base_name(path) })
            })
        });
        let unit = self.unit.as_ref().map(|glob| {
            subject.unit.is_some_and(|unit| {
                glob.matches(unit)
                    || unit.strip_suffix(".service").is_some_and(|bare| glob.matches(bare))
            })
        });
        let verdicts = [
            self.port.map(|port| subject.port == Some(port)),
            executable,
            unit,
            text(&self.cgroup, subject.cgroup),
            self.address
                .map(|network| subject.address.is_some_and(|address| network.contains(address))),
        ];
        verdicts.iter().any(Option::is_some) && verdicts.iter().flatten().all(|verdict| *verdict)
    }
}

/// The first rule that names `subject`.
#[must_use]
pub fn first<'a>(rules: &'a [NameRule], subject: &Subject<'_>) -> Option<&'a NameRule> {
    rules.iter().find(|rule| rule.matches(subject))
}

/// A pattern over paths and names: `*` within a component, `**` across, `?` one letter.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Glob {
    text: String,
    regex: Regex,
}

impl Glob {
    /// Whether `value` as a whole matches.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
    }
}

/// Why a rule's text was refused.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// Neither an address nor a network.
    #[error("`{0}` is no IP address and no network; write 10.1.2.3 or 10.1.0.0/16")]
    Network(String),
    /// A pattern that cannot be compiled.
    #[error("`{0}` is no usable pattern ({1}); shorten it")]
    Glob(String, Box<regex::Error>),
}

impl TryFrom<String> for Glob {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let mut pattern = String::from("(?s)^");
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '*' if letters.next_if_eq(&'*').is_some() => pattern.push_str(".*"),
                '*' => pattern.push_str("[^/]*"),
                '?' => pattern.push_str("[^/]"),
                other => pattern.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
            }
        }
        pattern.push('$');
        match Regex::new(&pattern) {
            Ok(regex) => Ok(Self { text, regex }),
            Err(error) => Err(NameError::Glob(text, Box::new(error))),
        }
    }
}

impl FromStr for Glob {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::try_from(text.to_owned())
    }
}

/// An address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parsed = text.parse::<IpNet>().ok();
        parsed
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .map(Self)
            .ok_or_else(|| NameError::Network(text.to_owned()))
    }
}

impl TryFrom<String> for Network {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(yaml: &str) -> NameRule {
        serde_norway::from_str(yaml).unwrap()
    }

    #[test]
    fn every_matcher_must_match() {
        let rule = rule("{name: shop, port: 80, executable: /usr/**/nginx, unit: 'ngin?'}");
        let subject = Subject {
            port: Some(80),
            executable: Some("/usr/local/sbin/nginx"),
            unit: Some("nginx.service"),
            ..Subject::default()
        };
        assert!(rule.matches(&subject));
        assert!(!rule.matches(&Subject { port: Some(81), ..subject }));
        assert!(!rule.matches(&Subject { unit: None, ..subject }));
        assert!(!rule.matches(&Subject { executable: Some("/opt/nginx"), ..subject }));
    }

    #[test]
    fn patterns_know_components_and_base_names() {
        let by = |yaml: &str, subject: Subject<'_>| rule(yaml).matches(&subject);
        let exe = |path| Subject { executable: Some(path), ..Subject::default() };
        assert!(by("{name: a, executable: 'python3*'}", exe("/usr/bin/python3.11")));
        assert!(!by("{name: a, executable: '/usr/*'}", exe("/usr/bin/python3.11")));
        assert!(by("{name: a, executable: '/usr/**'}", exe("/usr/bin/python3.11")));
        assert!(!by("{name: a, executable: 'a.c'}", exe("/abc")), "a dot is a dot");
        let cgroup = |path| Subject { cgroup: Some(path), ..Subject::default() };
        assert!(by("{name: a, cgroup: '/user.slice/**'}", cgroup("/user.slice/a/b")));
        assert!(!by("{name: a, cgroup: '/user.slice/*'}", cgroup("/user.slice/a/b")));
    }

    #[test]
    fn addresses_and_networks() {
        let at = |yaml: &str, address: &str| {
            let address = Some(address.parse().unwrap());
            rule(yaml).matches(&Subject { address, ..Subject::default() })
        };
        assert!(at("{name: a, address: 10.1.0.0/16}", "10.1.255.1"));
        assert!(at("{name: a, address: 10.1.0.0/16}", "::ffff:10.1.2.3"));
        assert!(!at("{name: a, address: 10.1.0.0/16}", "10.2.0.1"));
        assert!(at("{name: a, address: 'fd00::1'}", "fd00::1"));
        assert!(!at("{name: a, address: 'fd00::1'}", "fd00::2"));
    }

    #[test]
    fn first_wins_and_no_matcher_matches_nothing() {
        let rules = [rule("{name: none}"), rule("{name: a, port: 1}"), rule("{name: b, port: 1}")];
        let found = first(&rules, &Subject { port: Some(1), ..Subject::default() });
        assert_eq!(found.map(|rule| &*rule.name), Some("a"));
        assert!(first(&rules, &Subject::default()).is_none());
    }

    #[test]
    fn bad_rules_are_refused_with_the_remedy() {
        let error =
            serde_norway::from_str::<NameRule>("{name: a, address: example.org}").unwrap_err();
        assert!(error.to_string().contains("write 10.1.2.3 or 10.1.0.0/16"), "{error}");
        assert!(serde_norway::from_str::<NameRule>("{name: a, prot: 1}").is_err());
    }
}
