//! Which container a cgroup path belongs to, and what the runtimes' own files call it.
//!
//! Pure: paths and file contents come in as text; who reads the files is [`super::host`].
//! **The innermost container wins**: a runtime inside a container names its own.

use std::sync::Arc;

use serde_json::Value;

/// Hexadecimal digits of a full container id.
const FULL_ID: usize = 64;
/// Hexadecimal digits of a pod's uid; a static pod's is a hash without hyphens.
const UID: usize = 32;
/// Hexadecimal digits that people and runtimes use for short.
const SHORT_ID: usize = 12;
/// cgroup components that runtimes put directly above containers of freely chosen ids:
/// containerd's namespaces and LXC.
const PARENTS: [&str; 4] = ["k8s.io", "default", "lxc", "lxc.payload"];

/// A container as its cgroup path tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Container {
    /// The runtime's id; a machine's name for nspawn and LXC.
    pub id: Arc<str>,
    /// Whether [`Container::id`] is a name already.
    pub named: bool,
    /// Uid of its pod, where the kubelet put it into one.
    pub pod: Option<Arc<str>>,
}

impl Container {
    /// The name where the runtime's files are silent: twelve digits of a long id.
    #[must_use]
    pub fn short_id(&self) -> &str {
        if self.named || !is_full_id(&self.id) {
            return &self.id;
        }
        self.id.get(..SHORT_ID).unwrap_or(&self.id)
    }
}

/// What a runtime's files say about a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContainerName {
    /// Its name.
    pub name: Arc<str>,
    /// Kubernetes namespace of its pod; empty where there is none.
    pub namespace: Arc<str>,
    /// Its pod, if any.
    pub pod: Option<Arc<str>>,
}

/// The innermost container on a cgroup path (`/system.slice/docker-<id>.scope/init`).
#[must_use]
pub fn from_cgroup(path: &str) -> Option<Container> {
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (0..components.len()).rev().find_map(|index| {
        let above = components.get(..index)?;
        let own = components.get(index)?;
        let container = component(own, above.last().copied())?;
        // `slice:prefix:id` has the pod's slice in it.
        let slice = own.split_once(':').map(|(slice, _)| slice);
        let pod = slice.iter().chain(above.iter().rev()).find_map(|text| pod_uid(text));
        Some(Container { pod, ..container })
    })
}

fn component(text: &str, parent: Option<&str>) -> Option<Container> {
    if is_full_id(text) {
        return Some(id(text));
    }
    if let Some(machine) = machine(text, parent) {
        return Some(machine);
    }
    // systemd's notation used with the cgroupfs driver: `slice:prefix:id`.
    if let Some((_, last)) = text.rsplit_once(':')
        && is_full_id(last)
    {
        return Some(id(last));
    }
    let bare = text.strip_suffix(".scope").unwrap_or(text);
    if let Some((prefix, rest)) = bare.rsplit_once('-')
        && is_full_id(rest)
    {
        // The monitor beside a container is none itself.
        return (!prefix.ends_with("conmon")).then(|| id(rest));
    }
    let free = match parent {
        Some(parent) if PARENTS.contains(&parent) => true,
        Some(parent) => is_pod(parent),
        None => false,
    };
    let reserved = text.ends_with(".slice") || text.ends_with(".service");
    (free && !reserved && !is_pod(text) && !text.contains("conmon")).then(|| {
        let lxc = matches!(parent, Some("lxc" | "lxc.payload"));
        let bare = ["cri-containerd-", "crio-", "docker-", "libpod-", "nerdctl-"]
            .iter()
            .find_map(|prefix| bare.strip_prefix(prefix))
            .unwrap_or(bare);
        Container { id: bare.into(), named: lxc, pod: None }
    })
}

fn machine(text: &str, parent: Option<&str>) -> Option<Container> {
    let name = if let Some(rest) = text.strip_prefix("systemd-nspawn@") {
        rest.strip_suffix(".service")?
    } else if parent == Some("machine.slice") {
        text.strip_prefix("machine-")?.strip_suffix(".scope")?
    } else {
        text.strip_prefix("lxc.payload.")?
    };
    (!name.is_empty()).then(|| Container {
        id: super::unit::unescape(name).into(),
        named: true,
        pod: None,
    })
}

fn id(text: &str) -> Container {
    Container { id: text.into(), named: false, pod: None }
}

fn is_full_id(text: &str) -> bool {
    text.len() == FULL_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_pod(text: &str) -> bool {
    pod_uid(text).is_some()
}

/// `pod<uid>` of the cgroupfs driver, `kubepods-…-pod<uid>.slice` of systemd's, where the names of
/// all slices above come first: `kubelet-kubepods-…` of a kubelet with a root of its own.
fn pod_uid(text: &str) -> Option<Arc<str>> {
    let name = text.strip_suffix(".slice").unwrap_or(text);
    let uid = match name.rsplit_once("-pod") {
        Some((above, uid)) if above.split('-').any(|slice| slice == "kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let is_uid = uid.len() >= UID
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'));
    // A slice's name cannot hold the hyphens.
    is_uid.then(|| uid.replace('_', "-").into())
}

/// docker's `containers/<id>/config.v2.json`.
#[must_use]
pub fn docker_name(text: &str) -> Option<ContainerName> {
    let root: Value = serde_json::from_str(text).ok()?;
    let labels = root.pointer("/Config/Labels");
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    // The kubelet over docker: its labels say more than the long generated name.
    if let Some(name) = label("io.kubernetes.container.name") {
        return Some(ContainerName {
            name: name.into(),
            namespace: label("io.kubernetes.pod.namespace").unwrap_or_default().into(),
            pod: label("io.kubernetes.pod.name").map(Into::into),
        });
    }
    let name = root.get("Name")?.as_str()?.trim_start_matches('/');
    plain(name)
}

/// podman's `overlay-containers/containers.json`, or the list beside it: the first name of the container `id`.
#[must_use]
pub fn podman_name(text: &str, id: &str) -> Option<ContainerName> {
    let root: Value = serde_json::from_str(text).ok()?;
    let entry = root
        .as_array()?
        .iter()
        .find(|entry| entry.get("id").and_then(Value::as_str) == Some(id))?;
    plain(entry.get("names")?.as_array()?.first()?.as_str()?)
}

/// The annotations of an OCI bundle's `config.json`, as containerd, nerdctl and CRI-O write them.
#[must_use]
pub fn bundle_name(text: &str) -> Option<ContainerName> {
    let root: Value = serde_json::from_str(text).ok()?;
    let annotations = root.get("annotations")?;
    let note =
        |keys: &[&str]| keys.iter().find_map(|key| annotations.get(*key).and_then(Value::as_str));
    let name = note(&[
        "io.kubernetes.cri.container-name",
        "io.kubernetes.container.name",
        "nerdctl/name",
        "io.podman.annotations.name",
    ])?;
    let mut named = plain(name)?;
    named.namespace = note(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"])
        .unwrap_or_default()
        .into();
    named.pod = note(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]).map(Into::into);
    Some(named)
}

fn plain(name: &str) -> Option<ContainerName> {
    (!name.is_empty()).then(|| ContainerName { name: name.into(), ..ContainerName::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const OUTER: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    const POD: &str = "pod0c3a5a26-9a5c-4f7a-8ac1-0d9f0a6b1c2d";

    #[test]
    fn layouts_of_every_runtime_yield_the_id() {
        let full = [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/k8s.io/{ID}"),
            format!("/default/{ID}"),
            format!("/system.slice/nerdctl-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/kubepods/besteffort/{POD}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0c3a5a26_9a5c_4f7a_8ac1_0d9f0a6b1c2d.slice/cri-containerd-{ID}.scope"
            ),
            format!(
                "/kubepods.slice/kubepods-pod0c3a5a26_9a5c_4f7a_8ac1_0d9f0a6b1c2d.slice/crio-{ID}.scope"
            ),
            format!("/kubelet/kubepods/{POD}/{ID}"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable.slice:cri-containerd:{ID}"
            ),
            format!("/docker/{OUTER}/docker/{ID}"),
            format!("/docker/{ID}/system.slice/nginx.service"),
        ];
        for path in full {
            let found = from_cgroup(&path).unwrap_or_else(|| panic!("{path} yields no container"));
            assert_eq!((&*found.id, found.named), (ID, false), "{path}");
            assert_eq!(found.short_id(), &ID[..12], "{path}");
        }
        let free = [
            ("/k8s.io/t1", "t1", false),
            ("/default/web", "web", false),
            (&*format!("/kubepods/{POD}/web-0"), "web-0", false),
            ("/machine.slice/machine-build\\x2dbox.scope", "build-box", true),
            ("/machine.slice/machine-box.scope/payload", "box", true),
            ("/machine.slice/systemd-nspawn@box.service/payload/system.slice", "box", true),
            ("/lxc.payload.web/init.scope", "web", true),
            ("/lxc/web", "web", true),
        ];
        for (path, name, named) in free {
            let found = from_cgroup(path).unwrap_or_else(|| panic!("{path} yields no container"));
            assert_eq!((&*found.id, found.named), (name, named), "{path}");
            assert_eq!(found.short_id(), name, "{path}");
        }
    }

    /// As kubelets lay them out: by either driver, of every class, static ones, and those of a
    /// kubelet that is itself in a container.
    #[test]
    fn pods_are_told_by_their_uids() {
        const UID: &str = "0c3a5a26-9a5c-4f7a-8ac1-0d9f0a6b1c2d";
        // Kubelet's hash of the file that a static pod is from.
        const HASH: &str = "f3c9b7a1d2e84c5f9a0b1c2d3e4f5a6b";
        let slice = "pod0c3a5a26_9a5c_4f7a_8ac1_0d9f0a6b1c2d.slice";
        let scope = format!("cri-containerd-{ID}.scope");
        let (slices, kind) = ("/kubepods.slice/kubepods", "/kubelet.slice/kubelet-kubepods");
        for (path, uid) in [
            (format!("/kubepods/{POD}/{ID}"), UID),
            (format!("/kubepods/burstable/{POD}/{ID}"), UID),
            (format!("/kubepods/besteffort/{POD}/{ID}/init.scope"), UID),
            (format!("/kubepods/burstable/pod{HASH}/{ID}"), HASH),
            (format!("{slices}-{slice}/{scope}"), UID),
            (format!("{slices}-besteffort.slice/kubepods-besteffort-{slice}/{scope}"), UID),
            (
                format!("{slices}-burstable.slice/kubepods-burstable-pod{HASH}.slice/crio-{ID}"),
                HASH,
            ),
            // A runtime that takes systemd's notation for a path.
            (format!("/system.slice/containerd.service/kubepods-{slice}:cri-containerd:{ID}"), UID),
            // k3d and minikube, and kind by either driver.
            (format!("/docker/{OUTER}/kubepods/besteffort/{POD}/{ID}"), UID),
            (format!("/docker/{OUTER}/kubelet/kubepods/burstable/{POD}/{ID}"), UID),
            (format!("/system.slice/docker-{OUTER}.scope{slices}-{slice}/docker-{ID}.scope"), UID),
            (
                format!(
                    "/docker/{OUTER}{kind}.slice/kubelet-kubepods-burstable.slice/\
                     kubelet-kubepods-burstable-{slice}/{scope}"
                ),
                UID,
            ),
            (format!("/docker/{OUTER}{kind}.slice/kubelet-kubepods-{slice}/{scope}"), UID),
        ] {
            let found = from_cgroup(&path).unwrap_or_else(|| panic!("{path} yields no container"));
            assert_eq!((&*found.id, found.pod.as_deref()), (ID, Some(uid)), "{path}");
        }
        for path in [
            format!("/docker/{ID}"),
            // A node of kind is a container in no pod, and so is what is no kubelet's.
            format!("/docker/{ID}/kubelet.slice/kubelet.service"),
            format!("/app.slice/app-{slice}/{scope}"),
            format!("/kubepods/besteffort/pod-web/{ID}"),
        ] {
            let found = from_cgroup(&path).unwrap_or_else(|| panic!("{path} yields no container"));
            assert_eq!((&*found.id, found.pod.as_deref()), (ID, None), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_yields_none() {
        for path in [
            "/",
            "",
            "/init.scope",
            "/system.slice/docker.service",
            "/system.slice/containerd.service",
            "/user.slice/user-1000.slice/session-3.scope",
            "/process_api/38fa02f27f6b013bb7b4b59755f25a5f",
            "/kubepods.slice/kubepods-burstable.slice",
            &format!("/kubepods/besteffort/{POD}"),
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!(
                "/kubepods.slice/kubepods-pod0c3a5a26_9a5c_4f7a_8ac1_0d9f0a6b1c2d.slice/crio-conmon-{ID}.scope"
            ),
            "/lxc.monitor.web",
            "/docker",
            "/machine.slice",
        ] {
            assert_eq!(from_cgroup(path), None, "{path}");
        }
    }

    #[test]
    fn names_come_from_the_runtimes_files() {
        let docker = r#"{"ID":"x","Name":"/shop-web","Config":{"Labels":{}}}"#;
        assert_eq!(&*docker_name(docker).unwrap().name, "shop-web");
        let kubelet = r#"{"Name":"/k8s_web_web-0_prod_uid_0","Config":{"Labels":{
            "io.kubernetes.container.name":"web","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"prod"}}}"#;
        let named = docker_name(kubelet).unwrap();
        assert_eq!((&*named.name, &*named.namespace), ("web", "prod"));
        assert_eq!(named.pod.as_deref(), Some("web-0"));

        let podman =
            format!(r#"[{{"id":"{OUTER}","names":["a"]}},{{"id":"{ID}","names":["b","c"]}}]"#);
        assert_eq!(&*podman_name(&podman, ID).unwrap().name, "b");
        assert_eq!(podman_name(&podman, "none"), None);

        let bundle = r#"{"annotations":{"io.kubernetes.cri.container-name":"api",
            "io.kubernetes.cri.sandbox-name":"api-7d","io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
        let named = bundle_name(bundle).unwrap();
        assert_eq!(
            (&*named.name, &*named.namespace, named.pod.as_deref()),
            ("api", "shop", Some("api-7d"))
        );
        assert_eq!(&*bundle_name(r#"{"annotations":{"nerdctl/name":"n"}}"#).unwrap().name, "n");
    }

    #[test]
    fn broken_files_name_nothing() {
        for text in
            ["", "{", "[]", "{}", r#"{"Name":3}"#, r#"{"Name":"/"}"#, r#"{"annotations":[]}"#]
        {
            assert_eq!(docker_name(text), None, "{text}");
            assert_eq!(podman_name(text, ID), None, "{text}");
            assert_eq!(bundle_name(text), None, "{text}");
        }
    }
}
