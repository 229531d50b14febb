//! [`Filter`]: which calls are shown.
//!
//! Filters of different kinds all have to hold; of several of one kind one suffices;
//! what a filter behind `--not` matches is never shown.

mod statuses;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use ipnet::IpNet;
use regex::Regex;

use super::line::{End, Line, LostLine};
pub use statuses::Statuses;

/// A pattern in which `*` stands for any text and `?` for any one character.
#[derive(Clone, Debug)]
pub struct Glob(Regex);

impl Glob {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("write a name or a pattern, for example `checkout` or `check*`".to_owned());
        }
        let pattern = regex::escape(text).replace("\\*", ".*").replace("\\?", ".");
        Regex::new(&format!("(?s)^{pattern}$"))
            .map(Self)
            .map_err(|_| "the pattern is too long".to_owned())
    }

    fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// An end: by name, `namespace/name`, address, `address:port`, or network.
#[derive(Clone, Debug)]
pub struct Who {
    glob: Glob,
    network: Option<IpNet>,
}

impl Who {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self { glob: Glob::parse(text)?, network: text.parse().ok() })
    }

    fn matches(&self, end: &End<'_>) -> bool {
        let named = |text: &str| self.glob.matches(text);
        if named(end.name) || end.namespace.is_some_and(|ns| named(&format!("{ns}/{}", end.name))) {
            return true;
        }
        let Some(address) = end.address else { return false };
        let port = end.port.unwrap_or_default();
        self.network.is_some_and(|network| network.contains(&address))
            || named(&address.to_string())
            || named(&std::net::SocketAddr::new(address, port).to_string())
    }
}

#[derive(Clone, Debug)]
struct Methods(Vec<String>);

fn methods(text: &str) -> Result<Methods, String> {
    let methods: Vec<String> = text.split(',').map(|method| method.trim().to_owned()).collect();
    if methods.iter().any(|method| method.is_empty() || method.contains(char::is_whitespace)) {
        return Err("write methods, for example `GET` or `POST,PUT`".to_owned());
    }
    Ok(Methods(methods))
}

/// A duration with its unit.
///
/// # Errors
/// It is not one.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number and its unit, for example `10ms`, `1s` or `5m`".to_owned())
}

/// As clap reads them; [`Filter`] brings in their order.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
struct Raw {
    /// Client: name, namespace/name, address, address:port or network; * and ? stand for any
    /// text and any character
    #[arg(long, value_name = "WHO", value_parser = Who::parse)]
    from: Vec<Who>,
    /// Server, likewise
    #[arg(long, value_name = "WHO", value_parser = Who::parse)]
    to: Vec<Who>,
    /// Either of them
    #[arg(long, value_name = "WHO", value_parser = Who::parse)]
    service: Vec<Who>,
    /// Path; * also stands for slashes
    #[arg(long, value_name = "GLOB", value_parser = Glob::parse)]
    path: Vec<Glob>,
    /// Method, or several: POST,PUT; of a gRPC call package.Service/Method
    #[arg(long, value_name = "METHOD", value_parser = methods)]
    method: Vec<Methods>,
    /// Status code, class or range of HTTP, or name of gRPC, or several: 404,5xx,UNAVAILABLE
    #[arg(long, value_name = "STATUS", value_parser = Statuses::parse)]
    status: Vec<Statuses>,
    /// Calls that took at least so long at the end where they took longer
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    min_latency: Vec<std::time::Duration>,
    /// Server's port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,
    /// Calls that failed: a status from 500 on, one of gRPC that the server answers for
    /// (UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS), or no
    /// whole answer
    #[arg(long, num_args = 0, default_missing_value = "true", action = clap::ArgAction::Append)]
    errors: Vec<bool>,
    /// Turns the filter that follows around: what it matches is not shown
    #[arg(long, num_args = 0, default_missing_value = "true", action = clap::ArgAction::Append)]
    not: Vec<bool>,
}

#[derive(Clone, Debug)]
enum Condition {
    From(Who),
    To(Who),
    Service(Who),
    Path(Glob),
    Method(Methods),
    Status(Statuses),
    MinLatency(u64),
    Port(u16),
    Errors,
}

impl Condition {
    fn holds(&self, line: &Line<'_>) -> bool {
        match self {
            Self::From(who) => who.matches(&line.client),
            Self::To(who) => who.matches(&line.server),
            Self::Service(who) => who.matches(&line.client) || who.matches(&line.server),
            Self::Path(glob) => line.path.is_some_and(|path| glob.matches(path)),
            Self::Method(methods) => line.method.is_some_and(|method| {
                methods.0.iter().any(|wanted| wanted.eq_ignore_ascii_case(method))
            }),
            Self::Status(statuses) => statuses.matches(line),
            Self::MinLatency(least_us) => {
                line.client_duration_us.max(line.server_duration_us) >= Some(*least_us)
            }
            Self::Port(port) => line.server.port == Some(*port) || line.server_port == *port,
            Self::Errors => line.failed,
        }
    }

    /// Whether calls that cannot be shown may have been among those that it matches; only
    /// its ends are known of a loss, if at all.
    fn may_hold(&self, lost: &LostLine<'_>) -> bool {
        let may = |who: &Who, end: &Option<End<'_>>| end.as_ref().is_none_or(|e| who.matches(e));
        match self {
            Self::From(who) => may(who, &lost.client),
            Self::To(who) => may(who, &lost.server),
            Self::Service(who) => may(who, &lost.client) || may(who, &lost.server),
            Self::Port(port) => {
                let known = lost.server.as_ref().and_then(|server| server.port);
                known.is_none_or(|known| known == *port)
            }
            _ => true,
        }
    }

    /// Whether it holds for all calls of a loss, whatever else they were.
    fn must_hold(&self, lost: &LostLine<'_>) -> bool {
        let must = |who: &Who, end: &Option<End<'_>>| end.as_ref().is_some_and(|e| who.matches(e));
        match self {
            Self::From(who) => must(who, &lost.client),
            Self::To(who) => must(who, &lost.server),
            Self::Service(who) => must(who, &lost.client) || must(who, &lost.server),
            Self::Port(port) => lost.server.as_ref().and_then(|end| end.port) == Some(*port),
            _ => false,
        }
    }
}

/// Which calls are shown.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    wanted: Vec<Condition>,
    unwanted: Vec<Condition>,
}

impl Filter {
    /// Whether a call is shown.
    #[must_use]
    pub fn shows(&self, line: &Line<'_>) -> bool {
        self.each_kind(|condition| condition.holds(line))
            && !self.unwanted.iter().any(|condition| condition.holds(line))
    }

    /// Whether a loss is shown: where lost calls may have been among those that are shown.
    #[must_use]
    pub fn shows_lost(&self, lost: &LostLine<'_>) -> bool {
        self.each_kind(|condition| condition.may_hold(lost))
            && !self.unwanted.iter().any(|condition| condition.must_hold(lost))
    }

    fn each_kind(&self, holds: impl Fn(&Condition) -> bool) -> bool {
        self.wanted.iter().all(|one| {
            let kind = std::mem::discriminant(one);
            let alike = self.wanted.iter().filter(|other| std::mem::discriminant(*other) == kind);
            alike.into_iter().any(&holds)
        })
    }

    fn of(raw: Raw, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let micros = |least: std::time::Duration| {
            Condition::MinLatency(u64::try_from(least.as_micros()).unwrap_or(u64::MAX))
        };
        let mut ordered = Vec::new();
        let mut add = |id: &str, conditions: Vec<Condition>| {
            let given = matches.value_source(id) == Some(ValueSource::CommandLine);
            let indices = matches.indices_of(id).into_iter().flatten().filter(|_| given);
            ordered.extend(indices.zip(conditions.into_iter().map(Some)));
        };
        add("from", raw.from.into_iter().map(Condition::From).collect());
        add("to", raw.to.into_iter().map(Condition::To).collect());
        add("service", raw.service.into_iter().map(Condition::Service).collect());
        add("path", raw.path.into_iter().map(Condition::Path).collect());
        add("method", raw.method.into_iter().map(Condition::Method).collect());
        add("status", raw.status.into_iter().map(Condition::Status).collect());
        add("min_latency", raw.min_latency.into_iter().map(micros).collect());
        add("port", raw.port.into_iter().map(Condition::Port).collect());
        add("errors", raw.errors.iter().map(|_| Condition::Errors).collect());
        let nots = matches.indices_of("not").into_iter().flatten();
        ordered.extend(nots.take(raw.not.len()).map(|index| (index, None)));
        ordered.sort_by_key(|(index, _)| *index);

        let mut filter = Self::default();
        let mut inverted = false;
        for (_, condition) in ordered {
            match condition {
                None if inverted => return Err(dangling()),
                None => inverted = true,
                Some(condition) if inverted => {
                    filter.unwanted.push(condition);
                    inverted = false;
                }
                Some(condition) => filter.wanted.push(condition),
            }
        }
        if inverted { Err(dangling()) } else { Ok(filter) }
    }
}

fn dangling() -> clap::Error {
    let text = "--not stands before the filter that it turns around, for example `--not --path \
                /healthz`; here no filter follows";
    clap::Error::raw(clap::error::ErrorKind::MissingRequiredArgument, text)
}

impl FromArgMatches for Filter {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::of(Raw::from_arg_matches(matches)?, matches)
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Filter {
    fn augment_args(command: Command) -> Command {
        Raw::augment_args(command)
    }
    fn augment_args_for_update(command: Command) -> Command {
        Raw::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests;
