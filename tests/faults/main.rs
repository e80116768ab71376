//! Faults at random moments under load. Clients write and read the same keys concurrently and record what
//! they see ([`load`]). A single copy of each key must explain it ([`linear`]), and after the faults, the
//! index and the volumes must hold exactly that copy ([`audit`]).
//!
//! Random choices come from a seed, which each test prints; `DAVKV_SEED` sets it. (The seed doesn't fix the
//! interleaving of clients and faults.) Longer runs:
//!
//! `DAVKV_ROUNDS=200`: how often the master is killed;
//! `DAVKV_TIME=30m`: how long volumes fail, one at a time, or several faults last at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and that is its report"
)]
#![allow(unreachable_pub, reason = "nothing is out of reach in a program of its own")]

mod audit;
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod linear;
mod load;
mod report;
mod s3;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bench::{Bench, Fault, GATED, VOLUMES};
use common::{Gate, Master, Order, Random, Volume, eventually, request};
use load::Load;
use report::report;

const PATIENCE: Duration = Duration::from_secs(30);

/// The maximum size of values, in bytes.
const LONGEST: u64 = 300_000;

/// The duration of a test of faults over time, and whether it was set by hand.
fn time() -> (Duration, bool) {
    let given = std::env::var("DAVKV_TIME").ok();
    let time = given.as_ref().map(|time| humantime::parse_duration(time).unwrap());
    (time.unwrap_or(Duration::from_secs(15)), given.is_some())
}

fn rounds(few: usize) -> usize {
    std::env::var("DAVKV_ROUNDS").map_or(few, |rounds| rounds.parse().unwrap())
}

fn millis(random: &mut Random, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(range.start + random.below(range.end - range.start))
}

#[test]
fn a_master_killed_at_random_moments_loses_no_write_and_leaves_no_stray_file() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    let load = Load::new(bench.master.addr(), LONGEST);
    let mut faults = BTreeMap::new();
    for round in 0..rounds(6) {
        let mut since = 0;
        // in each third round, a disk is away from before the end of the old master until after the start of the new
        let disk = Fault::DiskAway(round / 3 % GATED);
        let is_away = round % 3 == 2;
        load.run(&mut random, |random| {
            load.wait_for(usize::try_from(random.below(500)).unwrap());
            if is_away {
                bench.begin(disk, random, &load);
                load.wait_for(usize::try_from(random.below(100)).unwrap());
            }
            since = load.now();
            bench.master.kill();
            load.master_died();
        });
        bench.master.restart();
        load.master_was_away(since);
        *faults.entry(Fault::MasterKilled.kind()).or_default() += 1;
        if is_away {
            bench.end(disk, since, &load);
            *faults.entry(disk.kind()).or_default() += 1;
        }
        bench.assert_tidy_and_explained(&load, audit::TIDY);
    }
    bench.audit(&load);
    report(&load, &faults);
}

#[test]
fn a_master_killed_during_its_recovery_loses_no_write_and_leaves_no_stray_file() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    let load = Load::new(bench.master.addr(), LONGEST);
    load.run(&mut random, |_| {
        load.wait_for(100);
        for _ in 0..5 {
            // when it starts to listen, its recovery has just begun
            bench.master.kill();
            load.master_died();
            bench.master.restart();
        }
        load.wait_for(100);
    });
    bench.audit(&load);
}

#[test]
fn a_master_terminated_under_load_finishes_its_requests() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    let load = Load::new(bench.master.addr(), LONGEST);
    load.run(&mut random, |_| {
        load.wait_for(200);
        assert!(bench.master.terminate().success());
        load.master_died();
    });
    bench.master.restart();
    bench.audit(&load);
}

/// Each time, some writes fail, some of which turn out to have happened; then the master goes on by itself.
#[test]
fn an_index_that_is_full_now_and_then_loses_no_write_and_leaves_no_stray_file() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    if !bench.has_small_disks() {
        return;
    }
    let load = Load::new(bench.master.addr(), LONGEST);
    load.run(&mut random, |random| {
        for _ in 0..rounds(2) {
            load.wait_for(1000);
            let since = load.now();
            bench.begin(Fault::IndexFull, random, &load);
            load.let_pass(millis(random, 100..1500));
            bench.end(Fault::IndexFull, since, &load);
        }
        load.wait_for(1000);
    });
    bench.audit(&load);
}

/// Reads and writes continue while one volume at a time fails.
#[test]
fn volumes_that_fail_one_at_a_time_stop_no_client_and_leave_no_stray_file() {
    let mut random = Random::seeded();
    let (time, long) = time();
    let mut bench = Bench::new();
    let load = Load::new(bench.master.addr(), LONGEST);
    let mut faults = BTreeMap::new();
    load.run(&mut random, |random| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let fault = Fault::draw(random, &bench);
            let since = load.now();
            bench.begin(fault, random, &load);
            load.let_pass(millis(random, 100..2500));
            bench.end(fault, since, &load);
            *faults.entry(fault.kind()).or_default() += 1;
            // long enough for the master to notice the recovery
            load.let_pass(millis(random, 1000..2000));
            load.wait_for(20);
        }
    });
    bench.audit(&load);
    let availability = report(&load, &faults);
    // a short run on a busy machine says nothing about speed, and has too few requests for a percentage
    if long {
        availability.assert_is_as_promised();
    }
}

/// With several faults at a time, some requests get errors, but nothing is wrong, lost or left over.
#[test]
fn nothing_is_lost_or_left_over_with_several_faults_at_once() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    let load = Load::new(bench.master.addr(), LONGEST);
    let mut faults = BTreeMap::new();
    load.run(&mut random, |random| {
        let end = Instant::now() + time().0;
        let mut raging: Vec<(Fault, u64, Instant)> = Vec::new();
        while Instant::now() < end || !raging.is_empty() {
            load.let_pass(millis(random, 20..400));
            let (over, rest): (Vec<_>, Vec<_>) =
                raging.into_iter().partition(|(_, _, until)| *until < Instant::now());
            raging = rest;
            for (fault, since, _) in over {
                bench.end(fault, since, &load);
            }
            let fault = Fault::draw(random, &bench);
            let clashes = raging.iter().any(|(other, _, _)| fault.clashes(*other));
            if raging.len() < VOLUMES && !clashes && Instant::now() < end {
                let since = load.now();
                bench.begin(fault, random, &load);
                raging.push((fault, since, Instant::now() + millis(random, 100..2500)));
                *faults.entry(fault.kind()).or_default() += 1;
            }
        }
    });
    bench.audit(&load);
    report(&load, &faults);
}

#[test]
fn a_full_volume_is_replaced_by_others() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    if !bench.has_small_disks() {
        return;
    }
    let load = Load::new(bench.master.addr(), LONGEST);
    let full = Fault::VolumeFull(VOLUMES - 1);
    load.run(&mut random, |random| {
        bench.begin(full, random, &load);
        let volume = &bench.volumes[VOLUMES - 1];
        eventually("the volume is full", PATIENCE, || volume.log().contains("No space left"));
        load.wait_for(300);
        assert_eq!(load.count("PUT", 507), 0, "PUTs that were answered with 507");
        bench.end(full, 0, &load);
    });
    bench.audit(&load);
}

#[test]
fn needed_full_volumes_cause_507_and_never_a_short_value() {
    let mut random = Random::seeded();
    let mut bench = Bench::new();
    if !bench.has_small_disks() {
        return;
    }
    let load = Load::new(bench.master.addr(), LONGEST);
    let faults =
        [Fault::VolumeFull(3), Fault::VolumeFull(4), Fault::VolumeReplaced(0, bench::Face::Status(507))];
    load.run(&mut random, |random| {
        load.wait_for(100);
        for fault in faults {
            bench.begin(fault, random, &load);
        }
        // small values still find the room of deleted ones; a large one doesn't, whatever they do meanwhile
        let large = request(&bench.master.addr(), "PUT", "/large", &[], &vec![b'x'; 8 << 20]);
        assert_eq!(large.status, 507, "{}", large.text());
        load.wait_for(300);
        for fault in faults {
            bench.end(fault, 0, &load);
        }
        load.wait_for(100);
    });
    bench.audit(&load);
}

/// After the first timeout, the master asks other volumes first, until the hung one answers again.
#[test]
fn only_one_reader_waits_for_a_hung_volume() {
    let tempdir = tempfile::tempdir().unwrap();
    let volumes: Vec<_> =
        (0..3).map(|number| Volume::start(&tempdir.path().join(format!("volume{number}")))).collect();
    let gates: Vec<_> = volumes.iter().map(Gate::before).collect();
    let addresses: Vec<_> = gates.iter().map(Gate::addr).collect();
    let master = Master::start(&tempdir.path().join("db"), &addresses, &[]);
    let ask = |method| request(&master.addr(), method, "/key", &[], b"value");
    assert_eq!(ask("PUT").status, 201);
    let asked = |gate: &Gate| {
        let requests = gate.requests();
        requests.iter().filter(|(method, target, _)| method == "HEAD" && !target.ends_with("/probe")).count()
    };
    let hung = &gates[0];
    hung.order("", Order::Nothing);
    for _ in 0..100 {
        assert_eq!(ask("GET").status, 302);
    }
    assert_eq!(asked(hung), 1, "readers that waited for the hung volume");
    hung.open();
    eventually("readers are sent to it again", PATIENCE, || {
        ask("GET").header("location").unwrap().contains(&addresses[0])
    });
}
