//! What a key's files on the volumes, and perhaps an older index, say of its value.
//!
//! The newest attempt that lies on at least half as many volumes as a value has replicas (rounded
//! up) is the value. A key of which every attempt lies on fewer is suspect: the rest of a failed PUT,
//! of a DELETE, or of damage. All other files are left over, for the reaper.

use crate::index::Entry;
use crate::index::scratch::Found;
use crate::key::Name;
use crate::placement::Place;
use crate::record::{Record, Replica, State};

/// A key's file, and its MD5 where another of the same size has another name.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) found: Found,
    pub(super) md5: Option<[u8; 16]>,
}

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Its record, if it exists.
    pub(super) record: Option<Record>,
    /// Files that the record doesn't vouch for, and no intent of the older index names.
    pub(super) leftovers: Vec<Replica>,
    /// Whether it was found on too few volumes.
    pub(super) suspect: bool,
}

/// Judges a key by its files; `rank` are all places for it, the best first.
pub(super) fn judge(candidates: Vec<Candidate>, old: &Entry, replicas: usize, rank: &[Place]) -> Verdict {
    let doomed = |replica: &Replica| old.intents.iter().any(|intent| intent.files.contains(replica));
    let all: Vec<Replica> = candidates.iter().map(|one| one.found.replica.clone()).collect();
    let (record, suspect) = if let Some(record) = agreed(&candidates, old) {
        (Some(record), false)
    } else {
        let eligible = |one: &Candidate| one.found.size > 0 && !doomed(&one.found.replica);
        by_files(candidates.into_iter().filter(eligible).collect(), replicas, rank)
    };
    let kept: &[Replica] = record.as_ref().map_or(&[], |record| &record.replicas);
    let leftovers = all.into_iter().filter(|file| !kept.contains(file) && !doomed(file)).collect();
    Verdict { record, leftovers, suspect }
}

/// The older index's record with those of its replicas that are there, if any is.
fn agreed(candidates: &[Candidate], old: &Entry) -> Option<Record> {
    let record = old.record.as_ref()?;
    let size_of = |replica: &Replica| {
        let found = candidates.iter().find(|one| one.found.replica == *replica)?.found.size;
        (found > 0 && record.size.is_none_or(|size| size == found)).then_some(found)
    };
    let present: Vec<(Replica, u64)> =
        record.replicas.iter().filter_map(|replica| Some((replica.clone(), size_of(replica)?))).collect();
    let (_, size) = present.iter().max_by_key(|(_, size)| *size)?;
    let size = *size;
    // where minikeyvalue's record knows no size, the shorter ones are torn
    let replicas =
        present.into_iter().filter(|(_, other)| *other == size).map(|(replica, _)| replica).collect();
    Some(Record { replicas, size: Some(size), ..record.clone() })
}

/// Files that hold the same value.
struct Group {
    files: Vec<Candidate>,
}

impl Group {
    fn takes(&self, other: &Candidate) -> bool {
        let (replica, size) = (&other.found.replica, other.found.size);
        self.files.iter().any(|one| {
            let same = match (one.md5, other.md5) {
                (Some(one), Some(other)) => one == other,
                // of one attempt, and not torn
                _ => one.found.replica.name == replica.name,
            };
            same && one.found.size == size
        })
    }

    /// On how many volumes.
    fn volumes(&self) -> usize {
        let mut volumes: Vec<&str> = self.files.iter().map(|one| one.found.replica.place.volume()).collect();
        volumes.sort_unstable();
        volumes.dedup();
        volumes.len()
    }

    /// The newest name; the plain one is the oldest, because it is given only where there is nothing.
    fn generation(&self) -> u64 {
        let generation = |one: &Candidate| match one.found.replica.name {
            Name::Plain => 0,
            Name::Generation(generation) => generation,
        };
        self.files.iter().map(generation).max().unwrap_or(0)
    }

    fn size(&self) -> u64 {
        self.files.first().map_or(0, |one| one.found.size)
    }
}

fn by_files(candidates: Vec<Candidate>, replicas: usize, rank: &[Place]) -> (Option<Record>, bool) {
    let mut groups: Vec<Group> = Vec::new();
    for candidate in candidates {
        match groups.iter_mut().find(|group| group.takes(&candidate)) {
            Some(group) => group.files.push(candidate),
            None => groups.push(Group { files: vec![candidate] }),
        }
    }
    let enough = |group: &Group| group.volumes() >= replicas.div_ceil(2);
    // of one name, the sizes that most volumes have, or else the longer ones: torn files are short
    let newest = |group: &&Group| (group.generation(), group.volumes(), group.size());
    let most = |group: &&Group| (group.volumes(), group.generation(), group.size());
    let live = groups.iter().filter(|group| enough(group)).max_by_key(newest);
    let suspect = live.is_none();
    let Some(group) = live.or_else(|| groups.iter().max_by_key(most)) else { return (None, false) };

    let mut files: Vec<&Candidate> = group.files.iter().collect();
    let place_rank = |one: &&Candidate| {
        let place = &one.found.replica.place;
        let exact = rank.iter().position(|ranked| ranked == place);
        let volume = rank.iter().position(|ranked| ranked.volume() == place.volume());
        // a subvolume where the value wouldn't be put comes after all that it would be
        (exact.is_none(), exact.or(volume).unwrap_or(usize::MAX))
    };
    files.sort_by_key(place_rank);
    files.truncate(replicas);
    let record = Record {
        state: State::Live,
        replicas: files.iter().map(|one| one.found.replica.clone()).collect(),
        md5: files.iter().find_map(|one| one.md5),
        size: Some(group.size()),
        modified: files.iter().filter_map(|one| one.found.modified).max(),
        headers: Vec::new(),
    };
    (Some(record), suspect)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::record::Intent;

    const PLAIN: Name = Name::Plain;
    const NEW: Name = Name::Generation(7);

    fn file(volume: &str, name: Name, size: u64) -> Candidate {
        let replica = Replica { place: Place::new(volume), name };
        Candidate { found: Found { replica, size, modified: Some(5) }, md5: None }
    }

    fn with_md5(volume: &str, name: Name, size: u64, md5: u8) -> Candidate {
        Candidate { md5: Some([md5; 16]), ..file(volume, name, size) }
    }

    fn judged(files: &[Candidate], old: &Entry) -> (Vec<String>, Vec<String>, bool) {
        let rank = ["c", "a", "b", "d"].map(Place::new);
        let verdict = judge(files.to_vec(), old, 3, &rank);
        let show = |replicas: &[Replica]| {
            replicas
                .iter()
                .map(|r| if r.name == PLAIN { r.place.to_string() } else { format!("{},", r.place) })
                .collect()
        };
        (verdict.record.map_or(vec![], |r| show(&r.replicas)), show(&verdict.leftovers), verdict.suspect)
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn half_of_the_replicas_are_enough_and_fewer_are_suspect() {
        let none = Entry::default();
        let all = [file("a", PLAIN, 9), file("b", PLAIN, 9), file("c", PLAIN, 9)];
        assert_eq!(judged(&all, &none), (strings(&["c", "a", "b"]), vec![], false));
        assert_eq!(judged(&all[..2], &none), (strings(&["a", "b"]), vec![], false));
        assert_eq!(judged(&all[..1], &none), (strings(&["a"]), vec![], true));
    }

    #[test]
    fn the_newest_attempt_that_lies_on_enough_volumes_wins() {
        let none = Entry::default();
        let files = [file("a", PLAIN, 9), file("b", PLAIN, 9), file("a", NEW, 8), file("b", NEW, 8)];
        assert_eq!(judged(&files, &none), (strings(&["a,", "b,"]), strings(&["a", "b"]), false));
        assert_eq!(judged(&files[..3], &none), (strings(&["a", "b"]), strings(&["a,"]), false));
    }

    #[test]
    fn equal_bytes_under_different_names_are_one_value() {
        let none = Entry::default();
        let files = [with_md5("a", PLAIN, 9, 1), with_md5("b", NEW, 9, 1), with_md5("c", NEW, 9, 2)];
        assert_eq!(judged(&files, &none), (strings(&["a", "b,"]), strings(&["c,"]), false));
    }

    #[test]
    fn torn_empty_and_surplus_files_are_left_over() {
        let none = Entry::default();
        let torn = [file("a", PLAIN, 9), file("b", PLAIN, 4), file("c", PLAIN, 9)];
        assert_eq!(judged(&torn, &none), (strings(&["c", "a"]), strings(&["b"]), false));
        let empty = [file("a", PLAIN, 0), file("b", PLAIN, 0), file("c", PLAIN, 0)];
        assert_eq!(judged(&empty, &none), (vec![], strings(&["a", "b", "c"]), false));
        let many = ["a", "b", "c", "d"].map(|volume| file(volume, PLAIN, 9));
        assert_eq!(judged(&many, &none), (strings(&["c", "a", "b"]), strings(&["d"]), false));
    }

    #[test]
    fn an_older_index_counts_where_the_files_agree() {
        let record = Record {
            state: State::Unlinked,
            replicas: vec![file("a", PLAIN, 9).found.replica, file("b", PLAIN, 9).found.replica],
            md5: Some([1; 16]),
            size: Some(9),
            modified: Some(3),
            headers: vec![("content-type".into(), "a/b".into())],
        };
        let old = Entry {
            record: Some(record.clone()),
            intents: vec![Intent { id: 1, files: vec![file("c", PLAIN, 9).found.replica] }],
        };
        let files = [file("a", PLAIN, 9), file("b", PLAIN, 9), file("c", PLAIN, 9), file("d", NEW, 9)];
        let verdict = judge(files.to_vec(), &old, 3, &[]);
        assert_eq!(verdict.record.unwrap(), record);
        assert_eq!(
            verdict.leftovers,
            [file("d", NEW, 9).found.replica],
            "what an intent names stays named there"
        );
        // none agrees: the files alone count, without those that are doomed
        assert_eq!(
            judged(&[file("a", PLAIN, 8), file("c", PLAIN, 8)], &old),
            (strings(&["a"]), vec![], true)
        );
    }
}
