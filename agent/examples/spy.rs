//! Prints every event.
use meshtap::kernel::{features::Features, load::{Kernel, LoadSettings}};
use meshtap::ring_buffer::Reader;
fn main() {
    let features = Features::probe();
    let start = std::time::Instant::now();
    let mut kernel = match Kernel::start(LoadSettings::default(), &features) { Ok(k) => k, Err(e) => { eprintln!("{e}"); std::process::exit(1) } };
    eprintln!("loaded in {:?}, missing {:?}", start.elapsed(), kernel.missing);
    let mut reader = Reader::new(kernel.take_ring().unwrap());
    let secs: u64 = std::env::args().nth(1).map_or(5, |s| s.parse().unwrap());
    let quiet = std::env::args().nth(2).is_some();
    let mut n = 0u64;
    while start.elapsed().as_secs() < secs {
        reader.wait(std::time::Duration::from_millis(10));
        while reader.drain(10000, |e| { n += 1; if !quiet { println!("{e:?}"); } }) > 0 {}
    }
    eprintln!("{n} events, lost {:?}", kernel.losses());
}
