//! The archive: an OCI image layout that also has docker's list, so that everything that
//! loads images takes it.

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// No registry: what has this name was loaded by hand.
pub const REPOSITORY: &str = "localhost/meshtap";
/// Where the program is.
pub const PROGRAM: &str = "usr/bin/meshtap";
/// What it is started with, unless the container says otherwise.
pub const ARGUMENTS: [&str; 1] = ["run"];
/// So that `meshtap doctor` is found inside.
pub const PATH: &str = "PATH=/usr/bin";
/// Of everything in it.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Name and tag.
pub fn name() -> String {
    format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"))
}

/// What the archive is made from.
pub struct Image<'p> {
    /// The agent.
    pub program: &'p [u8],
    /// As images call it: `amd64`.
    pub architecture: &'p str,
}

impl Image<'_> {
    /// The bytes of the archive.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.layer()?;
        let config = serde_json::to_vec(&self.config(&layer))?;
        let manifest = serde_json::to_vec(&manifest(&config, &layer))?;
        let docker = json!([{
            "Config": blob(&config),
            "RepoTags": [name()],
            "Layers": [blob(&layer)],
        }]);
        let mut tar = Builder::new(Vec::new());
        for folder in ["blobs/", "blobs/sha256/"] {
            append(&mut tar, folder, None)?;
        }
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), serde_json::to_vec(&self.index(&manifest))?),
            ("manifest.json".to_owned(), serde_json::to_vec(&docker)?),
        ];
        files.extend([manifest, config, layer].map(|bytes| (blob(&bytes), bytes)));
        for (path, bytes) in &files {
            append(&mut tar, path, Some((0o644, bytes)))?;
        }
        Ok(tar.into_inner()?)
    }

    /// The root of the container's file system.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Builder::new(Vec::new());
        for folder in ["usr/", "usr/bin/"] {
            append(&mut tar, folder, None)?;
        }
        append(&mut tar, PROGRAM, Some((0o755, self.program)))?;
        Ok(tar.into_inner()?)
    }

    fn config(&self, layer: &[u8]) -> Value {
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": CREATED,
            "config": {
                "Entrypoint": [format!("/{PROGRAM}")],
                "Cmd": ARGUMENTS,
                "Env": [PATH],
                "Labels": {
                    "org.opencontainers.image.title": "meshtap",
                    "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                    "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                    "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
                },
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created": CREATED, "created_by": "cargo xtask image"}],
        })
    }

    fn index(&self, manifest: &[u8]) -> Value {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
        entry["platform"] = json!({"architecture": self.architecture, "os": "linux"});
        entry["annotations"] = json!({
            // containerd goes by the first, podman by the second.
            "io.containerd.image.name": name(),
            "org.opencontainers.image.ref.name": name(),
        });
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry],
        })
    }
}

fn manifest(config: &[u8], layer: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hash(bytes))
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", hash(bytes))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder, or a file with its mode; owner and time are nobody's.
fn append(tar: &mut Builder<Vec<u8>>, path: &str, file: Option<(u32, &[u8])>) -> Result<()> {
    let mut header = Header::new_ustar();
    let (kind, mode, bytes) = match file {
        Some((mode, bytes)) => (EntryType::Regular, mode, bytes),
        None => (EntryType::Directory, 0o755, &[][..]),
    };
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(bytes.len())?);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;
    use crate::workspace::root;

    const IMAGE: Image<'_> = Image { program: b"program", architecture: "amd64" };

    fn unpacked(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0), "{path}");
            let mode = header.mode().unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(files.insert(path.clone(), (mode, bytes)).is_none(), "{path} is there twice");
        }
        files
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    /// What a descriptor means, after its digest and size were compared.
    fn resolve<'f>(files: &'f BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> &'f [u8] {
        let named = descriptor["digest"].as_str().unwrap();
        let (_, bytes) = &files[&format!("blobs/{}", named.replace(':', "/"))];
        assert_eq!(digest(bytes), named);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn the_layout_leads_from_the_index_to_the_program() {
        let files = unpacked(&IMAGE.archive().unwrap());
        assert_eq!(json(&files["oci-layout"].1)["imageLayoutVersion"], "1.0.0");
        let index = json(&files["index.json"].1);
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], name());
        let manifest = json(resolve(&files, entry));
        let config = json(resolve(&files, &manifest["config"]));
        let layer = resolve(&files, &manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest(layer)]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/meshtap"]));
        assert_eq!(config["architecture"], "amd64");
        let inside = unpacked(layer);
        let names: Vec<_> = inside.keys().map(|name| name.trim_end_matches('/')).collect();
        assert_eq!(names, ["usr", "usr/bin", "usr/bin/meshtap"], "the agent and nothing else");
        assert_eq!(inside[PROGRAM], (0o755, b"program".to_vec()));
    }

    #[test]
    fn the_list_of_docker_names_the_same_blobs() {
        let files = unpacked(&IMAGE.archive().unwrap());
        let list = json(&files["manifest.json"].1);
        assert_eq!(list[0]["RepoTags"], json!([name()]));
        let manifest = json(resolve(&files, &json(&files["index.json"].1)["manifests"][0]));
        let blob = |descriptor: &Value| {
            format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))
        };
        assert_eq!(list[0]["Config"], blob(&manifest["config"]));
        assert_eq!(list[0]["Layers"], json!([blob(&manifest["layers"][0])]));
    }

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        assert_eq!(IMAGE.archive().unwrap(), IMAGE.archive().unwrap());
        let other = Image { program: b"Program", ..IMAGE };
        assert_ne!(IMAGE.archive().unwrap(), other.archive().unwrap());
    }

    /// Two recipes, one image.
    #[test]
    fn the_containerfile_says_the_same() {
        let recipe = std::fs::read_to_string(root().join("deploy/Containerfile")).unwrap();
        let steps: Vec<_> =
            recipe.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        let copy = format!("COPY meshtap /{PROGRAM}");
        let entry = format!("ENTRYPOINT [\"/{PROGRAM}\"]");
        let environment = format!("ENV {PATH}");
        let arguments = format!("CMD [\"{}\"]", ARGUMENTS.join("\", \""));
        assert_eq!(steps, ["FROM scratch", &copy, &environment, &entry, &arguments]);
    }

    /// What kubelet is told to start is what was loaded.
    #[test]
    fn the_chart_names_this_image() {
        let values = root().join("deploy/helm/meshtap/values.schema.json");
        let schema = json(&std::fs::read(values).unwrap());
        let image = &schema["properties"]["image"]["properties"];
        assert_eq!(image["repository"]["default"], REPOSITORY);
        assert_eq!(image["tag"]["default"], "");
    }
}
