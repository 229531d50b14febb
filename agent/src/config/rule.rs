//! The values that are lists of rules: names of workloads, of services and patterns of routes.
//!
//! Each rule is checked here to the last field; what it does is the business of the
//! stage that takes it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::document::{Content, Name, Node};
use super::value::{Fault, Setting, nearest, quote, scalar, words};

/// The fields of a map, each read once.
struct Fields<'a> {
    node: &'a Node,
    map: &'a [(Name, Node)],
    known: &'static [&'static str],
    faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    fn new(
        node: &'a Node,
        known: &'static [&'static str],
        expected: &str,
    ) -> Result<Self, Vec<Fault>> {
        let Content::Map(map) = &node.content else {
            return Err(vec![Fault::not(node, "a map", expected.to_owned())]);
        };
        let mut faults = Vec::new();
        for (name, _) in map.iter().filter(|(name, _)| !known.contains(&name.text.as_str())) {
            let fault = Fault {
                place: Some(name.place),
                part: String::new(),
                fault: format!("unknown key `{}`", name.text.escape_debug()),
                expected: format!("one of {}", words(known)),
                remedy: None,
            };
            faults.push(match nearest(&name.text, known.iter().copied()) {
                Some(word) => fault.remedy(format!("did you mean `{word}`?")),
                None => fault,
            });
        }
        Ok(Self { node, map, known, faults })
    }

    fn optional<T: Setting>(&mut self, name: &'static str) -> Option<T> {
        debug_assert!(self.known.contains(&name), "a field that is read is a field that is known");
        let (_, node) = self.map.iter().find(|(written, _)| written.text == name)?;
        match T::read(node) {
            Ok(value) => Some(value),
            Err(faults) => {
                self.faults.extend(faults.into_iter().map(|fault| fault.within(name)));
                None
            }
        }
    }

    fn required<T: Setting>(&mut self, name: &'static str) -> Option<T> {
        if self.map.iter().any(|(written, _)| written.text == name) {
            return self.optional(name);
        }
        let fault = Fault::at(self.node, format!("`{name}` is missing"), T::expected());
        self.faults.push(fault);
        None
    }

    fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Fault>> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(self.faults),
        }
    }
}

/// A name that a person gave to a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct NameRule {
    /// `service.name`.
    pub name: String,
    /// `service.namespace`, if any.
    pub namespace: Option<String>,
    /// To whom the name belongs.
    pub matches: NameMatch,
}

/// Which workloads a [`NameRule`] means: all that is given has to hold, and something is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameMatch {
    /// The port it listens on, 1 to 65535.
    pub port: Option<u16>,
    /// Path of its executable, without a slash its name; a pattern with `*`, `**` and `?`.
    pub executable: Option<String>,
    /// Its systemd unit, such as `nginx.service`; a pattern likewise.
    pub unit: Option<String>,
    /// Its cgroup from the root, such as `/batch.slice/**`; a pattern likewise.
    pub cgroup: Option<String>,
    /// Its address; one address is a network of itself.
    pub address: Option<IpNet>,
}

impl Setting for u16 {
    fn kind() -> String {
        "port".to_owned()
    }
    fn expected() -> String {
        "a port from 1 to 65535".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 1, "maximum": 65535})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let port = scalar(node).and_then(|text| text.parse().ok()).filter(|port| *port > 0);
        port.ok_or_else(|| vec![Fault::not(node, "a port", Self::expected())])
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for IpNet {
    fn kind() -> String {
        "address or network".to_owned()
    }
    fn expected() -> String {
        "an address or a network, for example `10.1.2.3` or `10.0.0.0/8`".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string"})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node).unwrap_or_default();
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(Self::from));
        let fault = |_| vec![Fault::not(node, "an address or a network", Self::expected())];
        let net: Self = net.map_err(fault)?;
        if net.trunc() == net {
            return Ok(net);
        }
        let fault = format!("`{net}` has bits set outside of its mask");
        let remedy = format!("write `{}`, or `{}` for the one address", net.trunc(), net.addr());
        Err(vec![Fault::at(node, fault, Self::expected()).remedy(remedy)])
    }
    fn show(&self) -> String {
        if self.prefix_len() == self.max_prefix_len() {
            return quote(&self.addr().to_string());
        }
        quote(&self.to_string())
    }
}

/// A text that is not empty and holds no control characters.
#[derive(Clone, Debug, PartialEq)]
struct Word(String);

impl Setting for Word {
    fn kind() -> String {
        "text".to_owned()
    }
    fn expected() -> String {
        "a text of at most 253 characters".to_owned()
    }
    fn schema() -> Value {
        json!({"type": "string", "minLength": 1, "maxLength": 253})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let text = scalar(node).filter(|text| {
            (1..=253).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        });
        let text = text.ok_or_else(|| vec![Fault::not(node, "such a text", Self::expected())])?;
        Ok(Self(text.to_owned()))
    }
    fn show(&self) -> String {
        quote(&self.0)
    }
}

impl Setting for NameMatch {
    fn kind() -> String {
        "`{port, executable, unit, cgroup, address}`, each optional, all have to hold".to_owned()
    }
    fn expected() -> String {
        "a map with at least one of `port`, `executable`, `unit`, `cgroup`, `address`".to_owned()
    }
    fn schema() -> Value {
        json!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": false,
            "properties": {
                "port": u16::schema(),
                "executable": Word::schema(),
                "unit": Word::schema(),
                "cgroup": Word::schema(),
                "address": IpNet::schema(),
            },
        })
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        const KNOWN: &[&str] = &["port", "executable", "unit", "cgroup", "address"];
        let mut fields = Fields::new(node, KNOWN, &Self::expected())?;
        let text = |fields: &mut Fields<'_>, name| fields.optional::<Word>(name).map(|word| word.0);
        let rule = Self {
            port: fields.optional("port"),
            executable: text(&mut fields, "executable"),
            unit: text(&mut fields, "unit"),
            cgroup: text(&mut fields, "cgroup"),
            address: fields.optional("address"),
        };
        if rule == Self::default() && fields.faults.is_empty() {
            let fault = "matches everything: no condition is given".to_owned();
            fields.faults.push(Fault::at(node, fault, Self::expected()));
        }
        fields.finish(Some(rule))
    }
    fn show(&self) -> String {
        let mut parts = Vec::new();
        let mut add = |name: &str, value: Option<String>| {
            parts.extend(value.map(|value| format!("{name}: {value}")));
        };
        add("port", self.port.map(|port| port.show()));
        add("executable", self.executable.as_ref().map(Setting::show));
        add("unit", self.unit.as_ref().map(Setting::show));
        add("cgroup", self.cgroup.as_ref().map(Setting::show));
        add("address", self.address.map(|address| address.show()));
        format!("{{{}}}", parts.join(", "))
    }
}

impl Setting for NameRule {
    fn kind() -> String {
        format!("`{{name, namespace, match}}`; `match`: {}", NameMatch::kind())
    }
    fn expected() -> String {
        "a map with `name`, `match` and perhaps `namespace`".to_owned()
    }
    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["name", "match"],
            "additionalProperties": false,
            "properties": {
                "name": Word::schema(),
                "namespace": Word::schema(),
                "match": NameMatch::schema(),
            },
        })
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let known = &["name", "namespace", "match"];
        let mut fields = Fields::new(node, known, &Self::expected())?;
        let name = fields.required::<Word>("name").map(|word| word.0);
        let namespace = fields.optional::<Word>("namespace").map(|word| word.0);
        let matches = fields.required("match");
        let rule = name.zip(matches).map(|(name, matches)| Self { name, namespace, matches });
        fields.finish(rule)
    }
    fn show(&self) -> String {
        let namespace = self.namespace.as_ref();
        let namespace = namespace.map(|space| format!("namespace: {}, ", space.show()));
        let namespace = namespace.unwrap_or_default();
        format!("{{name: {}, {namespace}match: {}}}", self.name.show(), self.matches.show())
    }
}

/// A route that is known beforehand.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRule {
    /// The services whose paths it is for, `*` stands for any text; `None`: every service.
    pub service: Option<String>,
    /// `/users/{id}`: a segment in braces or `*` stands for any one segment, a last `*` for all
    /// that follow.
    pub pattern: String,
}

impl RouteRule {
    /// What is wrong with a pattern, if anything is.
    fn fault(pattern: &str) -> Option<String> {
        if !pattern.starts_with('/') {
            return Some(format!("`{pattern}` does not begin with `/`"));
        }
        if pattern.contains(['?', '#']) {
            return Some(format!("`{pattern}` holds a query or fragment; routes are paths alone"));
        }
        pattern[1..].split('/').find_map(|segment| {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match name {
                Some("") => Some("`{}` names no parameter".to_owned()),
                _ if segment == "*" || !name.unwrap_or(segment).contains(['{', '}', '*']) => None,
                _ => Some(format!("`{segment}` mixes text with `{{`, `}}` or `*`")),
            }
        })
    }
}

impl Setting for RouteRule {
    fn kind() -> String {
        "`{pattern, service}` or only the pattern".to_owned()
    }
    fn expected() -> String {
        "a pattern such as `/users/{id}` or `/static/*`, perhaps with a `service`".to_owned()
    }
    fn schema() -> Value {
        let rule = json!({
            "type": "object",
            "required": ["pattern"],
            "additionalProperties": false,
            "properties": {"pattern": Word::schema(), "service": Word::schema()},
        });
        json!({"anyOf": [{"type": "string", "pattern": "^/"}, rule]})
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let check = |pattern: String, node: &Node| match Self::fault(&pattern) {
            None => Ok(pattern),
            Some(fault) => Err(vec![Fault::at(node, fault, Self::expected())]),
        };
        if let Some(pattern) = scalar(node) {
            return Ok(Self { service: None, pattern: check(pattern.to_owned(), node)? });
        }
        let mut fields = Fields::new(node, &["pattern", "service"], &Self::expected())?;
        let service = fields.optional::<Word>("service").map(|word| word.0);
        let pattern = fields.required::<Word>("pattern").map(|word| word.0);
        let pattern = pattern.and_then(|pattern| match check(pattern, node) {
            Ok(pattern) => Some(pattern),
            Err(faults) => {
                fields.faults.extend(faults.into_iter().map(|fault| fault.within("pattern")));
                None
            }
        });
        fields.finish(pattern.map(|pattern| Self { service, pattern }))
    }
    fn show(&self) -> String {
        let service = self.service.as_ref();
        let service = service.map(|name| format!(", service: {}", name.show())).unwrap_or_default();
        format!("{{pattern: {}{service}}}", self.pattern.show())
    }
}

/// Services by their name, which may hold `*` and `?`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceName(pub String);

impl Setting for ServiceName {
    fn kind() -> String {
        "name or pattern".to_owned()
    }
    fn expected() -> String {
        "a name such as `checkout`, or a pattern such as `shop-*`".to_owned()
    }
    fn schema() -> Value {
        Word::schema()
    }
    fn read(node: &Node) -> Result<Self, Vec<Fault>> {
        let name = Word::read(node).map(|word| Self(word.0));
        name.map_err(|_| vec![Fault::not(node, "such a name", Self::expected())])
    }
    fn show(&self) -> String {
        quote(&self.0)
    }
}
