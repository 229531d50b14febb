//! Where the fields of a tracepoint's record are, as this kernel's own `format`
//! files say.
//!
//! **No offset is ever compiled in:** events change their fields between releases,
//! not only their places. A field that is not there, or has another size, is absent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::kernel::mount;

/// The file system type of the tracepoints' directory.
const TRACEFS: &str = "tracefs";
/// Where it appears when only debugfs is mounted.
const UNDER_DEBUGFS: &str = "/sys/kernel/debug/tracing";
/// No format file is near this long; a longer one is no format file.
const LONGEST_FORMAT: u64 = 256 << 10;

/// The directory of this kernel's tracepoints.
#[derive(Debug)]
pub struct Tracefs {
    directory: OwnedFd,
    path: Option<PathBuf>,
}

/// One event: its number, to attach to, and the fields of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The event's name, as `tcp_destroy_sock`.
    pub name: String,
    /// The number that `perf_event_open(2)` takes.
    pub id: u32,
    /// In the order of the record.
    pub fields: Vec<Field>,
    /// How the kernel prints a record: it names the numbers that some fields hold.
    pub print: String,
}

/// One field of an event's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, as `sock_cookie`.
    pub name: String,
    /// Bytes from the start of the record.
    pub offset: u32,
    /// Bytes that it takes; 4 where `location` says that the bytes are elsewhere.
    pub size: u32,
    /// Whether the kernel declares it as a signed number.
    pub signed: bool,
    /// Where the bytes of the field are.
    pub location: Location,
}

/// Where the bytes of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// At the field's offset.
    Inline,
    /// `__data_loc`: the field holds length << 16 | offset from the record's start.
    FromRecord,
    /// `__rel_loc` (5.17): the same, with the offset counted from the field's end.
    FromField,
}

/// Why an event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The directory of the tracepoints is out of reach.
    #[error(
        "tracefs is not mounted and mounting it privately failed: {0}; run as root \
         (CAP_SYS_ADMIN), or mount it once: mount -t tracefs none /sys/kernel/tracing"
    )]
    NoTracefs(#[source] io::Error),
    /// This kernel has no such event, or hides it.
    #[error("tracepoint {event}: cannot read its format file: {source}{}", remedy(.source))]
    Unreadable {
        /// `category:name`.
        event: String,
        /// What reading said.
        source: io::Error,
    },
    /// The text is not what the kernel documents.
    #[error("tracepoint {event}: its format file is not understood ({line})")]
    Unknown {
        /// The event, as far as its name was read.
        event: String,
        /// The first line that has no meaning.
        line: String,
    },
    /// A field that something stands on is not there.
    #[error("tracepoint {event} has no field {field} of {size} bytes on this kernel")]
    NoField {
        /// The event's name.
        event: String,
        /// The field's name.
        field: String,
        /// The size that was asked for.
        size: u32,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root (CAP_DAC_READ_SEARCH)",
        io::ErrorKind::NotFound => "; this kernel does not have the event",
        _ => "",
    }
}

impl Tracefs {
    /// Opens it where it is mounted, or mounts it where nobody else sees it.
    ///
    /// # Errors
    /// [`FormatError::NoTracefs`].
    pub fn open() -> Result<Self, FormatError> {
        let mounts = mount::mounts().map_err(FormatError::NoTracefs)?;
        let known = mounts.iter().filter(|mount| mount.kind == TRACEFS).map(|mount| &*mount.point);
        let debugfs = mounts.iter().any(|mount| mount.kind == "debugfs");
        if let Some(found) = known.into_iter().find_map(Self::at) {
            return Ok(found);
        }
        match mount::detached(TRACEFS) {
            Ok(directory) => Ok(Self { directory, path: None }),
            Err(error) => debugfs
                .then(|| Self::at(Path::new(UNDER_DEBUGFS)))
                .flatten()
                .ok_or(FormatError::NoTracefs(error)),
        }
    }

    /// Where it is mounted; `None` where only this process has it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads the format of one event, as (`tcp`, `tcp_destroy_sock`).
    ///
    /// # Errors
    /// Every [`FormatError`] but [`FormatError::NoTracefs`].
    pub fn event(&self, category: &str, name: &str) -> Result<Format, FormatError> {
        let text = self.read(&format!("events/{category}/{name}/format")).map_err(|source| {
            FormatError::Unreadable { event: format!("{category}:{name}"), source }
        })?;
        Format::parse(&text)
    }

    /// A directory that holds events; the mount point alone proves nothing.
    fn at(path: &Path) -> Option<Self> {
        let directory = mount::open_directory(path).ok()?;
        rustix::fs::statat(&directory, "events", rustix::fs::AtFlags::empty()).ok()?;
        Some(Self { directory, path: Some(path.to_owned()) })
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, path, flags, Mode::empty())?;
        let mut text = String::new();
        File::from(file).take(LONGEST_FORMAT).read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Format {
    /// Reads the text of a format file.
    ///
    /// # Errors
    /// [`FormatError::Unknown`] with the first line that does not fit.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut format =
            Self { name: String::new(), id: 0, fields: Vec::new(), print: String::new() };
        let mut lines = text.lines().map(str::trim);
        for line in lines.by_ref() {
            if let Some(name) = line.strip_prefix("name:") {
                name.trim().clone_into(&mut format.name);
            } else if let Some(id) = line.strip_prefix("ID:") {
                format.id = id.trim().parse().map_err(|_| format.unknown(line))?;
            } else if line.starts_with("field:") {
                let field = Field::parse(line).ok_or_else(|| format.unknown(line))?;
                format.fields.push(field);
            } else if let Some(print) = line.strip_prefix("print fmt:") {
                print.trim().clone_into(&mut format.print);
                break;
            }
        }
        // The rest runs on, and says nothing about places.
        for line in lines {
            format.print.push(' ');
            format.print.push_str(line);
        }
        if format.name.is_empty() || format.id == 0 || format.fields.is_empty() {
            return Err(format.unknown("it ends too early"));
        }
        Ok(format)
    }

    /// The field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Where an inline field of exactly this size starts. Another size is another
    /// field: whoever reads it would read something else.
    #[must_use]
    pub fn offset(&self, name: &str, size: u32) -> Option<u32> {
        self.field(name)
            .filter(|field| field.size == size && field.location == Location::Inline)
            .map(|field| field.offset)
    }

    /// [`Self::offset`] for a field that something stands on.
    ///
    /// # Errors
    /// [`FormatError::NoField`].
    pub fn require(&self, name: &str, size: u32) -> Result<u32, FormatError> {
        self.offset(name, size).ok_or_else(|| FormatError::NoField {
            event: self.name.clone(),
            field: name.to_owned(),
            size,
        })
    }

    /// The names that this kernel gives to the numbers of a field, as (2, `NO_SOCKET`)
    /// for the reason of a drop: the numbers change between releases, the names stay.
    /// Empty where the field has none.
    #[must_use]
    pub fn symbols(&self, field: &str) -> Vec<(u64, String)> {
        let start = format!("__print_symbolic(REC->{field},");
        let Some((_, list)) = self.print.split_once(&start) else { return Vec::new() };
        let mut symbols = Vec::new();
        let mut rest = list.trim_start();
        while let Some((pair, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            // Some lists name constants that only the kernel's sources know.
            symbols.extend(pair.split_once(',').and_then(|(number, name)| {
                Some((number.trim().parse().ok()?, name.trim().trim_matches('"').to_owned()))
            }));
            rest = after.trim_start_matches([',', ' ']);
        }
        symbols
    }

    /// Bytes of the record before whatever has a variable length.
    #[must_use]
    pub fn fixed_size(&self) -> u32 {
        self.fields.iter().map(|field| field.offset.saturating_add(field.size)).max().unwrap_or(0)
    }

    fn unknown(&self, line: &str) -> FormatError {
        FormatError::Unknown { event: self.name.clone(), line: line.to_owned() }
    }
}

impl Field {
    /// `field:unsigned short common_type; offset:0; size:2; signed:0;`
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split(';').map(str::trim);
        let declaration = parts.next()?.strip_prefix("field:")?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for (key, value) in parts.filter_map(|part| part.split_once(':')) {
            match key {
                "offset" => offset = Some(value.parse().ok()?),
                "size" => size = Some(value.parse().ok()?),
                "signed" => signed = value.trim() == "1",
                _ => {}
            }
        }
        let location = match declaration.split_whitespace().next()? {
            "__data_loc" => Location::FromRecord,
            "__rel_loc" => Location::FromField,
            _ => Location::Inline,
        };
        let name = declared_name(declaration)?.to_owned();
        Some(Self { name, offset: offset?, size: size?, signed, location })
    }
}

/// The name in a C declaration: its last word, without an array's length.
fn declared_name(declaration: &str) -> Option<&str> {
    let before_length = match declaration.strip_suffix(']') {
        Some(open) => &open[..open.rfind('[')?],
        None => declaration,
    };
    let word = before_length.split_whitespace().last()?.trim_start_matches('*');
    let named = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    named.then_some(word)
}

#[cfg(test)]
mod tests;
