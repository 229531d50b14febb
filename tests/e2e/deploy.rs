//! What an operator applies to Kubernetes: rendered by the real helm, for several values, and
//! read as Kubernetes would read it. Takes neither root nor a cluster.

use std::process::Command;

use meshtap_tests::agent::binary;
use meshtap_tests::helm::{self, Helm};
use meshtap_tests::skip;
use serde_norway::Value;

/// The objects of a stream of documents.
fn objects(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text);
    let read = |one| serde::Deserialize::deserialize(one).expect("is YAML");
    documents.map(read).filter(|value| *value != Value::Null).collect()
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["kind"].as_str().expect("has a kind")).collect()
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    objects.iter().find(|object| object["kind"] == kind).expect(kind)
}

fn pod(objects: &[Value]) -> &Value {
    &of_kind(objects, "DaemonSet")["spec"]["template"]["spec"]
}

fn agent(objects: &[Value]) -> &Value {
    &pod(objects)["containers"][0]
}

fn environment<'o>(objects: &'o [Value], name: &str) -> Option<&'o Value> {
    let all = agent(objects)["env"].as_sequence().expect("a list");
    all.iter().find(|variable| variable["name"] == name)
}

struct Chart(Helm);

impl Chart {
    fn render(&self, sets: &[&str]) -> Vec<Value> {
        let rendered = self.0.template(&arguments(sets)).expect("helm starts");
        objects(&rendered.unwrap_or_else(|refused| panic!("{sets:?}: {refused}")))
    }

    fn refuse(&self, sets: &[&str]) -> String {
        match self.0.template(&arguments(sets)).expect("helm starts") {
            Ok(rendered) => panic!("{sets:?} is taken: {rendered}"),
            Err(refused) => refused,
        }
    }
}

fn arguments<'s>(sets: &[&'s str]) -> Vec<&'s str> {
    sets.iter().flat_map(|set| ["--set-json", set]).collect()
}

macro_rules! chart {
    () => {
        match Helm::at_hand() {
            Ok(helm) => Chart(helm),
            Err(reason) => skip!(reason),
        }
    };
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    chart!().0.lint().expect("clean");
}

#[test]
fn the_plain_manifests_are_what_the_chart_gives() {
    let rendered = chart!().0.manifests().expect("renders");
    let committed = std::fs::read_to_string(helm::committed()).unwrap_or_default();
    assert!(committed == rendered, "renew deploy/kubernetes/meshtap.yaml: cargo xtask manifests");
    let all = objects(&committed);
    let expected = [
        "Namespace",
        "ServiceAccount",
        "ConfigMap",
        "ClusterRole",
        "ClusterRoleBinding",
        "DaemonSet",
    ];
    assert_eq!(kinds(&all), expected);
    let namespace = &of_kind(&all, "Namespace")["metadata"];
    assert_eq!(namespace["name"], "meshtap");
    assert_eq!(namespace["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn nothing_is_granted_but_what_is_said() {
    let all = objects(&std::fs::read_to_string(helm::committed()).expect("is committed"));
    let pod = pod(&all);
    for open in ["hostPID", "hostIPC"] {
        assert!(pod.get(open).is_none(), "{open}");
    }
    let context = &agent(&all)["securityContext"];
    for (what, allowed) in [
        ("privileged", false),
        ("allowPrivilegeEscalation", false),
        ("readOnlyRootFilesystem", true),
    ] {
        assert_eq!(context[what], allowed, "{what}");
    }
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    for mount in agent(&all)["volumeMounts"].as_sequence().expect("a list") {
        assert_eq!(mount["readOnly"], true, "{mount:?}");
    }
    let volumes = pod["volumes"].as_sequence().expect("a list");
    let paths: Vec<_> =
        volumes.iter().filter_map(|volume| volume.get("hostPath")?["path"].as_str()).collect();
    assert_eq!(paths, ["/proc", "/sys/fs/cgroup", "/sys/kernel/tracing"]);
    assert_eq!(granted(&all), ["pods", "services", "nodes", "endpointslices"]);
}

/// What is written for people says what the manifests grant, no more and no less.
#[test]
fn texts_say_what_is_granted() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = |name: &str| {
        let text = std::fs::read_to_string(format!("{folder}/{name}")).expect("is there");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (readme, deploy) = (text("README.md"), text("docs/deploy.md"));
    let all = objects(&std::fs::read_to_string(helm::committed()).expect("is committed"));
    let capabilities = words(&agent(&all)["securityContext"]["capabilities"]["add"]);
    let paths = pod(&all)["volumes"].as_sequence().expect("a list").iter();
    let paths = paths.filter(|volume| volume.get("hostPath").is_some()).count();
    let number = |count: usize| {
        const NUMBERS: [&str; 13] = [
            "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
            "eleven", "twelve",
        ];
        NUMBERS[count]
    };
    let said = format!(
        "Not privileged: {} capabilities, {} paths of the node to read, and {} kinds of objects to watch",
        number(capabilities.len()),
        number(paths),
        number(granted(&all).len()),
    );
    assert!(readme.contains(&said), "README.md does not say: {said}");
    // The table has a row for each, and none for what is not granted.
    let table = deploy.split("What it may do, and what for").nth(1).expect("is there");
    let table = table.split("The start is over").next().expect("has an end");
    let is_capability =
        |word: &&str| word.len() > 2 && word.chars().all(|c| c == '_' || c.is_ascii_uppercase());
    let rows = table.split("| `").skip(1).flat_map(|row| row.split('|').next());
    let mut named: Vec<&str> =
        rows.flat_map(|cell| cell.split('`')).filter(is_capability).collect();
    let mut wanted = capabilities.clone();
    named.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(named, wanted, "docs/deploy.md");
    let asked = "`list` and `watch` on pods, services, nodes and endpoint slices, and on namespaces with \
                 `config.mesh.istio_metrics`. No secrets, no config maps, nothing to write.";
    assert!(deploy.contains(asked), "docs/deploy.md does not say: {asked}");
    let granted = granted(&all).join(" ").replace("endpointslices", "endpoint slices");
    assert_eq!(granted, "pods services nodes endpoint slices");
}

fn words(list: &Value) -> Vec<&str> {
    list.as_sequence().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the agent may list and watch, and do nothing else with.
fn granted(all: &[Value]) -> Vec<&str> {
    let mut granted = Vec::new();
    for rule in of_kind(all, "ClusterRole")["rules"].as_sequence().expect("a list") {
        assert_eq!(words(&rule["verbs"]), ["list", "watch"], "{rule:?}");
        granted.extend(words(&rule["resources"]));
    }
    granted
}

#[test]
fn values_reach_the_objects_that_they_are_about() {
    let chart = chart!();
    let plain = chart.render(&[]);
    let with_namespaces = chart.render(&["config.mesh.istio_metrics=true"]);
    assert_eq!(granted(&with_namespaces), [granted(&plain), vec!["namespaces"]].concat());
    let variable = |all: &[Value], name: &str| {
        environment(all, name).and_then(|variable| variable["value"].as_str().map(str::to_owned))
    };
    assert_eq!(variable(&plain, "MESHTAP_LISTEN").as_deref(), Some("$(NODE_ADDRESS):9990"));
    let node = environment(&plain, "MESHTAP_KUBERNETES_NODE").expect("is set");
    assert_eq!(node["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    assert!(agent(&plain)["readinessProbe"]["httpGet"].get("host").is_none());

    let six = chart.render(&[r#"listen={"family":"IPv6","port":9100}"#]);
    assert_eq!(variable(&six, "MESHTAP_LISTEN").as_deref(), Some("[$(NODE_ADDRESS)]:9100"));
    let annotations = &of_kind(&six, "DaemonSet")["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], "9100");
    let every = chart.render(&[r#"listen.address="::""#, "scrapeAnnotations=false"]);
    assert_eq!(variable(&every, "MESHTAP_LISTEN").as_deref(), Some("[::]:9990"));
    assert!(agent(&every)["readinessProbe"]["httpGet"].get("host").is_none());
    let local = chart.render(&[r#"listen.address="127.0.0.1""#]);
    assert_eq!(agent(&local)["livenessProbe"]["httpGet"]["host"], "127.0.0.1");

    let others = chart.render(&[
        r#"image={"repository":"registry.example/meshtap","digest":"sha256:DIGEST"}"#
            .replace("DIGEST", &"a1".repeat(32))
            .as_str(),
        r#"podMonitor={"enabled":true,"labels":{"release":"prometheus"}}"#,
        "serviceAccount.create=false",
        "rbac.create=false",
        r#"capabilities=["BPF","NET_ADMIN"]"#,
        r#"priorityClassName="""#,
        r#"env=[{"name":"MESHTAP_OTLP_HEADERS","valueFrom":{"secretKeyRef":{"name":"a","key":"b"}}}]"#,
    ]);
    assert_eq!(kinds(&others), ["ConfigMap", "DaemonSet", "PodMonitor"]);
    let monitor = &of_kind(&others, "PodMonitor")["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&monitor["honorLabels"], &monitor["interval"]), (&true.into(), &"15s".into()));
    assert_eq!(pod(&others)["serviceAccountName"], "default");
    assert!(pod(&others).get("priorityClassName").is_none());
    assert!(environment(&others, "MESHTAP_OTLP_HEADERS").is_some());
    let image = agent(&others)["image"].as_str().expect("a name");
    assert!(image.starts_with("registry.example/meshtap@sha256:a1a1"), "{image}");
}

#[test]
fn an_older_cluster_gets_the_annotation_of_app_armor() {
    let chart = chart!();
    let metadata = |version: &str| {
        let rendered = chart.0.template(&["--kube-version", version]).expect("helm starts");
        let all = objects(&rendered.expect("renders"));
        let field = agent(&all)["securityContext"].get("appArmorProfile").cloned();
        let annotations =
            &of_kind(&all, "DaemonSet")["spec"]["template"]["metadata"]["annotations"];
        let name = "container.apparmor.security.beta.kubernetes.io/meshtap";
        (field.map(|field| field["type"].clone()), annotations.get(name).cloned())
    };
    assert_eq!(metadata("v1.29.3"), (None, Some("unconfined".into())));
    assert_eq!(metadata("v1.30.0"), (Some("Unconfined".into()), None));
}

#[test]
fn what_the_schema_does_not_know_is_refused() {
    let chart = chart!();
    for (set, said) in [
        (r#"tolerations={"a":1}"#, "tolerations"),
        ("pictures={}", "pictures"),
        (r#"image.pullPolicy="Sometimes""#, "pullPolicy"),
        ("listen.port=0", "port"),
        (r#"capabilities=["BPF","NET_ADMIN","SYS_MODULE"]"#, "capabilities"),
        (r#"capabilities=["BPF"]"#, "capabilities"),
        ("config.series.count=5", "count"),
        ("config.series.limit=5", "limit"),
        ("config.log.level=false", "level"),
        (r#"config.names=[{"name":"shop"}]"#, "match"),
        // What the chart itself decides.
        (r#"config.listen="0.0.0.0:1""#, "listen"),
        (r#"config.host.proc="/proc""#, "proc"),
        (r#"config.stop_within="20s""#, "terminationGracePeriodSeconds"),
        (r#"config.stop_within="1m""#, "terminationGracePeriodSeconds"),
    ] {
        let refused = chart.refuse(&[set]);
        assert!(refused.contains(said), "{set}: {refused}");
    }
    chart.render(&[r#"config.stop_within="1m""#, "terminationGracePeriodSeconds=70"]);
}

#[test]
fn the_agent_takes_the_configuration_that_the_chart_writes() {
    let chart = chart!();
    let Ok(binary) = binary() else { skip!("the agent is not built") };
    let config = |sets: &[&str]| {
        let all = chart.render(sets);
        let text = of_kind(&all, "ConfigMap")["data"]["meshtap.yaml"].as_str().map(str::to_owned);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text.expect("a text")).expect("is written");
        let mut command = Command::new(&binary);
        command.env_clear().args(["config", "print", "--config"]).arg(file.path());
        let ended = command.output().expect("starts");
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{sets:?}: {errors}");
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    let plain = config(&[]);
    assert!(plain.contains("proc: /host/proc "), "{plain}");
    assert!(plain.contains("docker: [/host/proc/1/root/var/lib/docker] "), "{plain}");
    let given = config(&[
        // Large enough that other ways of writing make `1e+07` of it.
        r#"config.series={"limit":10000000,"idle":"1h"}"#,
        r#"config.names=[{"name":"a<b & \"c\"","match":{"executable":"/opt/*"}}]"#,
        r#"config.otlp={"endpoint":"http://collector:4318","headers":{"x-tenant":"shop"}}"#,
        r#"config.containers={"bundles":["/host/proc/1/root/run/other"]}"#,
        r#"config.log={"kernel":"off"}"#,
    ]);
    for line in ["limit: 10000000 ", "bundles: [/host/proc/1/root/run/other] ", "idle: 1h "] {
        assert!(given.contains(line), "{line}: {given}");
    }
    assert!(given.contains(r#"name: "a<b & \"c\"""#), "{given}");
}
