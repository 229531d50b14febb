//! `relay ORDERS`: stands in for the proxies of meshes that cannot be had here, under their
//! names: `ztunnel` and `linkerd2-proxy`. The orders: `mesh::relay` of the harness.

mod linkerd;
mod socket;
mod tls;
mod ztunnel;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, Result};
use meshtap_tests::mesh::relay::{Orders, Shape, Ward};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: relay ORDERS");
        return ExitCode::FAILURE;
    };
    match relay(Path::new(&path)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One thread a pod, inside the pod's network namespace: so are all the sockets that it makes.
fn relay(path: &Path) -> Result<()> {
    let orders: Orders = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let orders = Arc::new(orders);
    let (ready, listening) = channel();
    let mut threads = Vec::new();
    for ward in orders.wards.clone() {
        let (orders, ready) = (Arc::clone(&orders), ready.clone());
        threads.push(std::thread::spawn(move || {
            let ended = serve(&orders, &ward, &ready);
            if let Err(error) = &ended {
                eprintln!("error: {error:#}");
            }
            ended
        }));
    }
    drop(ready);
    for _ in &threads {
        listening.recv().context("a thread does not listen")?;
    }
    println!("it relays");
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    }
    Ok(())
}

fn serve(orders: &Arc<Orders>, ward: &Ward, ready: &Sender<()>) -> Result<()> {
    if let Some(netns) = &ward.netns {
        let file = File::open(netns).with_context(|| netns.display().to_string())?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tls = tls::Tls::load(&orders.authority, &ward.certificate, &ward.key)?;
    runtime.block_on(async {
        match orders.shape {
            Shape::Ztunnel => ztunnel::serve(Arc::clone(orders), tls, ready).await,
            Shape::Linkerd => linkerd::serve(Arc::clone(orders), tls, ready).await,
        }
    })
}
