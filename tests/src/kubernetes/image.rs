//! [`Image`]: a container image made here, without a registry and without a builder.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::process::run;
use crate::requirement::program;

/// What busybox is called by in an image.
const APPLETS: [&str; 25] = [
    "cat", "date", "echo", "env", "grep", "hostname", "httpd", "id", "ifconfig", "ip", "kill",
    "ls", "mkdir", "nc", "nslookup", "ps", "sed", "seq", "sh", "sleep", "tail", "timeout", "true",
    "wget", "xargs",
];

/// One layer of files, and what is started.
pub struct Image {
    name: String,
    entry: Vec<String>,
    layer: Builder<Vec<u8>>,
    /// Paths that are in the layer.
    there: BTreeSet<String>,
}

impl Image {
    /// An image with empty folders, and with what is started in it (`["/bin/meshtap", "run"]`).
    /// `name` has a tag, and not `latest`, which kubelet would want to pull: `lab.local/web:1`.
    pub fn new(name: &str, entry: &[&str]) -> Result<Self> {
        let entry = entry.iter().map(ToString::to_string).collect();
        let layer = Builder::new(Vec::new());
        let mut image = Self { name: name.to_owned(), entry, layer, there: BTreeSet::new() };
        for folder in ["bin", "dev", "etc", "proc", "sys"] {
            image.folder(folder, 0o755)?;
        }
        image.folder("tmp", 0o1777)?;
        Ok(image)
    }

    /// Holds a pod's namespaces and does nothing else.
    pub fn pause(name: &str) -> Result<Self> {
        Self::new(name, &["/bin/sleep", "1000000"])?.busybox()
    }

    /// `lab.local/web:1`: busybox's httpd on port 8080, with a page that says `ok`; it ends
    /// when it is told to.
    pub fn web() -> Result<Self> {
        // The first process of a namespace ignores a signal that it does not handle itself.
        let script = "#!/bin/sh\ntrap 'exit 0' TERM\nmkdir -p /tmp/www\n\
                      echo ok > /tmp/www/index.html\n\
                      httpd -f -p \"${PORT:-8080}\" -h /tmp/www &\nwait\n";
        Self::new("lab.local/web:1", &["/bin/serve"])?.busybox()?.text("bin/serve", script)
    }

    /// With busybox and all its applets that the laboratory uses.
    pub fn busybox(self) -> Result<Self> {
        let path = program("busybox").context("busybox is not installed")?;
        let mut image = self.file("bin/busybox", &path)?;
        for applet in APPLETS {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            image.layer.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
        }
        Ok(image)
    }

    /// With a file of this machine, which may be executed there.
    pub fn file(self, at: &str, path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        self.bytes(at, &bytes)
    }

    /// With a file of this text, which may be executed.
    pub fn text(self, at: &str, text: &str) -> Result<Self> {
        self.bytes(at, text.as_bytes())
    }

    /// With a program of this machine at the path that it has here, and the libraries that it
    /// is linked to.
    pub fn program(self, name: &str) -> Result<Self> {
        let path = program(name).with_context(|| format!("{name} is not installed"))?;
        let at = path.display().to_string();
        self.executable(at.trim_start_matches('/'), &path)
    }

    /// With an executable file of this machine at a path of its own, and the libraries that
    /// it is linked to.
    pub fn executable(self, at: &str, path: &Path) -> Result<Self> {
        let mut image = self;
        // One that is linked statically has none, and `ldd` calls that a failure.
        let libraries = run(&format!("ldd {}", path.display())).unwrap_or_default();
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            image = image.file(library.trim_start_matches('/'), Path::new(library))?;
        }
        image.file(at, path)
    }

    fn bytes(mut self, at: &str, bytes: &[u8]) -> Result<Self> {
        ensure!(!at.starts_with('/'), "{at} is not from the image's root");
        for (slash, _) in at.match_indices('/') {
            self.folder(at.get(..slash).unwrap_or_default(), 0o755)?;
        }
        if self.there.insert(at.to_owned()) {
            append(&mut self.layer, at, bytes)?;
        }
        Ok(self)
    }

    fn folder(&mut self, at: &str, mode: u32) -> Result<()> {
        if self.there.insert(at.to_owned()) {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_mode(mode);
            header.set_size(0);
            self.layer.append_data(&mut header, at, std::io::empty())?;
        }
        Ok(())
    }

    /// Writes it as `docker save` would.
    pub fn write(&self, to: impl Write) -> Result<()> {
        // What ends an archive is two empty blocks.
        let layer = [self.layer.get_ref().as_slice(), &[0; 1024]].concat();
        let digest = digest(&layer);
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": self.entry, "Env": ["PATH=/bin:/usr/bin:/usr/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created_by": "meshtap's laboratory"}],
        })
        .to_string();
        let config_name = format!("{}.json", self::digest(config.as_bytes()));
        let layer_name = format!("{digest}/layer.tar");
        let manifest =
            json!([{"Config": config_name, "RepoTags": [self.name], "Layers": [layer_name]}]);
        let mut archive = Builder::new(to);
        append(&mut archive, &layer_name, &layer)?;
        append(&mut archive, &config_name, config.as_bytes())?;
        append(&mut archive, "manifest.json", manifest.to_string().as_bytes())?;
        Ok(archive.finish()?)
    }
}

fn append(archive: &mut Builder<impl Write>, at: &str, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(bytes.len() as u64);
    Ok(archive.append_data(&mut header, at, bytes)?)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As Go calls it, and so container images do.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::Image;

    /// Contents of an archive's files by path.
    fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        let mut found = BTreeMap::new();
        for entry in archive.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("reads");
            found.insert(path, bytes);
        }
        found
    }

    #[test]
    fn the_manifest_leads_to_the_layer() {
        let image = Image::new("lab.local/x:1", &["/opt/x"]).expect("is made");
        let image = image.text("opt/x", "hello").expect("is added");
        let mut bytes = Vec::new();
        image.write(&mut bytes).expect("writes");
        let outer = files(&bytes);
        let manifest: serde_json::Value =
            serde_json::from_slice(&outer["manifest.json"]).expect("JSON");
        assert_eq!(manifest[0]["RepoTags"][0], "lab.local/x:1");
        assert!(outer.contains_key(manifest[0]["Config"].as_str().expect("a name")));
        let layer = files(&outer[manifest[0]["Layers"][0].as_str().expect("a name")]);
        assert_eq!(layer["opt/x"], b"hello");
        assert!(layer.contains_key("tmp") && layer.contains_key("opt"));
    }
}
