//! Decides which of a key's files on the volumes are its value, with the help of an older index if there is one.
//!
//! The value is the newest attempt with files on enough volumes: half as many as a value has replicas,
//! rounded up. If no attempt has enough, the key is suspect: its files are what is left of a failed PUT, of a
//! DELETE, or of damage. All other files are leftovers, which the reaper deletes.
//!
//! An empty file is either an empty value, or what is left of a value after a volume lost power. Empty values
//! never have plain names; an empty file with a generation name is suspect, unless an older index knows it.
//!
//! If the value is the one that the older index knows (even if its replicas moved), the value gets its state, MD5
//! and headers from there, and any number of files is enough. A file that an intent of the older index names is
//! doomed. The exception is a plain name whose file is newer than the older index: there the intent ended and the
//! name was used again, so the intent is ignored.

use crate::clock::Timestamp;
use crate::index::Entry;
use crate::index::scratch::Found;
use crate::key::Name;
use crate::placement::Place;
use crate::record::{Intent, Record, Replica, State};

/// A file of a key, with its MD5 if it had to be compared with others.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) found: Found,
    pub(super) md5: Option<[u8; 16]>,
}

/// A key's entry in the older index.
pub(super) struct Known<'a> {
    pub(super) entry: &'a Entry,
    /// The time of that index's last write, in seconds since 1970.
    pub(super) written: u64,
}

/// The decision about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The key's record; `None` if the key has no value.
    pub(super) record: Option<Record>,
    /// Files that neither the record nor the intents name.
    pub(super) leftovers: Vec<Replica>,
    /// The older index's intents that still apply.
    pub(super) intents: Vec<Intent>,
    /// Whether the value was found on too few volumes.
    pub(super) suspect: bool,
    /// Whether the value is the one that the older index knows.
    pub(super) known: bool,
}

impl Verdict {
    /// Drops the record: the value isn't needed, and its files become leftovers.
    pub(super) fn discard(&mut self) {
        self.leftovers.extend(self.record.take().into_iter().flat_map(|record| record.replicas));
        (self.suspect, self.known) = (false, false);
    }
}

/// Judges a key by its files; `rank` holds the key's place on each volume, the best first.
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
    let counts = |group: &&Group| group.size() > 0 || is_old(group);
    let enough = |group: &&Group| counts(group) && group.volumes() >= replicas.div_ceil(2);
    // the newest name; then the group on most volumes, then the younger, then the longer: torn files are short
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
                // of the same attempt; the size below shows whether one is torn
                _ => one.found.replica.name == replica.name,
            };
            same && one.found.size == size
        })
    }

    /// The number of volumes with a file of the group.
    fn volumes(&self) -> usize {
        let mut volumes: Vec<&str> = self.files.iter().map(|one| one.found.replica.place.volume()).collect();
        volumes.sort_unstable();
        volumes.dedup();
        volumes.len()
    }

    /// The highest generation; a plain name counts as 0, because it is given only to keys without files.
    fn generation(&self) -> u64 {
        let generation = |one: &Candidate| match one.found.replica.name {
            Name::Plain => 0,
            Name::Generation(generation) => generation,
        };
        self.files.iter().map(generation).max().unwrap_or(0)
    }

    /// The oldest file's time, in seconds since 1970.
    fn modified(&self) -> Option<u64> {
        self.files.iter().filter_map(|one| one.found.modified).min()
    }

    fn size(&self) -> u64 {
        self.files.first().map_or(0, |one| one.found.size)
    }

    /// Whether this is the record's value: a file is one that the record names, with the record's size and time,
    /// or is on another volume with the same name, size and time, because a rebalance moved it.
    fn is_of(&self, record: &Record) -> bool {
        self.files.iter().any(|one| {
            let Found { replica, size, modified } = &one.found;
            let written = record.modified.map(Timestamp::seconds);
            let same_time = written.is_none() || modified.is_none() || written == *modified;
            let same_size = record.size.is_none_or(|known| known == *size);
            let all_known = written.is_some() && modified.is_some() && record.size.is_some();
            let same_name = || record.replicas.iter().any(|known| known.name == replica.name);
            same_size && same_time && (record.replicas.contains(replica) || (all_known && same_name()))
        })
    }

    /// The best placed files, at most `replicas`, on different volumes.
    fn best(&self, replicas: usize, rank: &[Place]) -> Vec<Replica> {
        let mut files: Vec<&Replica> = self.files.iter().map(|one| &one.found.replica).collect();
        files.sort_by_key(|replica| {
            let exact = rank.iter().position(|ranked| *ranked == replica.place);
            let volume = rank.iter().position(|ranked| ranked.volume() == replica.place.volume());
            // files in the wrong subvolume come after all files in the right place
            (exact.is_none(), exact.or(volume).unwrap_or(usize::MAX))
        });
        let mut best: Vec<Replica> = Vec::new();
        for replica in files {
            // a second file on the same volume is not another replica
            if best.len() < replicas && !best.iter().any(|one| one.place.volume() == replica.place.volume()) {
                best.push(replica.clone());
            }
        }
        best
    }

    /// A record made from the files alone.
    fn record(&self, replicas: usize, rank: &[Place]) -> Record {
        Record {
            state: State::Live,
            replicas: self.best(replicas, rank),
            md5: self.files.iter().find_map(|one| one.md5),
            size: Some(self.size()),
            // so that the value isn't older than the file that it came from
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
    fn torn_empty_and_surplus_files_are_leftovers() {
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
    fn an_older_index_adds_state_md5_and_headers() {
        let files = [file("a", PLAIN, 9), file("b", PLAIN, 9), file("c", PLAIN, 9), file("d", NEW, 8)];
        let verdict = judge(files.to_vec(), &Known { entry: &old(), written: 5 }, 3, &[]);
        assert_eq!(verdict.record, old().record);
        assert_eq!(verdict.intents, old().intents);
        assert_eq!(verdict.leftovers, [file("d", NEW, 8).found.replica], "an intent's file is no leftover");
    }

    #[test]
    fn one_file_is_enough_if_the_older_index_knows_the_value() {
        assert_eq!(judged(&[file("b", PLAIN, 9)], &old()), (strings(&["b"]), vec![], false));
        // a file of another size is suspect
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
    fn a_value_whose_replicas_all_moved_is_known_by_name_size_and_time() {
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
        // minikeyvalue's records have no time
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
    fn an_intent_with_generation_names_applies_to_newer_files_too() {
        let files = ["a", "b", "c"].map(|volume| written_at(7, &file(volume, NEW, 9)));
        let replicas = files.iter().map(|file| file.found.replica.clone()).collect();
        let doomed = Entry { record: None, intents: vec![Intent { id: 1, files: replicas }] };
        let verdict = judge(files.to_vec(), &Known { entry: &doomed, written: 6 }, 3, &[]);
        assert_eq!((verdict.record, verdict.intents), (None, doomed.intents));
    }

    #[test]
    fn a_remaining_file_of_an_older_value_does_not_displace_a_newer_one() {
        let files = [file("a", PLAIN, 9), file("a", NEW, 8), file("b", NEW, 8), file("d", NEW, 8)];
        assert_eq!(judged(&files, &old()), (strings(&["a,", "b,", "d,"]), strings(&["a"]), false));
    }

    #[test]
    fn a_file_that_an_intent_of_the_older_index_names_is_not_revived() {
        let doomed = Entry { record: None, ..old() };
        assert_eq!(judged(&[file("c", PLAIN, 9)], &doomed), (vec![], vec![], false));
    }
}
