//! `meshlab [none|istio|ambient|waypoint|linkerd] [--systemd]`: a shop in a mesh without a cluster, with
//! calls going on, until it is interrupted. `cargo xtask lab mesh` builds and starts it as root.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use meshtap_tests::cluster::{Driver, kubelet};
use meshtap_tests::mesh::shop::{GRPC, HTTP};
use meshtap_tests::mesh::{Lab, Mesh, Sandbox, Shop};
use meshtap_tests::process::write;
use meshtap_tests::signals::instead_of_ending;
use meshtap_tests::workload::{Keeper, Shopping};

const USAGE: &str = "usage: meshlab [none|istio|ambient|waypoint|linkerd] [--systemd]";

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // What was being set up was interrupted as well.
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut mesh, mut driver) = (Mesh::Istio, Driver::Cgroupfs);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "none" => mesh = Mesh::None,
            "istio" => mesh = Mesh::Istio,
            "ambient" => mesh = Mesh::Ambient,
            "waypoint" => mesh = Mesh::Waypoint,
            "linkerd" => mesh = Mesh::Linkerd,
            "--systemd" => driver = Driver::Systemd,
            _ => bail!(USAGE),
        }
    }
    if let Some(reason) = Shop::missing(mesh) {
        bail!(reason);
    }
    // A signal does not end it: everything has to be taken away before.
    instead_of_ending(|| INTERRUPTED.store(true, Ordering::Relaxed))?;
    // Whatever the programs of the shop put down is taken away even if this one is killed.
    tempfile::env::override_temp_dir(&Lab::files())
        .map_err(|other| anyhow!("{} is used already", other.display()))?;
    let began = Instant::now();
    let shop = Shop::open(mesh, 2, 2, driver)?;
    println!("The shop ({mesh:?}) is open after {:.1} s.", began.elapsed().as_secs_f64());
    describe(&shop, driver)?;
    println!("It closes with Ctrl-C.");
    call(&shop)
}

/// What is where.
fn describe(shop: &Shop, driver: Driver) -> Result<()> {
    for sandbox in shop.servers.iter().chain(&shop.clients) {
        pod(sandbox, driver)?;
    }
    if let Some(ztunnel) = &shop.ztunnel {
        println!("pod {}: process {}", ztunnel.pod().name, ztunnel.relay().pid());
    }
    println!("service {}", shop.service.host());
    for address in &shop.service.addresses {
        println!("  {address}, ports {HTTP} (HTTP) and {GRPC} (gRPC)");
    }
    let file = shop.lab.folder().join("meshtap.yaml");
    write(&file, &shop.lab.configuration())?;
    println!("for the agent: --config {}", file.display());
    println!("for kubectl: --kubeconfig {}", shop.lab.api().kubeconfig().display());
    Ok(())
}

fn pod(sandbox: &Sandbox, driver: Driver) -> Result<()> {
    let pod = &sandbox.pod;
    let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
    println!("pod {}/{}: {}", pod.namespace, pod.name, addresses.join(", "));
    println!("  ip netns exec {} …", sandbox.netns()?.name());
    println!("  cgroup {}", kubelet::pod(driver, pod));
    for container in &pod.containers {
        println!("    {} {}", &container.id[..12], container.name);
    }
    Ok(())
}

/// Calls, some from each client every second, and how many so far.
fn call(shop: &Shop) -> Result<()> {
    const PATHS: [&str; 6] = ["/ok", "/teapot", "/nothing/7", "/flaky", "/empty", "/seen"];
    let host = shop.service.addresses.first().context("no address")?.to_string();
    let mut keepers = Vec::new();
    let mut buyers = Vec::new();
    for number in 0..shop.clients.len() {
        keepers.push(Keeper::start(shop.client(number)?, &host, HTTP, None)?);
        if !shop.grpc.is_empty() {
            let address = shop.address(GRPC)?;
            buyers.push(Shopping::start(shop.client(number)?, &address, (1, 1), 500)?);
        }
    }
    let (mut made, mut told) = (0_u64, Instant::now());
    for path in PATHS.iter().cycle() {
        for keeper in &mut keepers {
            let status = keeper.ask(path);
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Ok(());
            }
            status?;
            made += 1;
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            println!("{made} calls by HTTP");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
