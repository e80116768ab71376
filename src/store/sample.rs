//! Whether what lies on a volume without a marker is what an index has there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::replicas::{can_be_file, path};
use crate::identity::Problem;
use crate::index::{Index, IndexError};
use crate::key::PARTS;
use crate::volume::{Volume, VolumeError};

/// So many values are looked for in each subvolume without a marker, and so many of a hundred must be there: damage is
/// rare, and another disk of the same store has half of them at most.
const SAMPLE: usize = 32;
const ENOUGH: usize = 90;

/// So many records are read to find the sample, unless they name no file on the volume.
const SAMPLED_RECORDS: usize = 200_000;

/// Looks for some values that the index has in each of these subvolumes, and tells what is wrong.
pub(crate) async fn sample(
    index: &Index,
    volume: &Arc<Volume>,
    directories: &[String],
    has_values: bool,
) -> Result<Result<Option<Problem>, VolumeError>, IndexError> {
    let files = files_on(index, volume.name(), directories).await?;
    if files.values().all(Vec::is_empty) {
        return Ok(Ok(has_values.then_some(Problem::Unknown)));
    }
    for (directory, files) in files {
        let mut found = 0;
        for path in &files {
            match volume.shows(path).await {
                Ok(shown) => found += usize::from(shown),
                Err(error) => return Ok(Err(error)),
            }
        }
        let of = files.len();
        if found * 100 < of * ENOUGH {
            return Ok(Ok(Some(Problem::Sampled { directory, found, of })));
        }
    }
    Ok(Ok(None))
}

/// The paths of some files that the index has on a volume, by subvolume.
async fn files_on(
    index: &Index,
    volume: &str,
    directories: &[String],
) -> Result<BTreeMap<String, Vec<String>>, IndexError> {
    let mut files: BTreeMap<String, Vec<String>> =
        directories.iter().map(|directory| (directory.clone(), Vec::new())).collect();
    for prefix in [b"/", PARTS] {
        let (mut read, mut start) = (0, Some(Vec::new()));
        while let Some(from) = start {
            let page = index.page(prefix, &from, None).await?;
            read += page.rows.len();
            for (key, record) in page.rows {
                for file in record.replicas.iter().filter(|file| file.place.volume() == volume) {
                    if let Some(files) = files.get_mut(file.place.directory())
                        && files.len() < SAMPLE
                        && can_be_file(&key, file)
                    {
                        files.push(path(&key, file));
                    }
                }
            }
            // an index that has nothing on the volume is read to its end
            let is_enough = read >= SAMPLED_RECORDS && files.values().any(|files| !files.is_empty());
            start = page.next.filter(|_| !is_enough && files.values().any(|files| files.len() < SAMPLE));
        }
    }
    Ok(files)
}
