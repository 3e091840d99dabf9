//! Delta against another implementation, in memory: `cargo bench -p pefo-transport --bench delta`.
//!
//! A file of 400 MB stands for a database dump: unchanged, with one byte changed in every 100 kB, with
//! 1 KB inserted at 100 places, and replaced by something else. The other implementation is given the
//! same block size and length of strong hash.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a benchmark may stop at once, and tells sizes beside the times"
)]

use std::hint::black_box;
use std::io::Cursor;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pefo_transport::delta::{
    PatchLimits, Seed, SignatureOptions, block_bytes_for, diff, patch, signature,
};

const BYTES: usize = 400_000_000;

fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn changed(base: &[u8]) -> Vec<u8> {
    let mut new = base.to_vec();
    new.iter_mut().step_by(100_003).for_each(|byte| *byte ^= 1);
    new
}

fn inserted(base: &[u8]) -> Vec<u8> {
    let mut new = Vec::with_capacity(base.len() + 200_000);
    for (at, part) in base.chunks(base.len() / 100).enumerate() {
        new.extend_from_slice(part);
        new.extend(random(1000 + at as u64, 1024));
    }
    new
}

fn delta(criterion: &mut Criterion) {
    let base = random(1, BYTES);
    let block = block_bytes_for(BYTES as u64);
    let options = SignatureOptions::new(Seed([1; 16]));
    let sign = || {
        let mut out = Vec::new();
        signature::write(&base[..], BYTES as u64, &options, &mut out).unwrap();
        out
    };
    let peer_sign = || {
        let options = fast_rsync::SignatureOptions {
            block_size: block,
            crypto_hash_size: 16,
        };
        fast_rsync::Signature::calculate(&base, options)
    };
    let mut group = criterion.benchmark_group("delta");
    group
        .sample_size(10)
        .throughput(Throughput::Bytes(BYTES as u64));
    group.bench_function("sign/pefo", |b| b.iter(|| black_box(sign())));
    group.bench_function("sign/fast_rsync", |b| b.iter(|| black_box(peer_sign())));

    let ours = signature::parse(&sign()).unwrap();
    let theirs = peer_sign();
    for (name, new) in [
        ("unchanged", base.clone()),
        ("changed", changed(&base)),
        ("inserted", inserted(&base)),
        ("replaced", random(2, BYTES)),
    ] {
        let our_delta = || {
            let mut delta = Vec::new();
            diff(&ours, &new[..], new.len() as u64, &mut delta).unwrap();
            delta
        };
        let their_delta = || {
            let mut delta = Vec::new();
            fast_rsync::diff(&theirs.index(), &new, &mut delta).unwrap();
            delta
        };
        let (one, two) = (our_delta(), their_delta());
        eprintln!(
            "{name}: {} bytes by pefo, {} by fast_rsync",
            one.len(),
            two.len()
        );
        group.bench_function(BenchmarkId::new("diff/pefo", name), |b| b.iter(our_delta));
        group.bench_function(BenchmarkId::new("diff/fast_rsync", name), |b| {
            b.iter(their_delta)
        });
        let limits = PatchLimits::new(new.len() as u64);
        group.bench_function(BenchmarkId::new("patch/pefo", name), |b| {
            b.iter(|| {
                let mut out = Vec::with_capacity(new.len());
                patch(Cursor::new(&base), &one[..], &mut out, &limits).unwrap();
                out
            });
        });
        group.bench_function(BenchmarkId::new("patch/fast_rsync", name), |b| {
            b.iter(|| {
                let mut out = Vec::with_capacity(new.len());
                fast_rsync::apply(&base, &two, &mut out).unwrap();
                out
            });
        });
    }
    group.finish();
}

criterion_group!(benches, delta);
criterion_main!(benches);
