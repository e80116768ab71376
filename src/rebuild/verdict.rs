//! What a key's files on the volumes, and perhaps an older index, say of its value.
//!
//! The newest attempt that lies on at least half as many volumes as a value has replicas (rounded
//! up) is the value. A key of which every attempt lies on fewer is suspect: the rest of a failed PUT,
//! of a DELETE, or of damage. All other files are left over, for the reaper.
//!
//! An empty file may be an empty value, or what a volume that lost its power kept of any. No empty value has
//! a plain name; with a name of its own it is suspect, unless an older index knows it.
//!
//! An older index adds what files can't tell, to the value that it knows, moved or not: its state, MD5 and headers,
//! and that few files are enough. What its intents name is doomed, unless it was written after that
//! index was: then the intent ended meanwhile and the name was used again, as plain names are, and it counts
//! for nothing.

use crate::clock::Timestamp;
use crate::index::Entry;
use crate::index::scratch::Found;
use crate::key::Name;
use crate::placement::Place;
use crate::record::{Intent, Record, Replica, State};

/// A key's file, and its MD5 where another of the same size has another name.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) found: Found,
    pub(super) md5: Option<[u8; 16]>,
}

/// What an older index says of a key.
pub(super) struct Known<'a> {
    pub(super) entry: &'a Entry,
    /// The last second, since 1970, in which that index was written.
    pub(super) written: u64,
}

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Its record, if it exists.
    pub(super) record: Option<Record>,
    /// Files that the record doesn't vouch for, and none of the intents names.
    pub(super) leftovers: Vec<Replica>,
    /// What still counts of the older index's intents.
    pub(super) intents: Vec<Intent>,
    /// Whether it was found on too few volumes.
    pub(super) suspect: bool,
    /// Whether the record is of the value that the older index knows.
    pub(super) known: bool,
}

impl Verdict {
    /// Nobody wants the value any more: its files are left over.
    pub(super) fn discard(&mut self) {
        self.leftovers.extend(self.record.take().into_iter().flat_map(|record| record.replicas));
        (self.suspect, self.known) = (false, false);
    }
}

/// Judges a key by its files; `rank` are all places for it, the best first.
pub(super) fn judge(
    candidates: Vec<Candidate>,
    known: &Known<'_>,
    replicas: usize,
    rank: &[Place],
) -> Verdict {
    let mut intents = known.entry.intents.clone();
    for intent in &mut intents {
        intent.files.retain(|file| {
            let newer = |one: &Candidate| one.found.modified.is_some_and(|time| time > known.written);
            let is_used_again = |one: &Candidate| one.found.replica == *file && newer(one);
            file.name != Name::Plain || !candidates.iter().any(is_used_again)
        });
    }
    intents.retain(|intent| !intent.files.is_empty());
    let doomed = |replica: &Replica| intents.iter().any(|intent| intent.files.contains(replica));
    let all: Vec<Replica> = candidates.iter().map(|one| one.found.replica.clone()).collect();
    let empty = |one: &Candidate| one.found.size == 0 && one.found.replica.name == Name::Plain;
    let eligible = |one: &Candidate| !empty(one) && !doomed(&one.found.replica);
    let groups = grouped(candidates.into_iter().filter(eligible));

    let old = known.entry.record.as_ref();
    let is_old = |group: &&Group| old.is_some_and(|record| group.is_of(record));
    let told_from_torn = |group: &&Group| group.size() > 0 || is_old(group);
    let enough = |group: &&Group| told_from_torn(group) && group.volumes() >= replicas.div_ceil(2);
    // of one name, what most volumes have, or else what is younger, or longer: torn files are short
    let newest = |group: &&Group| (group.generation(), group.volumes(), group.modified(), group.size());
    let most = |group: &&Group| {
        (group.size() > 0, group.volumes(), group.generation(), group.modified(), group.size())
    };
    let trusted = groups.iter().filter(enough).max_by_key(newest).or_else(|| groups.iter().find(is_old));
    let suspect = trusted.is_none();
    let chosen = trusted.or_else(|| groups.iter().max_by_key(most));

    let record = chosen.map(|group| match old.filter(|_| is_old(&group)) {
        Some(old) => Record { replicas: group.best(replicas, rank), size: Some(group.size()), ..old.clone() },
        None => group.record(replicas, rank),
    });
    let kept: &[Replica] = record.as_ref().map_or(&[], |record| &record.replicas);
    let leftovers = all.into_iter().filter(|file| !kept.contains(file) && !doomed(file)).collect();
    let suspect = suspect && record.is_some();
    let known = chosen.is_some_and(|group| is_old(&group));
    Verdict { record, leftovers, intents, suspect, known }
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

    /// No file of it is older; in seconds since 1970.
    fn modified(&self) -> Option<u64> {
        self.files.iter().filter_map(|one| one.found.modified).min()
    }

    fn size(&self) -> u64 {
        self.files.first().map_or(0, |one| one.found.size)
    }

    /// Whether it holds a file that the record names, of the size and time that the record knows; or one that
    /// was moved since: a copy has the time of the value, and mostly its name.
    fn is_of(&self, record: &Record) -> bool {
        self.files.iter().any(|one| {
            let Found { replica, size, modified } = &one.found;
            let written = record.modified.map(Timestamp::seconds);
            let same_time = written.is_none() || modified.is_none() || written == *modified;
            let same_size = record.size.is_none_or(|known| known == *size);
            let is_told = written.is_some() && modified.is_some() && record.size.is_some();
            let same_name = || record.replicas.iter().any(|known| known.name == replica.name);
            same_size && same_time && (record.replicas.contains(replica) || (is_told && same_name()))
        })
    }

    /// Its files, those first that lie where the value would be put.
    fn best(&self, replicas: usize, rank: &[Place]) -> Vec<Replica> {
        let mut files: Vec<&Replica> = self.files.iter().map(|one| &one.found.replica).collect();
        files.sort_by_key(|replica| {
            let exact = rank.iter().position(|ranked| *ranked == replica.place);
            let volume = rank.iter().position(|ranked| ranked.volume() == replica.place.volume());
            // a subvolume where the value wouldn't be put comes after all that it would be
            (exact.is_none(), exact.or(volume).unwrap_or(usize::MAX))
        });
        let mut best: Vec<Replica> = Vec::new();
        for replica in files {
            // a second file on a volume is no second replica
            if best.len() < replicas && !best.iter().any(|one| one.place.volume() == replica.place.volume()) {
                best.push(replica.clone());
            }
        }
        best
    }

    /// A record of what the files alone can tell.
    fn record(&self, replicas: usize, rank: &[Place]) -> Record {
        Record {
            state: State::Live,
            replicas: self.best(replicas, rank),
            md5: self.files.iter().find_map(|one| one.md5),
            size: Some(self.size()),
            // no reader takes the value for older than the file that it was made from
            modified: self.modified().map(Timestamp::end_of_second),
            headers: Vec::new(),
        }
    }
}

fn grouped(candidates: impl Iterator<Item = Candidate>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for candidate in candidates {
        match groups.iter_mut().find(|group| group.takes(&candidate)) {
            Some(group) => group.files.push(candidate),
            None => groups.push(Group { files: vec![candidate] }),
        }
    }
    groups
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
        let verdict = judge(files.to_vec(), &Known { entry: old, written: 5 }, 3, &rank);
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
    fn an_empty_value_is_suspect_unless_an_older_index_knows_it() {
        let files = [file("a", NEW, 0), file("b", NEW, 0), file("c", NEW, 0)];
        let there = strings(&["c,", "a,", "b,"]);
        assert_eq!(judged(&files, &Entry::default()), (there.clone(), vec![], true));
        let replicas = files.iter().map(|file| file.found.replica.clone()).collect();
        let (md5, size, modified) = (None, Some(0), Some(Timestamp::from_seconds(5)));
        let record = Record { state: State::Live, replicas, md5, size, modified, headers: Vec::new() };
        let known = Entry { record: Some(record), intents: Vec::new() };
        assert_eq!(judged(&files, &known), (there, vec![], false));
    }

    #[test]
    fn empty_files_never_outvote_a_whole_one() {
        let none = Entry::default();
        for name in [NEW, PLAIN] {
            let whole = if name == NEW { "c," } else { "c" };
            let torn = [file("a", NEW, 0), file("b", NEW, 0), file("c", name, 9)];
            assert_eq!(judged(&torn, &none), (strings(&[whole]), strings(&["a,", "b,"]), true));
            assert_eq!(judged(&torn[1..], &none), (strings(&[whole]), strings(&["b,"]), true));
        }
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

    /// An older index that knows the value under its plain name on a and b, and has an intent for c.
    fn old() -> Entry {
        let record = Record {
            state: State::Unlinked,
            replicas: vec![file("a", PLAIN, 9).found.replica, file("b", PLAIN, 9).found.replica],
            md5: Some([1; 16]),
            size: Some(9),
            modified: Some(Timestamp::from_millis(5123)),
            headers: vec![("content-type".into(), "a/b".into())],
        };
        let intents = vec![Intent { id: 1, files: vec![file("c", PLAIN, 9).found.replica] }];
        Entry { record: Some(record), intents }
    }

    fn written_at(time: u64, one: &Candidate) -> Candidate {
        let mut one = one.clone();
        one.found.modified = Some(time);
        one
    }

    #[test]
    fn an_older_index_tells_what_files_can_not() {
        let files = [file("a", PLAIN, 9), file("b", PLAIN, 9), file("c", PLAIN, 9), file("d", NEW, 8)];
        let verdict = judge(files.to_vec(), &Known { entry: &old(), written: 5 }, 3, &[]);
        assert_eq!(verdict.record, old().record);
        assert_eq!(verdict.intents, old().intents);
        assert_eq!(verdict.leftovers, [file("d", NEW, 8).found.replica], "what an intent names stays there");
    }

    #[test]
    fn few_files_are_enough_where_an_older_index_vouches() {
        assert_eq!(judged(&[file("b", PLAIN, 9)], &old()), (strings(&["b"]), vec![], false));
        // and none that it vouches for is as suspect as ever
        assert_eq!(judged(&[file("b", PLAIN, 8)], &old()), (strings(&["b"]), vec![], true));
    }

    #[test]
    fn replicas_that_moved_since_the_older_index_are_kept() {
        let files = [file("a", PLAIN, 9), file("d", PLAIN, 9), file("e", PLAIN, 9)];
        let verdict = judge(files.to_vec(), &Known { entry: &old(), written: 5 }, 3, &[]);
        assert_eq!(verdict.record.as_ref().map(|record| record.replicas.len()), Some(3));
        assert_eq!(verdict.record.and_then(|record| record.md5), Some([1; 16]));
        assert_eq!(verdict.leftovers, []);
    }

    #[test]
    fn a_value_of_which_all_replicas_moved_since_is_known_by_its_name_its_size_and_its_time() {
        let moved = ["d", "e", "f"].map(|volume| file(volume, PLAIN, 9));
        let judged = |files: &[Candidate], old: &Entry| {
            judge(files.to_vec(), &Known { entry: old, written: 5 }, 3, &[]).record.unwrap()
        };
        let record = judged(&moved, &old());
        assert_eq!((record.state, record.headers.len(), record.replicas.len()), (State::Unlinked, 1, 3));

        let later = moved.each_ref().map(|one| written_at(6, one));
        let longer = ["d", "e", "f"].map(|volume| file(volume, PLAIN, 8));
        let renamed = ["d", "e", "f"].map(|volume| file(volume, NEW, 9));
        for others in [later, longer, renamed] {
            assert_eq!(judged(&others, &old()).headers, []);
        }
        // minikeyvalue's records know no time
        let mut unsure = old();
        unsure.record.as_mut().unwrap().modified = None;
        assert_eq!(judged(&moved, &unsure).headers, []);
    }

    #[test]
    fn a_value_written_since_the_older_index_is_another_one() {
        let files = ["a", "b", "c"].map(|volume| written_at(7, &file(volume, PLAIN, 9)));
        let verdict = judge(files.to_vec(), &Known { entry: &old(), written: 6 }, 3, &[]);
        let record = verdict.record.unwrap();
        assert_eq!((record.state, record.md5, record.replicas.len()), (State::Live, None, 3));
        assert_eq!(record.modified, Some(Timestamp::from_millis(7999)), "no earlier than its PUT");
        assert_eq!(
            (verdict.intents, verdict.leftovers),
            (vec![], vec![]),
            "the intent's name was used again"
        );
    }

    #[test]
    fn a_name_of_an_attempt_of_its_own_is_not_used_again() {
        let files = ["a", "b", "c"].map(|volume| written_at(7, &file(volume, NEW, 9)));
        let replicas = files.iter().map(|file| file.found.replica.clone()).collect();
        let doomed = Entry { record: None, intents: vec![Intent { id: 1, files: replicas }] };
        let verdict = judge(files.to_vec(), &Known { entry: &doomed, written: 6 }, 3, &[]);
        assert_eq!((verdict.record, verdict.intents), (None, doomed.intents));
    }

    #[test]
    fn the_rest_of_an_older_value_does_not_displace_a_newer_one() {
        let files = [file("a", PLAIN, 9), file("a", NEW, 8), file("b", NEW, 8), file("d", NEW, 8)];
        assert_eq!(judged(&files, &old()), (strings(&["a,", "b,", "d,"]), strings(&["a"]), false));
    }

    #[test]
    fn what_an_intent_of_the_older_index_names_is_not_revived() {
        let doomed = Entry { record: None, ..old() };
        assert_eq!(judged(&[file("c", PLAIN, 9)], &doomed), (vec![], vec![], false));
    }
}
