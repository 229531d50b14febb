//! `meshtap observe`: calls as they happen, for people and for programs.

pub mod filter;
pub mod json;
pub mod line;
pub mod merge;
pub mod render;
pub mod schema;

#[cfg(test)]
mod examples;

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, ColorChoice};
use rustix::time::{ClockId, clock_gettime};

use super::{Exit, Failure, Layers, Output, Session, run};
use crate::attribution::Call;
use crate::config::Level;
pub use filter::Filter;
use line::Line;
pub use line::Lost;
use merge::{Merge, ObservedCall};
use render::Table;

pub(super) static EXAMPLES: LazyLock<String> = LazyLock::new(|| {
    super::examples(&[
        ("sudo meshtap observe", "everything"),
        ("sudo meshtap observe --to checkout --status 5xx --min-latency 10ms", "what is bad there"),
        ("sudo meshtap observe --not --path /healthz --not --method OPTIONS", "without the noise"),
        (
            "sudo meshtap observe --json --duration 30s | jq -r '.path' | sort | uniq -c",
            "what is asked for most, for half a minute",
        ),
        ("sudo meshtap observe --errors --count 1", "wait for the next failure"),
        (
            "sudo meshtap observe --method shop.Cart/Add --not --status OK",
            "calls of one gRPC method that went wrong",
        ),
    ])
});

/// How long the end may take after a signal.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// What is ready is written at the latest when it is so much.
const BUFFER: usize = 32 << 10;

/// Arguments of `meshtap observe`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    layers: Layers,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct Limits {
    /// One JSON object a line; docs/observe.md says what is in it
    #[arg(long)]
    json: bool,
    /// End after this time
    #[arg(long, value_name = "DURATION", value_parser = filter::duration)]
    duration: Option<Duration>,
    /// End after so many calls were shown
    #[arg(long, value_name = "CALLS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
}

/// How calls are shown.
#[derive(Clone, Debug)]
pub enum Form {
    /// For people.
    Table(Table),
    /// For programs.
    Json,
}

/// What an [`Observer`] does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which calls are shown.
    pub filter: Filter,
    /// How.
    pub form: Form,
    /// For how long, from the first [`Observer::tick`].
    pub duration: Option<Duration>,
    /// How many calls.
    pub count: Option<u64>,
    /// What has to be added to monotonic time to get nanoseconds since 1970.
    pub wall_offset_ns: u64,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More is wanted.
    Continue,
    /// Nothing more will be shown.
    Stop,
}

/// What was shown and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls shown.
    pub shown: u64,
    /// Calls that the filters took out.
    pub filtered: u64,
    /// Calls that were declared lost, shown or not.
    pub lost: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.shown == 1 { "call" } else { "calls" };
        let Self { shown, filtered, lost } = self;
        write!(formatter, "{shown} {calls} shown, {filtered} filtered out, {lost} lost")
    }
}

/// Shows the calls that it is given.
#[derive(Debug)]
pub struct Observer<W> {
    options: Options,
    merge: Merge,
    ready: Vec<ObservedCall>,
    writer: W,
    buffer: Vec<u8>,
    summary: Summary,
    end_ns: Option<u64>,
    flow: Flow,
    failure: Option<io::Error>,
}

impl<W: Write> Observer<W> {
    /// Writes to `writer`.
    pub fn new(options: Options, writer: W) -> Self {
        Self {
            options,
            merge: Merge::default(),
            ready: Vec::new(),
            writer,
            buffer: Vec::new(),
            summary: Summary::default(),
            end_ns: None,
            flow: Flow::Continue,
            failure: None,
        }
    }

    /// Takes what one end saw of a call. Written at the next [`Observer::tick`], or before.
    pub fn call(&mut self, call: Call) {
        self.merge.put(call, &mut self.ready);
        self.show_ready();
    }

    /// Takes a loss.
    pub fn lost(&mut self, lost: &Lost) {
        if self.flow == Flow::Stop {
            return;
        }
        self.summary.lost += lost.count;
        let line = lost.line(self.options.wall_offset_ns);
        if !self.options.filter.shows_lost(&line) {
            return;
        }
        match &mut self.options.form {
            Form::Json => json::write(&line, &mut self.buffer),
            Form::Table(table) => {
                let mut text = String::new();
                table.lost(&line, &mut text);
                self.buffer.extend_from_slice(text.as_bytes());
            }
        }
        self.write_if(self.buffer.len() >= BUFFER);
    }

    /// Says what time it is, in nanoseconds of `CLOCK_MONOTONIC`, and writes out what is
    /// ready. To be called after every batch of calls, and at least ten times a second.
    pub fn tick(&mut self, now_ns: u64) -> Flow {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if let Some(duration) = self.options.duration {
            let end = *self.end_ns.get_or_insert(now_ns.saturating_add(nanos(duration)));
            if now_ns >= end {
                self.merge.drain(&mut self.ready);
                self.show_ready();
                self.write_if(true);
                self.flow = Flow::Stop;
            }
        }
        self.merge.expire(now_ns, &mut self.ready);
        self.show_ready();
        self.write_if(true);
        self.flow
    }

    /// Shows what still waited for its other end, and says on standard error how many
    /// calls were shown, filtered out and lost, unless nobody reads any more.
    ///
    /// # Errors
    /// The output could not be written, for another reason than that its reader went away.
    pub fn finish(mut self) -> Result<(), Failure> {
        let summary = self.close().map_err(|error| {
            let text = format!(
                "the output cannot be written: {error}\n  remedy: look at the disk or the program \
                 that it goes to"
            );
            Failure::new(Exit::Failed, text)
        })?;
        if let Some(summary) = summary {
            // Nobody is there to be told where even this cannot be written.
            let _ = writeln!(io::stderr(), "{summary}");
        }
        Ok(())
    }

    /// `None`: the reader went away.
    fn close(&mut self) -> io::Result<Option<Summary>> {
        self.merge.drain(&mut self.ready);
        self.show_ready();
        self.write_if(true);
        match self.failure.take() {
            Some(error) if error.kind() == ErrorKind::BrokenPipe => Ok(None),
            Some(error) => Err(error),
            None => Ok(Some(self.summary)),
        }
    }

    fn show_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        for call in ready.drain(..) {
            if self.flow == Flow::Stop {
                continue;
            }
            self.show(&call);
        }
        self.ready = ready;
        self.write_if(self.buffer.len() >= BUFFER);
    }

    fn show(&mut self, call: &ObservedCall) {
        let line = Line::of(call, self.options.wall_offset_ns);
        // The other end of a call that was counted already.
        let counts = u64::from(!line.late_half);
        if !self.options.filter.shows(&line) {
            self.summary.filtered += counts;
            return;
        }
        match &mut self.options.form {
            Form::Json => json::write(&line, &mut self.buffer),
            Form::Table(table) => {
                let mut text = String::new();
                table.call(&line, &mut text);
                self.buffer.extend_from_slice(text.as_bytes());
            }
        }
        self.summary.shown += counts;
        if self.options.count == Some(self.summary.shown) {
            self.write_if(true);
            self.flow = Flow::Stop;
        }
    }

    fn write_if(&mut self, now: bool) {
        if !now || self.buffer.is_empty() || self.failure.is_some() {
            return;
        }
        let written = self.writer.write_all(&self.buffer).and_then(|()| self.writer.flush());
        self.buffer.clear();
        if let Err(error) = written {
            self.failure = Some(error);
            self.flow = Flow::Stop;
        }
    }
}

impl Limits {
    fn options(&self, filter: Filter) -> Options {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let colour = match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never
            }
        };
        let size = terminal_size::terminal_size_of(&stdout);
        let width = size.map_or(render::WIDTH, |(width, _)| usize::from(width.0));
        // The header comes again before it has left the screen.
        let rows = size.map_or(40, |(_, height)| usize::from(height.0).saturating_sub(2));
        let table = || Table::new(colour, width, terminal.then_some(rows));
        Options {
            filter,
            form: if self.json { Form::Json } else { Form::Table(table()) },
            duration: self.duration,
            count: self.count,
            wall_offset_ns: wall_offset_ns(),
        }
    }
}

/// What has to be added to `CLOCK_MONOTONIC` to get nanoseconds since 1970.
fn wall_offset_ns() -> u64 {
    let nanos = |clock| {
        let time = clock_gettime(clock);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    let offset = nanos(ClockId::Realtime) - nanos(ClockId::Monotonic);
    u64::try_from(offset).unwrap_or_default()
}

/// Runs `meshtap observe`.
///
/// # Errors
/// Of the configuration, or of the session.
pub fn observe(arguments: Arguments, session: &impl Session) -> Result<(), Failure> {
    let (mut config, read) = arguments.layers.load()?;
    if !read.iter().any(|read| read.gives("log.level")) {
        // Lines of information between the calls are in the way of a person.
        config.log.level = Level::Warn;
    }
    run::log_to_standard_error(&config);
    let output: Output = Box::new(io::stdout());
    let observer = Observer::new(arguments.limits.options(arguments.filter), output);
    session.prepare(&config)?;
    run::until_stopped(STOP_WITHIN, |stop| session.observe(config, observer, stop))
}

#[cfg(test)]
mod tests;
