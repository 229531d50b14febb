//! Finds a kernel file system by its type, or opens an instance that nobody else sees.
//!
//! Refuses to change the mount table: what is opened here has no path, and the
//! kernel takes it away with the last descriptor.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// One line of `/proc/<pid>/mountinfo`, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The directory of the file system that is mounted; `/` unless it is a bind mount.
    pub root: PathBuf,
    /// Where it is mounted, seen from this process.
    pub point: PathBuf,
    /// The type of the file system, as `cgroup2`.
    pub kind: String,
}

/// The mounts that this process sees.
///
/// # Errors
/// Where `/proc` is not mounted or not readable.
pub fn mounts() -> io::Result<Vec<Mount>> {
    // The thread's own view: a thread may have a mount namespace of its own.
    Ok(parse(&fs::read("/proc/thread-self/mountinfo")?))
}

/// Reads `mountinfo`; a line that is none is passed over, the rest still counts.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|&byte| byte == b'\n').filter_map(line).collect()
}

/// `36 35 98:0 /root /point options [optional...] - kind source options`
fn line(bytes: &[u8]) -> Option<Mount> {
    let mut words = bytes.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let root = words.nth(3)?;
    let point = words.next()?;
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    Some(Mount {
        root: unescape(root),
        point: unescape(point),
        kind: String::from_utf8(kind.to_vec()).ok()?,
    })
}

/// The kernel writes space, tab, newline, `#` and backslash as three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            _ => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

fn octal(digits: &[u8]) -> Option<u8> {
    // Digits alone: a sign would be read as part of a number.
    let digits = digits.get(..3)?.iter().map(|digit| digit.checked_sub(b'0').filter(|d| *d < 8));
    digits.into_iter().try_fold(0u8, |value, digit| value.checked_mul(8)?.checked_add(digit?))
}

/// Opens a directory to read it and to hand it to the kernel (an `O_PATH`
/// descriptor is refused by `bpf(2)` on older kernels).
///
/// # Errors
/// What `open(2)` says.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, directory_flags(), Mode::empty())?)
}

/// Mounts a file system of this type where no path leads, and opens its root.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `ENODEV` where the kernel has no such file
/// system, `ENOSYS` before 5.2.
pub fn detached(kind: &str) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // The mount itself is dissolved when `mount` closes; the open directory keeps
    // the file system alive for as long as it is held.
    Ok(rustix::fs::openat(&mount, ".", directory_flags(), Mode::empty())?)
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_optional_fields_and_escapes() {
        let text =
            b"36 35 98:0 /a\\040b /mnt/c\\134d rw,noatime shared:1 master:2 - cgroup2 none rw\n\
            37 35 98:1 / /plain rw - tmpfs tmpfs rw\n";
        assert_eq!(
            parse(text),
            [
                Mount { root: "/a b".into(), point: "/mnt/c\\d".into(), kind: "cgroup2".into() },
                Mount { root: "/".into(), point: "/plain".into(), kind: "tmpfs".into() },
            ]
        );
    }

    #[test]
    fn passes_over_what_is_no_mount() {
        let text = b"\nnonsense\n1 2 3:4 / /cut rw -\n5 6 7:8 / /whole rw - proc proc rw";
        let points: Vec<_> = parse(text).into_iter().map(|mount| mount.point).collect();
        assert_eq!(points, [PathBuf::from("/whole")]);
    }

    #[test]
    fn leaves_a_backslash_that_escapes_nothing() {
        assert_eq!(unescape(b"/a\\9z\\"), PathBuf::from("/a\\9z\\"));
        assert_eq!(unescape(b"/a\\777"), PathBuf::from("/a\\777"));
    }

    #[test]
    fn a_sign_is_no_digit_of_an_escape() {
        assert_eq!(unescape(b"/a\\+12"), PathBuf::from("/a\\+12"));
    }

    #[test]
    fn a_detached_mount_leaves_no_trace() {
        if !rustix::process::geteuid().is_root() {
            crate::requirement::skipped("mounting takes root");
            return;
        }
        let directory = detached("tmpfs").expect("tmpfs mounts");
        rustix::fs::mkdirat(&directory, "inside", Mode::RWXU).expect("it can be used");
        let seen = rustix::fs::readlink(
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&directory)),
            Vec::new(),
        );
        assert_eq!(seen.expect("a link").to_bytes(), b"/");
        assert!(detached("no-such-file-system").is_err());
    }
}
