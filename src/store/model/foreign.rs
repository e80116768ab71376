//! The disks of another store, whose volumes have the same names, and which holds a value under the same key.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::thread;

use super::case::Case;
use super::disks::Files;
use super::setup::options;
use super::step::{Shape, Step};
use super::terms::VOLUMES;
use super::world::Looks;

/// A value that only that store has.
const FOREIGN: usize = 8000;

static DISKS: LazyLock<BTreeMap<String, Files>> = LazyLock::new(|| {
    // in a thread of its own, because whoever asks may be within a runtime
    let lived = thread::spawn(|| {
        let mut case = Case::new(options(&[0, 1, 2, 3, 4]), Looks::Rarely);
        case.let_do([vec![Step::Put(0, FOREIGN, Shape::Whole)]]);
        case.prepare();
        let world = case.world.state();
        VOLUMES.iter().map(|volume| (volume.clone(), world.shown(volume))).collect()
    });
    lived.join().unwrap()
});

/// The other store's disk of the volume of that rank.
pub(super) fn foreign_disk(rank: usize) -> Files {
    DISKS[&VOLUMES[rank]].clone()
}
