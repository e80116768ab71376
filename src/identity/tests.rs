//! Golden vectors of the forms, and every line of the table.

use super::*;
use crate::clock::Timestamp;

fn id(digit: u8) -> Id {
    Id::new([digit; 16])
}

/// The marker of a volume that has this subvolume alone.
fn marker(directory: &str) -> Marker {
    marker_of(directory, &[directory])
}

fn marker_of(directory: &str, all: &[&str]) -> Marker {
    Marker {
        store: id(1),
        name: "a:1".into(),
        volume: id(2),
        directory: directory.into(),
        directories: all.iter().map(ToString::to_string).collect(),
        made: Timestamp::from_millis(5),
    }
}

fn known(directories: &[&str]) -> Known {
    let directories = directories.iter().map(ToString::to_string).collect();
    Known { volume: id(2), since: Timestamp::from_millis(5), directories }
}

fn found(found: &[(&str, Found)]) -> Vec<(String, Found)> {
    found.iter().map(|(directory, found)| ((*directory).to_owned(), found.clone())).collect()
}

#[test]
fn the_marker_is_one_line_of_json() {
    let stored = "{\"davkv\":1,\"store\":\"01010101010101010101010101010101\",\"name\":\"a:1\",\
        \"volume\":\"02020202020202020202020202020202\",\"subvolume\":\"/sv03\",\"subvolumes\":[\"/sv03\"],\"made\":5}\n";
    assert_eq!(String::from_utf8_lossy(&marker("/sv03").encode()), stored);
    assert_eq!(Marker::decode(stored.as_bytes()), Ok(marker("/sv03")));
}

#[test]
fn a_marker_that_also_says_who_has_the_volume_is_read() {
    let stored = "{\"davkv\":1,\"store\":\"01010101010101010101010101010101\",\"name\":\"a:1\",\
        \"volume\":\"02020202020202020202020202020202\",\"subvolume\":\"\",\"subvolumes\":[\"\"],\"made\":5,\
        \"master\":{\"line\":\"09090909090909090909090909090909\",\"number\":3},\"ended\":false}\n";
    assert_eq!(Marker::decode(stored.as_bytes()), Ok(marker("")));
}

#[test]
fn the_owner_file_is_one_line_of_json() {
    let stored = "{\"davkv\":1,\"run\":{\"line\":\"09090909090909090909090909090909\",\"number\":3},\
        \"ended\":true}\n";
    let file = OwnerFile { run: Run { line: id(9), number: 3 }, ended: true };
    assert_eq!(String::from_utf8_lossy(&file.encode()), stored);
    assert_eq!(OwnerFile::decode(stored.as_bytes()), Ok(file));
    for garbled in [&b""[..], b"{\"davkv\":1}", b"<html>", &[0; 100]] {
        assert!(matches!(OwnerFile::decode(garbled), Err(MarkerError::Garbled(_))), "{garbled:?}");
    }
}

#[test]
fn the_rows_of_the_index_are_json_too() {
    let stored = "{\"davkv\":1,\"volume\":\"02020202020202020202020202020202\",\"since\":5,\"subvolumes\":[\"/sv00\",\
        \"/sv01\"]}\n";
    assert_eq!(String::from_utf8_lossy(&known(&["/sv00", "/sv01"]).encode()), stored);
    assert_eq!(Known::decode(stored.as_bytes()), Ok(known(&["/sv00", "/sv01"])));
    let run = Run { line: id(9), number: 3 };
    let owner = Owner {
        store: id(1),
        since: Timestamp::from_millis(5),
        run,
        home: "7 8".into(),
        ended: true,
        own_from: 6,
        ancestors: vec![Run { line: id(8), number: 2 }],
    };
    let stored = "{\"davkv\":1,\"store\":\"01010101010101010101010101010101\",\"since\":5,\
        \"run\":{\"line\":\"09090909090909090909090909090909\",\"number\":3},\"home\":\"7 8\",\"ended\":true,\"own_from\":6,\"ancestors\":[{\"line\":\"08080808080808080808080808080808\",\"number\":2}]}\n";
    assert_eq!(String::from_utf8_lossy(&owner.encode()), stored);
    assert_eq!(Owner::decode(stored.as_bytes()), Ok(owner));
}

#[test]
fn a_form_that_cannot_be_read_is_an_error() {
    assert_eq!(Marker::decode(b"{\"davkv\":2}"), Err(MarkerError::Later(2)));
    for garbled in [&b""[..], b"{}", b"{\"davkv\":1}", b"<html>", &[0xff; 8]] {
        assert!(matches!(Marker::decode(garbled), Err(MarkerError::Garbled(_))), "{garbled:?}");
    }
    let short = String::from_utf8_lossy(&marker("").encode()).replace("0101", "01");
    assert!(matches!(Marker::decode(short.as_bytes()), Err(MarkerError::Garbled(_))));
}

#[test]
fn a_marker_of_this_store_and_volume_verifies() {
    let both = found(&[("/sv00", Found::Marker(marker("/sv00"))), ("/sv01", Found::Marker(marker("/sv01")))]);
    let all = known(&["/sv00", "/sv01"]);
    assert_eq!(judge(id(1), "a:1", Some(&all), &both), Verdict::Verified(all.clone()));
    // a rebuilt index takes the volume's word
    assert_eq!(judge(id(1), "a:1", None, &both), Verdict::Verified(all));
}

#[test]
fn an_empty_subvolume_is_new_only_if_the_index_has_not_seen_it() {
    let grown = found(&[("/sv00", Found::Marker(marker("/sv00"))), ("/sv01", Found::Empty)]);
    let new = vec!["/sv01".to_owned()];
    let extended = Verdict::Unmarked { known: Some(known(&["/sv00"])), new, has_values: false };
    assert_eq!(judge(id(1), "a:1", Some(&known(&["/sv00"])), &grown), extended);
    let missing = Verdict::Refused(Problem::Missing { directory: "/sv01".into() });
    assert_eq!(judge(id(1), "a:1", Some(&known(&["/sv00", "/sv01"])), &grown), missing);
}

#[test]
fn whatever_does_not_agree_is_refused() {
    let one = |found: Found| self::found(&[("", found)]);
    let all = known(&[""]);
    let refused = |found, known: Option<&Known>| match judge(id(1), "a:1", known, &one(found)) {
        Verdict::Refused(problem) => problem,
        other => panic!("{other:?}"),
    };
    let foreign = Found::Marker(Marker { store: id(7), ..marker("") });
    for known in [None, Some(&all)] {
        assert_eq!(refused(foreign.clone(), known), Problem::Foreign { store: id(7), ours: id(1) });
    }
    let another = Found::Marker(Marker { volume: id(7), ..marker("") });
    assert_eq!(refused(another, Some(&all)), Problem::Another { volume: id(7), meant: id(2) });
    assert_eq!(refused(Found::Empty, Some(&all)), Problem::Missing { directory: String::new() });
    assert_eq!(refused(Found::Values, Some(&all)), Problem::Unmarked { directory: String::new() });
    let swapped = Found::Marker(marker("/sv05"));
    let problem = Problem::Swapped { directory: String::new(), found: "/sv05".into() };
    assert_eq!(refused(swapped, Some(&all)), problem);
    let error = MarkerError::Later(2);
    let problem = Problem::Unreadable { directory: String::new(), error: error.clone() };
    assert_eq!(refused(Found::Unreadable(error), None), problem);
}

#[test]
fn subvolumes_must_agree_with_each_other() {
    let other = Marker { volume: id(7), ..marker("/sv01") };
    let mixed = found(&[("/sv00", Found::Marker(marker("/sv00"))), ("/sv01", Found::Marker(other))]);
    let problem = Problem::Another { volume: id(7), meant: id(2) };
    assert_eq!(judge(id(1), "a:1", None, &mixed), Verdict::Refused(problem));
    // as a start leaves it that was killed while it wrote the markers
    let half = found(&[("/sv00", Found::Values), ("/sv01", Found::Marker(marker("/sv01")))]);
    let new = vec!["/sv00".to_owned()];
    let unmarked = Verdict::Unmarked { known: Some(known(&["/sv01"])), new, has_values: true };
    assert_eq!(judge(id(1), "a:1", None, &half), unmarked);
}

#[test]
fn a_volume_that_nobody_knows_is_sampled_and_a_swapped_one_is_named() {
    for (one, has_values) in [(Found::Empty, false), (Found::Values, true)] {
        let unmarked = Verdict::Unmarked { known: None, new: vec![String::new()], has_values };
        assert_eq!(judge(id(1), "a:1", None, &found(&[("", one)])), unmarked);
    }
    let swapped = found(&[("", Found::Marker(Marker { name: "b:1".into(), ..marker("") }))]);
    for known in [None, Some(&known(&[""]))] {
        assert_eq!(judge(id(1), "a:1", known, &swapped), Verdict::Named("b:1".into()));
    }
}

#[test]
fn a_new_index_is_made_over_empty_volumes_only() {
    assert_eq!(judge_for_a_new_index(&found(&[("/sv00", Found::Empty), ("/sv01", Found::Empty)])), Ok(()));
    let taken = judge_for_a_new_index(&found(&[("", Found::Marker(marker("")))]));
    assert_eq!(taken, Err(Problem::Taken { store: Some(id(1)) }));
    let taken = judge_for_a_new_index(&found(&[("/sv00", Found::Empty), ("/sv01", Found::Values)]));
    assert_eq!(taken, Err(Problem::Taken { store: None }));
}

#[test]
fn every_problem_is_one_line_with_a_remedy() {
    let directory = String::from("/sv01");
    let problems = [
        Problem::Foreign { store: id(1), ours: id(2) },
        Problem::Another { volume: id(1), meant: id(2) },
        Problem::Missing { directory: directory.clone() },
        Problem::Unmarked { directory: directory.clone() },
        Problem::Swapped { directory: directory.clone(), found: "/sv02".into() },
        Problem::Unreadable { directory, error: MarkerError::Later(2) },
        Problem::Unknown,
        Problem::Sampled { directory: String::new(), found: 1, of: 32 },
        Problem::Elsewhere { name: "b:1".into(), is_used: false },
        Problem::Elsewhere { name: "b:1".into(), is_used: true },
        Problem::Taken { store: Some(id(1)) },
        Problem::Taken { store: None },
    ];
    for problem in problems {
        let text = problem.to_string();
        assert!(text.contains(": ") && !text.contains('\n') && !text.contains("  "), "{text}");
        assert_eq!(text.ends_with("--replaced"), problem.is_of_a_lost_disk(), "{text}");
    }
}

#[test]
fn an_index_knows_the_runs_of_its_own_line_up_to_its_last() {
    let run = |line, number| Run { line: id(line), number };
    assert!(run(1, 3).knows(run(1, 3)) && run(1, 3).knows(run(1, 1)));
    assert!(!run(1, 3).knows(run(1, 4)), "this index is an older copy");
    assert!(!run(1, 3).knows(run(2, 1)), "another copy was used since");
}

#[test]
fn without_an_index_the_markers_tell_which_subvolumes_there_are() {
    let all = ["/sv00", "/sv01"];
    let half = found(&[("/sv00", Found::Marker(marker_of("/sv00", &all))), ("/sv01", Found::Empty)]);
    let missing = Verdict::Refused(Problem::Missing { directory: "/sv01".into() });
    assert_eq!(judge(id(1), "a:1", None, &half), missing);
}

#[test]
fn an_index_in_a_new_line_knows_the_runs_before_it() {
    let run = |line, number| Run { line: id(line), number };
    let since = Timestamp::from_millis(5);
    let owner = |run, ancestors| Owner {
        store: id(1),
        since,
        run,
        home: String::new(),
        ended: true,
        own_from: 0,
        ancestors,
    };
    let first = owner(run(1, 3), Vec::new());
    let second = owner(run(2, 7), first.ancestors_of_a_new_line());
    let third = owner(run(3, 1), second.ancestors_of_a_new_line());
    assert!([run(1, 3), run(2, 7), run(3, 1)].into_iter().all(|marked| third.knows(marked)));
    assert!([run(1, 4), run(2, 8), run(4, 1)].into_iter().all(|marked| !third.knows(marked)));
}
