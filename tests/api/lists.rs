//! Lists of keys, and all other queries.

use std::collections::BTreeSet;

use davkv::record::State;

use crate::common::http::{Connection, head, request};
use crate::rig::{cluster, cluster_with, keys, list, list_of, master_over, quote, record, refused, refuses};

#[test]
fn list_is_in_byte_order_under_the_prefix() {
    let cluster = cluster_with(&["/b", "/a/2", "/a", "/a/10", "/aa", "/ä", "/Z"]);
    let all = ["/Z", "/a", "/a/10", "/a/2", "/aa", "/b", "/ä"];
    assert_eq!(list(&cluster, "/?list"), (all.map(str::to_owned).to_vec(), String::new()));
    assert_eq!(keys(&cluster, "/a/?list"), ["/a/10", "/a/2"]);
    assert_eq!(keys(&cluster, "/a?list"), ["/a", "/a/10", "/a/2", "/aa"]);
    assert_eq!(keys(&cluster, "/%C3%a4?list"), ["/ä"]);
    assert!(keys(&cluster, "/c?list").is_empty());
}

#[test]
fn list_and_unlinked_are_disjoint() {
    let cluster = cluster_with(&["/a", "/b", "/c", "/d"]);
    for key in ["/b", "/d"] {
        assert_eq!(cluster.request("UNLINK", key, b"").status, 204);
    }
    assert_eq!(keys(&cluster, "/?list"), ["/a", "/c"]);
    assert_eq!(keys(&cluster, "/?unlinked"), ["/b", "/d"]);
    assert_eq!(list(&cluster, "/?unlinked&limit=1"), (vec!["/b".into()], "/d".into()));
}

#[test]
fn an_empty_list_is_complete() {
    let cluster = cluster();
    assert_eq!(cluster.request("GET", "/?list", b"").text().trim(), r#"{"next":"","keys":[]}"#);
}

#[test]
fn start_stays_inside_the_prefix() {
    let cluster = cluster_with(&["/a/1", "/b/1", "/b/2", "/b/3", "/c/1"]);
    for (target, expected) in [
        ("/b/?list&start=/b/2", &["/b/2", "/b/3"][..]),
        ("/b/?list&start=%2Fb%2f11", &["/b/2", "/b/3"]),
        ("/b/?list&start=/a/1", &["/b/1", "/b/2", "/b/3"]),
        ("/b/?list&start=", &["/b/1", "/b/2", "/b/3"]),
        ("/b/?list&start=/b/4", &[]),
        ("/b/?list&start=/c", &[]),
        ("/b/?list&start=%00intent", &["/b/1", "/b/2", "/b/3"]),
        ("/b/?list&start=%FF", &[]),
        ("/b/?start=/b/3&list", &["/b/3"]),
    ] {
        let (found, next) = list(&cluster, target);
        assert_eq!((&*found, &*next), (&*expected.iter().map(|&key| key.to_owned()).collect::<Vec<_>>(), ""));
    }
}

#[test]
fn a_plus_in_start_is_a_space() {
    let cluster = cluster_with(&["/a", "/a b", "/a+b", "/b"]);
    assert_eq!(keys(&cluster, "/?list&start=/a+b"), ["/a b", "/a+b", "/b"]);
    assert_eq!(keys(&cluster, "/?list&start=/a%2Bb"), ["/a+b", "/b"]);
}

#[test]
fn limit_ends_a_page_and_next_continues() {
    let cluster = cluster_with(&["/a", "/b", "/c"]);
    let all = vec!["/a".to_owned(), "/b".into(), "/c".into()];
    assert_eq!(list(&cluster, "/?list&limit=2"), (all[..2].to_vec(), "/c".into()));
    assert_eq!(list(&cluster, "/?list&limit=3"), (all.clone(), String::new()));
    assert_eq!(list(&cluster, "/?list&limit=4"), (all.clone(), String::new()));
    assert_eq!(list(&cluster, "/?list&limit=0"), (all.clone(), String::new()));
    assert_eq!(list(&cluster, "/?list&limit=18446744073709551615"), (all, String::new()));
}

#[test]
fn next_never_leaves_the_prefix() {
    let cluster = cluster_with(&["/a/1", "/a/2", "/b/1"]);
    assert_eq!(list(&cluster, "/a/?list&limit=2").1, "");
}

#[test]
fn pages_return_every_key_once() {
    let cluster = cluster();
    let all: Vec<String> = (0..1100).map(|n| format!("/p/{n:04} ü+&=")).collect();
    let mut connection = Connection::open(None, &cluster.master.addr()).unwrap();
    for key in &all {
        let head = head("x", "PUT", quote(key).as_bytes(), &[], 1);
        connection.send(&[&head, b"v".as_slice()].concat()).unwrap();
        assert_eq!(connection.receive("PUT").unwrap().status, 201);
    }
    for key in all.iter().step_by(7) {
        assert_eq!(cluster.request("UNLINK", &quote(key), b"").status, 204);
    }
    let live: Vec<_> =
        all.iter().enumerate().filter(|(n, _)| n % 7 != 0).map(|(_, key)| key.clone()).collect();
    assert_eq!(keys(&cluster, "/p/?list"), live);
    for limit in [1000, 313, 10] {
        let (mut found, mut start) = (Vec::new(), String::new());
        loop {
            let (page, next) = list(&cluster, &format!("/p/?list&limit={limit}&start={}", quote(&start)));
            found.extend(page);
            if next.is_empty() {
                break;
            }
            start = next;
        }
        assert_eq!(found, live, "limit {limit}");
    }
}

/// The keys fill several index pages, by bytes and by rows. Whole pages of keys that don't match lie at the
/// beginning, in the middle and at the end.
#[test]
fn a_list_is_correct_across_index_pages() {
    let tempdir = tempfile::tempdir().unwrap();
    let state_of = |n: usize| if (n / 21_000).is_multiple_of(2) { State::Unlinked } else { State::Live };
    let key = |n: usize| format!("/{n:06}/{}", "long".repeat(n % 16));
    let rows = (0..105_000).map(|n| (key(n), record(state_of(n)))).collect();
    let master = master_over(&tempdir.path().join("db"), rows);
    let of = |state| (0..105_000).filter(move |n| state_of(*n) == state).map(key);
    for (state, query) in [(State::Live, "list"), (State::Unlinked, "unlinked")] {
        let all: Vec<String> = of(state).collect();
        assert!(list_of(&master, &format!("/?{query}")) == (all.clone(), String::new()), "{query}");
        let (found, next) = list_of(&master, &format!("/?{query}&limit=30000"));
        assert!(found == all[..30_000], "{query} with a limit");
        assert_eq!(next, all[30_000]);
        let (found, next) = list_of(&master, &format!("/?{query}&limit=1&start=/050000"));
        let from = all.iter().position(|key| key.as_str() >= "/050000").unwrap();
        assert_eq!((found, next), (all[from..=from].to_vec(), all[from + 1].clone()));
    }
}

/// Damage is an error at the beginning of a list and a truncated answer later on, never a missing key.
#[test]
fn a_damaged_record_ends_a_list_with_an_error() {
    let tempdir = tempfile::tempdir().unwrap();
    // its flags: of a record that is damaged elsewhere, a list still knows the state
    let mut damaged = record(State::Unlinked);
    damaged[1] = 0xff;
    let mut rows: Vec<_> = (0..30_000).map(|n| (format!("/{n:06}"), record(State::Live))).collect();
    rows.push(("/025000/damaged".to_owned(), damaged));
    let master = master_over(&tempdir.path().join("db"), rows);
    for query in ["list", "unlinked"] {
        refused(&request(&master.addr(), "GET", format!("/025?{query}"), &[], b""), 500);
        refused(&request(&master.addr(), "GET", format!("/025?{query}&limit=100000"), &[], b""), 500);
        let mut connection = Connection::open(None, &master.addr()).unwrap();
        connection.send(&head(&master.addr(), "GET", format!("/?{query}").as_bytes(), &[], 0)).unwrap();
        assert!(connection.receive("GET").is_err(), "{query} looks whole");
    }
    assert_eq!(list_of(&master, "/024?list").0.len(), 1000);
}

#[test]
fn keys_are_escaped_in_json() {
    let odd = ["/\"quoted\"", "/back\\slash", "/\u{2028}", "/a<b>&'", "/日本😀"];
    let cluster = cluster_with(&odd);
    let found: BTreeSet<_> = keys(&cluster, "/?list").into_iter().collect();
    assert_eq!(found, odd.iter().map(|&key| key.to_owned()).collect());
    let (_, next) = list(&cluster, "/%22?list&limit=0");
    assert_eq!(next, "");
    assert_eq!(list(&cluster, "/?list&limit=1"), (vec![odd[0].into()], odd[3].into()));
}

#[test]
fn head_of_a_list_has_no_body() {
    let cluster = cluster_with(&["/a"]);
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    for _ in 0..2 {
        connection.send(&head(&addr, "HEAD", b"/?list", &[], 0)).unwrap();
        let answer = connection.receive("HEAD").unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    }
}

#[test]
fn a_bad_limit_is_400() {
    let cluster = cluster();
    for limit in ["", "-1", "+5", "abc", "1.5", "1e3", "0x10", "%31", " ", "18446744073709551616"] {
        let target = format!("/?list&limit={}", limit.replace(' ', "+"));
        refuses(&cluster, "GET", &target, b"", 400);
    }
}

#[test]
fn an_unknown_query_is_400() {
    let cluster = cluster();
    for query in [
        "foo",
        "list=1",
        "list&foo",
        "list&",
        "list&unlinked",
        "list&list",
        "list&limit=1&limit=1",
        "list&start=/a&start=/a",
        "start=/a",
        "limit=1",
        "list&start=%",
        "list&start=%4",
        "list&start=%GG",
        "LIST",
        "list?",
        "=",
        "&",
    ] {
        refuses(&cluster, "GET", &format!("/?{query}"), b"", 400);
    }
}

#[test]
fn queries_allow_only_get_and_head() {
    let cluster = cluster_with(&["/a"]);
    for method in ["PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE", "POST"] {
        refuses(&cluster, method, "/a?list", b"x", 400);
    }
    assert_eq!(cluster.fetch("/a").text(), "/a");
}
