//! What it costs to judge an event, without sockets: `cargo bench --bench judge`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that meets an error has failed")]

mod works;

use criterion::{Criterion, criterion_group, criterion_main};

fn judge(criterion: &mut Criterion) {
    for mut work in works::all() {
        criterion
            .benchmark_group(work.name)
            .bench_function(work.size.to_string(), |bencher| bencher.iter(&mut work.run));
    }
}

criterion_group!(benches, judge);
criterion_main!(benches);
