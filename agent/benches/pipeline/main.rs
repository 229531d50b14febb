//! What an observed end of a call costs user space, from the bytes of its two records to
//! its series and what is exported of it.
//!
//! `stages`: each line has one stage more than the line before. `export`: what a span, a line
//! of the access log and a series of a scrape take besides. `growth`: what a call costs where
//! there are more connections, services, series, and connections on which nothing happens.
//! The word behind `--` chooses: `cargo bench --bench pipeline -- growth`. `-- --rounds N` only
//! runs N rounds of 32 calls, so that instructions can be counted: those of 2 N rounds without
//! those of N.

mod export;
mod growth;
mod load;
mod stages;

use criterion::Criterion;
use load::STEADY;
use stages::{Last, Pipeline};

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rounds").skip(1);
    if let Some(rounds) = arguments.next().and_then(|rounds| rounds.parse::<u32>().ok()) {
        let mut pipeline = Pipeline::new(STEADY, Last::Aggregation);
        (0..rounds).for_each(|_| pipeline.round());
        pipeline.check();
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    stages::measure(&mut criterion);
    export::measure(&mut criterion);
    growth::measure(&mut criterion);
    criterion.final_summary();
}
