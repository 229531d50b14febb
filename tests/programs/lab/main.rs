//! `lab kubernetes [--fake PODS] [--keep]`, `lab kubernetes --down | --record`: a real Kubernetes
//! node on this machine, or a control plane with nodes that are not there, until it is
//! interrupted. `cargo xtask lab kubernetes` builds and starts it as root.
//!
//! `lab build SECONDS`: what tests are made of that takes minutes to build, for `cargo xtask ci`.

mod build;
mod record;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use meshtap_tests::kubernetes::{ADDRESS, Node, interrupt, is_interrupted};
use meshtap_tests::signals::instead_of_ending;

const USAGE: &str =
    "usage: lab kubernetes [--fake PODS] [--keep] | --down | --record, lab build SECONDS";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    let options = match words {
        ["kubernetes", options @ ..] => options,
        ["build", seconds] => return build::all(Duration::from_secs(seconds.parse()?)),
        _ => bail!(USAGE),
    };
    // A signal ends what it waits for, so that the laboratory is taken away before.
    instead_of_ending(interrupt)?;
    let (pods, options) = match options {
        ["--fake", pods, rest @ ..] => (Some(pods.parse()?), rest),
        all => (None, all),
    };
    match (pods, options) {
        (None, ["--down"]) => Node::down(),
        (None, ["--record"]) => record::record(&up()?),
        (pods, ["--keep"]) => {
            pods.map_or_else(up, fake)?.keep()?;
            println!("It stays until: cargo xtask lab kubernetes --down");
            Ok(())
        }
        (pods, []) => {
            let node = pods.map_or_else(up, fake)?;
            println!("It ends with Ctrl-C.");
            while !is_interrupted() {
                node.demand()?;
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(())
        }
        _ => bail!(USAGE),
    }
}

fn up() -> Result<Node> {
    if let Some(reason) = Node::lacking() {
        bail!(reason);
    }
    let began = Instant::now();
    let node = Node::up()?;
    println!("A Kubernetes node is ready after {:.1} s.", began.elapsed().as_secs_f64());
    explain(&node, "kubelet");
    println!("  node and API server: {ADDRESS}, image for pods: lab.local/web:1 (busybox)");
    Ok(node)
}

/// A node for each hundred pods and a Service for each ten, as the largest clusters have.
fn fake(pods: usize) -> Result<Node> {
    let node = Node::control_plane()?;
    explain(&node, "apiserver");
    let nodes = pods.div_ceil(100);
    let steps: [(&str, usize, Step); 3] = [
        ("nodes", nodes, Node::fake_nodes),
        ("Services", pods.div_ceil(10), Node::fake_services),
        ("pods", pods, Node::fake_pods),
    ];
    for (what, count, step) in steps {
        let began = Instant::now();
        step(&node, count)?;
        println!("{count} {what} after {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(node)
}

type Step = fn(&Node, usize) -> Result<()>;

fn explain(node: &Node, program: &str) {
    println!("  export KUBECONFIG={}", node.kubeconfig().display());
    println!("  {} get pods --all-namespaces", node.kubectl_program().display());
    println!("  output of {program} and the others: {}", node.log(program).display());
}
