//! Calls for people: one row each, in columns.
//!
//! **No byte that came over the wire reaches the terminal unless it can be seen**:
//! everything that controls a terminal or hides in a text is written as its code.

use std::borrow::Cow;
use std::fmt::Write;

use anstyle::{AnsiColor, Color, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::line::{End, Line, LostLine, Status};

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const MOVED: Style = AnsiColor::Cyan.on_default();
const REFUSED: Style = AnsiColor::Yellow.on_default();
const BROKEN: Style = AnsiColor::Red.on_default().bold();
const LOST: Style = Style::new()
    .fg_color(Some(Color::Ansi(AnsiColor::Black)))
    .bg_color(Some(Color::Ansi(AnsiColor::Yellow)))
    .bold();
const PLAIN: Style = Style::new();

/// Width where there is no terminal that has one.
pub const WIDTH: usize = 160;
/// Columns whose width does not depend on the terminal's, with the spaces between all.
const FIXED: usize = 12 + 8 + 7 + 6 + 8 + 8 + 7 + 7 + 7 + 4 + 12;

/// Whether a character controls a terminal, turns text around, or cannot be seen.
#[must_use]
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// The text with the code of every hostile character in its place.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_hostile(character) {
            cleaned.extend(character.escape_unicode());
        } else {
            cleaned.push(character);
        }
    }
    Cow::Owned(cleaned)
}

/// A table whose rows are written as they come.
#[derive(Clone, Debug)]
pub struct Table {
    colour: bool,
    name: usize,
    path: usize,
    repeat: Option<usize>,
    rows: usize,
}

impl Table {
    /// For a terminal of `width` columns; the header comes again after `repeat` rows.
    #[must_use]
    pub fn new(colour: bool, width: usize, repeat: Option<usize>) -> Self {
        let free = width.saturating_sub(FIXED);
        let name = (free / 4).clamp(12, 28);
        let path = free.saturating_sub(2 * name).clamp(16, 96);
        Self { colour, name, path, repeat: repeat.map(|rows| rows.max(1)), rows: 0 }
    }

    /// Appends the row of a call.
    pub fn call(&mut self, line: &Line<'_>, out: &mut String) {
        self.header(out);
        // The name of a procedure is too long for the methods of HTTP.
        let (method, path) = match (line.method, line.path.or(line.route)) {
            (method, _) if line.is_rpc => ("", method),
            (method, path) => (method.unwrap_or("-"), path),
        };
        let cells = [
            (clock(line), 12, DIM, Align::Left),
            (end(&line.client), self.name, BOLD, Align::Left),
            (end(&line.server), self.name, BOLD, Align::Left),
            (line.protocol.to_owned(), 8, DIM, Align::Left),
            (clean(method).into_owned(), 7, PLAIN, Align::Left),
            (clean(path.unwrap_or("-")).into_owned(), self.path, PLAIN, Align::Left),
            (or_dash(status(line)), 6, style(line), Align::Right),
            (or_dash(line.client_duration_us.map(duration)), 8, PLAIN, Align::Right),
            (or_dash(line.server_duration_us.map(duration)), 8, PLAIN, Align::Right),
            (bytes(line.request_bytes), 7, PLAIN, Align::Right),
            (bytes(line.response_bytes), 7, PLAIN, Align::Right),
            (or_dash(line.rtt_us.map(|rtt| duration(rtt.into()))), 7, DIM, Align::Right),
            (line.retransmits.to_string(), 4, retransmits(line), Align::Right),
        ];
        let mut row = String::new();
        for (index, (text, width, style, align)) in cells.into_iter().enumerate() {
            if index > 0 {
                row.push(' ');
            }
            self.paint(&fit(&text, width, align), style, &mut row);
        }
        let between = line.way.between_us.map(|us| format!("{} in between", duration(us)));
        for more in messages(line).into_iter().chain(between) {
            row.push_str("  ");
            self.paint(&more, DIM, &mut row);
        }
        if let Some(note) = note(line) {
            row.push_str("  ");
            self.paint(&note, BROKEN, &mut row);
        }
        out.push_str(row.trim_end());
        out.push('\n');
    }

    /// Appends the row of a loss.
    pub fn lost(&mut self, lost: &LostLine<'_>, out: &mut String) {
        self.header(out);
        let who = |side: &Option<End<'_>>| side.as_ref().map_or_else(|| "?".to_owned(), end);
        let calls = if lost.lost == 1 { "call" } else { "calls" };
        let text = format!(
            "{} {} {calls} lost: {} ({} -> {})",
            &lost.time.rfc3339()[11..23],
            lost.lost,
            clean(lost.reason),
            who(&lost.client),
            who(&lost.server)
        );
        self.paint(&text, LOST, out);
        out.push('\n');
    }

    fn header(&mut self, out: &mut String) {
        let due = match self.repeat {
            Some(repeat) => self.rows.is_multiple_of(repeat),
            None => self.rows == 0,
        };
        self.rows += 1;
        if !due {
            return;
        }
        let titles = [
            ("TIME (UTC)", 12, Align::Left),
            ("CLIENT", self.name, Align::Left),
            ("SERVER", self.name, Align::Left),
            ("PROTOCOL", 8, Align::Left),
            ("METHOD", 7, Align::Left),
            ("PATH", self.path, Align::Left),
            ("STATUS", 6, Align::Right),
            ("AT-CLNT", 8, Align::Right),
            ("AT-SRV", 8, Align::Right),
            ("SENT", 7, Align::Right),
            ("RECVD", 7, Align::Right),
            ("RTT", 7, Align::Right),
            ("RETR", 4, Align::Right),
        ];
        let cells = titles.map(|(title, width, align)| fit(title, width, align));
        self.paint(&cells.join(" "), BOLD, out);
        out.push('\n');
    }

    fn paint(&self, text: &str, style: Style, out: &mut String) {
        if self.colour && style != PLAIN {
            // Writing to a string cannot fail.
            let _ = write!(out, "{style}{text}{style:#}");
        } else {
            out.push_str(text);
        }
    }
}

#[derive(Clone, Copy)]
enum Align {
    Left,
    Right,
}

/// The text in exactly `width` columns; what is too long loses its end.
fn fit(text: &str, width: usize, align: Align) -> String {
    let mut columns = text.width();
    let mut text = Cow::Borrowed(text);
    if columns > width {
        let mut short = String::new();
        columns = 1;
        for character in text.chars() {
            let next = character.width().unwrap_or(0);
            if columns + next > width {
                break;
            }
            columns += next;
            short.push(character);
        }
        short.push('…');
        text = Cow::Owned(short);
    }
    let space = " ".repeat(width.saturating_sub(columns));
    match align {
        Align::Left => format!("{text}{space}"),
        Align::Right => format!("{space}{text}"),
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// Hours to milliseconds.
fn clock(line: &Line<'_>) -> String {
    line.time.rfc3339()[11..23].to_owned()
}

fn end(end: &End<'_>) -> String {
    match (end.namespace, end.kind, end.address) {
        (Some(namespace), ..) => format!("{}/{}", clean(namespace), clean(end.name)),
        (None, "unknown", Some(address)) => format!("unknown ({address})"),
        _ => clean(end.name).into_owned(),
    }
}

/// As wide as the column: of gRPC `OK`, else its name stands behind the row.
fn status(line: &Line<'_>) -> Option<String> {
    match line.status.as_ref()? {
        Status::Rpc(name) if name == "OK" => Some("OK".to_owned()),
        Status::Rpc(_) => Some("not OK".to_owned()),
        Status::Http(status) => Some(status.to_string()),
    }
}

fn style(line: &Line<'_>) -> Style {
    match &line.status {
        _ if line.failed => BROKEN,
        Some(Status::Rpc(name)) if name == "OK" => GOOD,
        Some(Status::Rpc(_)) => REFUSED,
        Some(Status::Http(..300)) => GOOD,
        Some(Status::Http(300..400)) => MOVED,
        Some(Status::Http(_)) => REFUSED,
        None => PLAIN,
    }
}

/// How many messages were sent and received, where there was not one each way.
fn messages(line: &Line<'_>) -> Option<String> {
    let (sent, received) = (line.request_messages, line.response_messages);
    if (sent, received) == (Some(1), Some(1)) || (sent, received) == (None, None) {
        return None;
    }
    let count =
        |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    Some(format!("{} sent, {} received", count(sent), count(received)))
}

fn retransmits(line: &Line<'_>) -> Style {
    if line.retransmits == 0 { DIM } else { REFUSED }
}

/// What does not fit into a column: gRPC's statuses, causes, and whose.
fn note(line: &Line<'_>) -> Option<String> {
    let both = line.client_duration_us.is_some() && line.server_duration_us.is_some();
    let cause = match (line.client_error, line.server_error) {
        (Some(client), Some(server)) if client == server => Some(client.to_owned()),
        (Some(client), Some(server)) => Some(format!("client: {client}, server: {server}")),
        (Some(client), None) if both => Some(format!("client: {client}")),
        (None, Some(server)) if both => Some(format!("server: {server}")),
        (client, server) => client.or(server).map(str::to_owned),
    };
    let by_name = match &line.status {
        Some(Status::Rpc(name)) if name != "OK" => Some(name.to_string()),
        Some(_) => None,
        None => line.http_status.filter(|_| line.is_rpc).map(|status| format!("HTTP {status}")),
    };
    let notes = [
        by_name,
        cause,
        line.late_half.then(|| "other end of a call shown before".to_owned()),
        line.cut.then(|| "head cut".to_owned()),
    ];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// Three digits and a unit: `950us`, `1.23ms`, `12.3s`.
fn duration(us: u64) -> String {
    match us {
        ..1_000 => format!("{us}us"),
        1_000..1_000_000 => digits(us as f64 / 1e3, "ms"),
        _ => digits(us as f64 / 1e6, "s"),
    }
}

/// Three digits and a unit: `950`, `1.23K`, `12.3M`.
fn bytes(bytes: u64) -> String {
    match bytes {
        ..1_000 => bytes.to_string(),
        1_000..1_000_000 => digits(bytes as f64 / 1e3, "K"),
        1_000_000..1_000_000_000 => digits(bytes as f64 / 1e6, "M"),
        _ => digits(bytes as f64 / 1e9, "G"),
    }
}

fn digits(number: f64, unit: &str) -> String {
    let decimals = match number {
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}{unit}")
}

#[cfg(test)]
mod tests;
