//! A dry run changes nothing, and predicts the actual run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use davkv::leveldb::{Batch, Database, Options};

use crate::common::Volume;
use crate::rig::{Ended, Random, Rig, contents, rows, rows_of};

#[test]
fn a_dry_run_changes_nothing_and_predicts_the_run() {
    let mut rig = Rig::new(4);
    let model = rig.fill(30, &mut Random::new());
    rig.add_volume();
    // the first volume is drained; on the second, one replica is missing and another torn
    let damaged: Vec<_> = rig.volumes[1].files().into_iter().take(2).collect();
    fs::remove_file(rig.volumes[1].dir().join(&damaged[0].0)).unwrap();
    fs::write(rig.volumes[1].dir().join(&damaged[1].0), &damaged[1].1[1..]).unwrap();
    let wanted = &rig.addresses()[1..];
    let (index, files) = (contents(&rig.db()), rig.files());
    let planned = rig.rebalance(wanted, &["--dry-run"]);
    planned.assert_done();
    assert_eq!(contents(&rig.db()), index);
    assert!(rig.files() == files);
    let done = rig.rebalance(wanted, &[]);
    done.assert_done();
    for name in ["objects", "bytes", "moved", "repaired", "dropped", "failures"] {
        assert_eq!(planned.figure(name), done.figure(name), "{name}");
    }
    assert_eq!(planned.figure("to"), done.figure("copied"));
    assert!(done.figure("moved") > 0 && done.figure("repaired") > 0);
    rig.assert_tidy(wanted, &model);
}

#[test]
fn a_dry_run_reports_the_same_failures_as_the_run() {
    let mut rig = Rig::new(3);
    let model = rig.fill(12, &mut Random::new());
    rig.volumes[0].kill();
    let failed =
        |ended: &Ended| -> BTreeSet<String> { ended.said().into_iter().map(str::to_owned).collect() };
    let planned = rig.rebalance(&rig.addresses(), &["--dry-run"]);
    assert_eq!(planned.code, Some(1), "{planned:?}");
    assert_eq!(planned.figure("failures"), model.len() as u64);
    let done = rig.rebalance(&rig.addresses(), &[]);
    assert_eq!(failed(&planned), failed(&done));
}

/// All files below a directory, with their inodes: one that is written again gets another.
fn all_files(directory: &Path) -> BTreeSet<(PathBuf, u64)> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        } else {
            files.insert((path.clone(), fs::metadata(path).unwrap().ino()));
        }
    }
    files
}

#[test]
fn a_dry_run_adopts_no_volume_and_takes_none_over() {
    let mut rig = Rig::new(3);
    rig.fill(12, &mut Random::new());
    rig.add_volume();
    for is_adopted in [true, false] {
        if !is_adopted {
            // as minikeyvalue and davkv 0.1 leave a store
            rig.volumes.iter().for_each(Volume::unmark);
            let database =
                Database::open(&rig.db(), &Options { create: false, ..Options::default() }).unwrap();
            let mut batch = Batch::new();
            for row in rows_of(&database).into_keys().filter(|row| is_identity(row)) {
                batch.delete(&row);
            }
            database.write(&batch, true).unwrap();
        }
        let files = || rig.volumes.iter().map(|volume| all_files(volume.dir())).collect::<Vec<_>>();
        let (index, before) = (rows(&rig.db()), files());
        assert_eq!(index.keys().any(|row| is_identity(row)), is_adopted);
        let planned = rig.rebalance(&rig.addresses(), &["--dry-run"]);
        planned.assert_done();
        assert!(planned.figure("moved") > 0);
        assert!(rows(&rig.db()) == index);
        assert!(files() == before);
    }
}

fn is_identity(row: &[u8]) -> bool {
    row.starts_with(b"\0store") || row.starts_with(b"\0volume")
}
