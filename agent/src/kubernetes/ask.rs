//! One question to the API server, for whoever wants to know whether it can be watched.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

use super::{WatchSettings, client};

/// An API server that says nothing for so long is out of reach.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an agent has to be granted.
macro_rules! rights {
    () => {
        "list and watch of pods, services, nodes and endpointslices (discovery.k8s.io)"
    };
}
/// What helps where it is not granted.
const REMEDY: &str = concat!("grant ", rights!(), ", as the Helm chart does");
/// What helps where no API server is configured.
pub const UNCONFIGURED: &str =
    concat!("install the Helm chart, or set `kubernetes.kubeconfig` (", rights!(), ")");

/// Why it cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In words.
    pub why: String,
    /// What helps.
    pub remedy: String,
}

impl Refusal {
    fn new(why: impl Into<String>, remedy: &str) -> Self {
        Self { why: why.into(), remedy: remedy.to_owned() }
    }
}

/// Asks for one object of each kind that is watched; gives the server's version. Blocks, for
/// some seconds at the most; not to be called within a runtime.
///
/// # Errors
/// [`Refusal`].
pub fn ask(settings: &WatchSettings) -> Result<String, Refusal> {
    let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = started.map_err(|error| {
        Refusal::new(format!("no runtime can be started: {error}"), "raise the limit of tasks")
    })?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, questions(settings)).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(&format!("it does not answer within {PATIENCE:?}"))),
        }
    })
}

fn unreachable(why: &str) -> Refusal {
    Refusal::new(
        format!("the API server is out of reach: {why}"),
        "see whether its address can be reached from this host (firewalls, network policies), \
         and whether the kubeconfig or the pod's service account still names it",
    )
}

async fn questions(settings: &WatchSettings) -> Result<String, Refusal> {
    let client = client(settings).await.map_err(|error| {
        Refusal::new(error.to_string(), "name a kubeconfig with a current context, or none")
    })?;
    let version =
        client.apiserver_version().await.map_err(|error| unreachable(&error.to_string()))?;
    let forbidden = [
        ("pods", may_list::<Pod>(&client).await),
        ("services", may_list::<Service>(&client).await),
        ("nodes", may_list::<Node>(&client).await),
        ("endpointslices", may_list::<EndpointSlice>(&client).await),
    ];
    let forbidden: Vec<_> =
        forbidden.iter().filter(|(_, allowed)| !allowed).map(|(name, _)| *name).collect();
    if forbidden.is_empty() {
        return Ok(version.git_version);
    }
    Err(Refusal::new(
        format!("the API server does not let this agent list {}", forbidden.join(", ")),
        REMEDY,
    ))
}

async fn may_list<K>(client: &Client) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let all = Api::<K>::all(client.clone());
    all.list_metadata(&ListParams::default().limit(1)).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::{REMEDY, UNCONFIGURED, WatchSettings, ask};

    /// The plain manifests are the chart's (`tests/e2e/deploy.rs`).
    #[test]
    fn what_helps_is_what_the_chart_grants() {
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/meshtap.yaml");
        let manifests = std::fs::read_to_string(manifests).unwrap();
        let role = manifests.split("\n---\n").find(|text| text.contains("kind: ClusterRole\n"));
        let list = |name: &str| -> Vec<String> {
            let key = format!("{name}: [");
            let lists = role.unwrap().lines().filter_map(|line| line.trim().strip_prefix(&key));
            let words = lists.flat_map(|list| list.trim_end_matches(']').split(", "));
            words.map(str::to_owned).collect()
        };
        let (resources, mut verbs) = (list("resources"), list("verbs"));
        verbs.dedup();
        verbs.truncate(2);
        let [rest @ .., last] = &resources[..] else { panic!("{role:?}") };
        let said = format!("{} of {} and {last} (", verbs.join(" and "), rest.join(", "));
        // With what stands before it: further verbs would.
        for (text, before) in [(REMEDY, "grant "), (UNCONFIGURED, "(")] {
            assert!(text.contains(&format!("{before}{said}")), "{text:?} is not: {said:?}");
        }
        let each = list("verbs").chunks(2).all(|verbs| verbs == ["list", "watch"]);
        assert!(each, "{role:?}");
    }

    #[test]
    fn what_cannot_be_asked_says_why_and_what_helps() {
        let kubeconfig = Some("/does/not/exist".into());
        let refused = ask(&WatchSettings { kubeconfig, ..WatchSettings::default() }).unwrap_err();
        assert!(refused.why.contains("/does/not/exist"), "{refused:?}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        // Nobody listens at port 9, discard.
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters:\n- name: a\n  \
                    cluster: {server: 'http://127.0.0.1:9'}\ncontexts:\n- name: a\n  context: \
                    {cluster: a, user: a}\nusers:\n- name: a\n  user: {}\n";
        std::fs::write(&file, text).unwrap();
        let settings = WatchSettings { kubeconfig: Some(file), ..WatchSettings::default() };
        let refused = ask(&settings).unwrap_err();
        assert!(refused.why.contains("out of reach"), "{refused:?}");
        assert!(!refused.remedy.is_empty());
    }
}
