//! The modules without I/O: placement, paths, and the stored forms of records and intents.
//! `cargo bench --bench micro`, or with a part of a name after `--`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use davkv::clock::Timestamp;
use davkv::key::{Key, Name};
use davkv::placement::Placement;
use davkv::record::{Intent, Record, Replica, State};
use md5::Digest as _;

const KEY: &[u8] = b"/photos/2024/07/benchmark-000123";
const GENERATION: Name = Name::Generation(0x0012_3456);

fn placement(volumes: usize) -> Placement {
    let volumes = (1..=volumes).map(|n| format!("10.0.{}.{}:3001", n / 256, n % 256)).collect();
    Placement::new(volumes, 3, 10)
}

fn replicas() -> Vec<Replica> {
    let places = placement(3).wanted(&Key::new(KEY));
    places.into_iter().map(|place| Replica { place, name: Name::Plain }).collect()
}

fn placing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement");
    let key = Key::new(KEY);
    for volumes in [3, 10, 100, 1000] {
        let placement = placement(volumes);
        group.bench_function(BenchmarkId::new("rank", volumes), |b| {
            b.iter(|| placement.rank(black_box(&key)));
        });
        group.bench_function(BenchmarkId::new("wanted", volumes), |b| {
            b.iter(|| placement.wanted(black_box(&key)));
        });
        let wanted = placement.wanted(&key);
        group.bench_function(BenchmarkId::new("wants", volumes), |b| {
            b.iter(|| placement.wants(black_box(&key), &wanted));
        });
    }
}

fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    let key = Key::new(KEY);
    for (kind, name) in [("plain", Name::Plain), ("generation", GENERATION)] {
        let path = key.path(name);
        group.bench_function(BenchmarkId::new("path", kind), |b| b.iter(|| black_box(&key).path(name)));
        group.bench_function(BenchmarkId::new("from_path", kind), |b| {
            b.iter(|| Key::from_path(black_box(&path)));
        });
    }
}

fn records(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let md5 = Some(*b"0123456789abcdef");
    let (size, modified) = (Some(16), Some(Timestamp::from_seconds(1_700_000_000)));
    let record =
        Record { state: State::Live, replicas: replicas(), md5, size, modified, headers: Vec::new() };
    let (ours, minikeyvalues) = (record.encode(), record.encode_minikeyvalue().unwrap_or_default());
    group.bench_function("encode", |b| b.iter(|| black_box(&record).encode()));
    group.bench_function("decode", |b| b.iter(|| Record::decode(black_box(&ours))));
    group.bench_function("encode minikeyvalue's", |b| b.iter(|| black_box(&record).encode_minikeyvalue()));
    group.bench_function("decode minikeyvalue's", |b| b.iter(|| Record::decode(black_box(&minikeyvalues))));
}

fn intents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("intents");
    let intents = [Intent { id: 7, files: replicas() }];
    let bytes = Intent::encode_all(&intents);
    group.bench_function("encode", |b| b.iter(|| Intent::encode_all(black_box(&intents))));
    group.bench_function("decode", |b| b.iter(|| Intent::decode_all(black_box(&bytes))));
}

/// One value alone, and several on one core, in bytes per second.
fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("md5");
    for length in [64, 4 << 10, 64 << 10, 1 << 20] {
        let value = vec![7; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("one", length), |b| {
            b.iter(|| md5_lanes::digest(black_box(&value)));
        });
        group.bench_function(BenchmarkId::new("md-5's", length), |b| {
            b.iter(|| md5::Md5::digest(black_box(&value)));
        });
    }
    // bytes of their own for each value, as uploads have them
    let bytes = vec![vec![7; 64 << 10]; 16];
    for values in [2, 4, 8, 16] {
        group.throughput(Throughput::Bytes((values << 16) as u64));
        let mut sums = vec![md5_lanes::Md5::new(); values];
        group.bench_function(BenchmarkId::new("at once", values), |b| {
            b.iter(|| md5_lanes::update_all(sums.iter_mut().zip(&bytes).map(|(sum, bytes)| (sum, &**bytes))));
        });
    }
}

/// SHA-256 of one value, which S3 clients sign and check: where the CPU has instructions for it, a core does
/// over twice as much of it as of MD5, so it needs no lanes.
fn sha256(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sha256");
    let value = vec![7; 64 << 10];
    group.throughput(Throughput::Bytes(value.len() as u64));
    group.bench_function("one", |b| b.iter(|| sha2::Sha256::digest(black_box(&value))));
}

/// Short runs: each call takes nanoseconds, and only large differences matter.
fn config() -> Criterion {
    let criterion = Criterion::default().without_plots();
    criterion
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
}

criterion_group!(name = without_io; config = config(); targets = placing, paths, records, intents, sums, sha256);
criterion_main!(without_io);
