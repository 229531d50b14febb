//! What a call costs where there is more of something.

use criterion::{BenchmarkId, Criterion, Throughput};

use crate::load::{CALLS, ENDS, Load, STEADY};
use crate::stages::{Last, Pipeline};

/// The same calls where there is more of one thing, ten times as much from step to step.
pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("growth");
    group.throughput(Throughput::Elements(ENDS));
    let many = |connections| Load { connections, ..STEADY };
    for number in [32, 320, 3_200, 32_000, 96_000] {
        let loads = [
            ("connections", many(number)),
            ("silent connections", Load { silent: number, ..STEADY }),
            ("services", Load { services: number.min(32_000), ..many(number) }),
            ("routes", Load { routes: number, ..many(number) }),
        ];
        for (what, load) in loads {
            let mut pipeline = Pipeline::new(load, Last::Aggregation);
            let rounds = load.connections.div_ceil(CALLS);
            (0..2 * rounds).for_each(|_| pipeline.round());
            group.bench_function(BenchmarkId::new(what, number), |bencher| {
                bencher.iter(|| pipeline.round());
            });
            pipeline.check();
        }
    }
    group.finish();
}
