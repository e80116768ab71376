//! The thrasher, run as an operator runs it: against a working store, and against wrong answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod common;

use std::process::{Command, Stdio};

use common::{Cluster, Fake, Recorded, Reply, Volume, free_port};
use serde_json::Value;

/// Exit code and output of the thrasher.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    /// Asserts that it succeeded, and that its last two lines have minikeyvalue's form.
    #[track_caller]
    fn assert_closing(&self, count: u64, done: &str) {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        let lines: Vec<_> = self.out.lines().collect();
        let [.., first, last] = lines[..] else { panic!("{self:?}") };
        assert!(first.starts_with(&format!("{count} {done} in ")), "{self:?}");
        let rate = last.strip_prefix("thats ").and_then(|rest| rest.strip_suffix("/sec"));
        assert!(rate.unwrap().parse::<f64>().unwrap() > 0.0, "{self:?}");
    }

    /// Asserts that it failed with one line that contains these parts.
    #[track_caller]
    fn assert_one_line(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.starts_with("davkv-thrasher: "), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in {self:?}");
        }
        assert!(!self.out.contains("thats"), "{self:?}");
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn thrash(flags: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_davkv-thrasher"));
    let output = command.args(flags).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

// Runs against a working store.

#[track_caller]
fn keys(cluster: &Cluster) -> Vec<String> {
    let list = |query: &str| -> Vec<String> {
        let answer = cluster.request("GET", query, b"");
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        list["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
    };
    [list("/?list"), list("/?unlinked")].concat()
}

#[track_caller]
fn assert_empty(cluster: &Cluster) {
    assert!(keys(cluster).is_empty());
    assert_no_files(&cluster.volumes);
}

#[track_caller]
fn assert_no_files(volumes: &[Volume]) {
    assert!(volumes.iter().all(|volume| volume.files().is_empty()));
}

/// A run against a cluster, with these additional flags.
fn thrash_cluster(cluster: &Cluster, flags: &[&str]) -> Ended {
    thrash(&[&["--url", &cluster.master.url()], flags].concat())
}

/// Asserts that a run with these flags succeeds with these last lines, and leaves nothing.
#[track_caller]
fn assert_leaves_nothing(flags: &[&str], count: u64, done: &str) -> Ended {
    let cluster = Cluster::new(3, &[]);
    let ended = thrash_cluster(&cluster, flags);
    ended.assert_closing(count, done);
    assert_empty(&cluster);
    ended
}

fn addresses(volumes: &[Volume]) -> String {
    volumes.iter().map(Volume::addr).collect::<Vec<_>>().join(",")
}

#[test]
fn the_default_load_is_minikeyvalues_and_leaves_nothing() {
    let ended = assert_leaves_nothing(&["--count", "100"], 100, "write/read/delete");
    assert!(
        ended.out.starts_with("starting thrasher\nthrash: 100 keys, values of 16 bytes, 16 clients, seed ")
    );
    for operation in ["PUT ", "GET ", "DELETE "] {
        assert!(ended.out.lines().any(|line| line.starts_with(operation)), "{operation}: {ended:?}");
    }
}

#[test]
fn there_may_be_fewer_keys_than_clients() {
    assert_leaves_nothing(&["--count", "1", "--concurrency", "50"], 1, "write/read/delete");
}

#[test]
fn large_values_are_compared_to_the_last_byte() {
    let ended = assert_leaves_nothing(&["--count", "8", "--size", "3MiB"], 8, "write/read/delete");
    assert!(ended.out.contains(" MiB/s of values\n"), "{ended:?}");
}

#[test]
fn mode_put_leaves_the_values() {
    let cluster = Cluster::new(3, &[]);
    thrash_cluster(&cluster, &["--count", "20", "--mode", "put"]).assert_closing(20, "write");
    assert_eq!(keys(&cluster).len(), 20);
    assert!(keys(&cluster).iter().all(|key| key.starts_with("/benchmark-")));
}

#[test]
fn mode_get_reads_and_leaves_nothing() {
    assert_leaves_nothing(&["--count", "20", "--mode", "get"], 20, "read");
}

#[test]
fn mode_missing_gets_keys_that_do_not_exist() {
    assert_leaves_nothing(&["--count", "20", "--mode", "missing"], 20, "missing");
}

#[test]
fn mode_redirect_stops_at_the_redirect_and_leaves_nothing() {
    assert_leaves_nothing(&["--count", "20", "--mode", "redirect"], 20, "redirect");
}

#[test]
fn mode_delete_deletes_the_keys_that_it_put() {
    assert_leaves_nothing(&["--count", "20", "--mode", "delete"], 20, "delete");
}

#[test]
fn existing_keys_are_used_and_kept_until_deleted() {
    let cluster = Cluster::new(3, &[]);
    let run = |mode, done, flags: &[&str]| {
        let flags = [&["--count", "20", "--seed", "7", "--mode", mode], flags].concat();
        thrash_cluster(&cluster, &flags).assert_closing(20, done);
    };
    run("put", "write", &[]);
    for (mode, done) in [("get", "read"), ("redirect", "redirect")] {
        run(mode, done, &["--existing"]);
        assert_eq!(keys(&cluster).len(), 20, "after {mode}");
    }
    run("delete", "delete", &["--existing"]);
    assert_empty(&cluster);
}

#[test]
fn repeated_runs_are_counted() {
    let cluster = Cluster::new(3, &[]);
    for (mode, done) in
        [("get", "read"), ("missing", "missing"), ("redirect", "redirect"), ("list", "listed")]
    {
        thrash_cluster(&cluster, &["--count", "5", "--repeat", "8", "--mode", mode]).assert_closing(40, done);
    }
    assert_empty(&cluster);
}

#[test]
fn mode_list_counts_its_own_keys_and_deletes_them() {
    let cluster = Cluster::new(3, &[]);
    assert_eq!(cluster.request("PUT", "/benchmark-other", b"value").status, 201);
    thrash_cluster(&cluster, &["--count", "20", "--mode", "list"]).assert_closing(20, "listed");
    assert_eq!(keys(&cluster), ["/benchmark-other"]);
}

#[test]
fn a_seed_repeats_the_keys() {
    let cluster = Cluster::new(3, &[]);
    let flags = ["--count", "5", "--mode", "put", "--seed", "7", "--concurrency", "1"];
    thrash_cluster(&cluster, &flags).assert_closing(5, "write");
    let first = keys(&cluster);
    thrash_cluster(&cluster, &flags).assert_one_line(1, &["PUT /benchmark-", "expected 201, got 403"]);
    assert_eq!(keys(&cluster), first);
}

#[test]
fn direct_works_without_a_master() {
    let tempdir = tempfile::tempdir().unwrap();
    let start = |n: usize| Volume::start(&tempdir.path().join(n.to_string()));
    let volumes: Vec<_> = (0..4).map(start).collect();
    let of_no_store = thrash(&["--direct", &addresses(&volumes), "--count", "1"]);
    of_no_store.assert_one_line(1, &["503", "start a master on it once"]);
    let subvolumes: Vec<String> = (0..10).map(|number| format!("sv{number:02X}")).collect();
    let subvolumes: Vec<&str> = subvolumes.iter().map(String::as_str).collect();
    for volume in &volumes {
        volume.mark(&subvolumes);
    }
    let ended = thrash(&["--direct", &addresses(&volumes), "--count", "50"]);
    ended.assert_closing(50, "write/read/delete");
    assert!(!ended.out.contains("master"), "{ended:?}");
    assert_no_files(&volumes);
}

#[test]
fn direct_takes_replicas_subvolumes_and_heads() {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start(tempdir.path());
    volume.mark(&[""]);
    let (direct, flags) = (volume.addr(), ["--replicas", "1", "--subvolumes", "1", "--mode", "put"]);
    thrash(&[&["--direct", &direct, "--count", "5"], &flags[..]].concat()).assert_closing(5, "write");
    let paths: Vec<_> = volume.files().into_iter().map(|(path, _)| path).collect();
    assert!(paths.len() == 5 && paths.iter().all(|path| !path.starts_with("sv")), "{paths:?}");
    volume.mark(&["sv00", "sv01", "sv02", "sv03", "sv04", "sv05", "sv06", "sv07", "sv08", "sv09"]);
    let flags = ["--replicas", "1", "--direct-head", "--mode", "get"];
    thrash(&[&["--direct", &direct, "--count", "5"], &flags[..]].concat()).assert_closing(5, "read");
}

#[test]
fn direct_with_a_master_ends_with_the_ratio_of_both_runs() {
    let cluster = Cluster::new(3, &[]);
    let ended = thrash_cluster(&cluster, &["--direct", &addresses(&cluster.volumes), "--count", "50"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.out.matches("50 write/read/delete in ").count(), 2, "{ended:?}");
    let last = ended.out.lines().last().unwrap();
    let ratio = last.strip_prefix("master/direct ").unwrap().split(' ').next().unwrap();
    assert!(ratio.parse::<f64>().unwrap() > 0.0, "{ended:?}");
    assert_empty(&cluster);
}

#[test]
fn json_is_one_object_with_percentiles() {
    let cluster = Cluster::new(3, &[]);
    let json = thrash_cluster(&cluster, &["--json", "--count", "30", "--seed", "9", "--size", "4KiB"]).json();
    for (name, value) in [("count", 30), ("concurrency", 16), ("size", 4096), ("seed", 9)] {
        assert_eq!(json[name], value, "{name}");
    }
    assert_eq!(json["mode"], "thrash");
    assert!(json["master"]["per_second"].as_f64().unwrap() > 0.0);
    for operation in ["PUT", "GET", "DELETE"] {
        let figures = ["p50", "p90", "p99", "p99.9", "max"]
            .map(|name| json["master"]["latencies_us"][operation][name].as_f64().unwrap());
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{operation}: {figures:?}");
    }
    assert!(json.get("direct").is_none() && json.get("master/direct").is_none());
}

#[test]
fn json_has_both_runs_and_their_ratio() {
    let cluster = Cluster::new(3, &[]);
    let direct = addresses(&cluster.volumes);
    let json = thrash_cluster(&cluster, &["--json", "--count", "30", "--direct", &direct]).json();
    let rate = |target: &str| json[target]["per_second"].as_f64().unwrap();
    let ratio = json["master/direct"].as_f64().unwrap();
    assert!((ratio - rate("master") / rate("direct")).abs() < 1e-9, "{json}");
    assert_empty(&cluster);
}

// Runs against wrong answers.

fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    Reply::Raw([head.as_bytes(), body.as_bytes()].concat())
}

/// Asserts that a run ends with a line that contains these parts. The master answers correctly except where
/// `wrong` decides, and the volume answers GETs with `value`.
#[track_caller]
fn assert_fails(
    flags: &[&str],
    wrong: impl Fn(&Recorded) -> Option<Reply> + Send + Sync + 'static,
    value: Reply,
    parts: &[&str],
) {
    let volume = Fake::new(move |_| value.clone());
    let location = format!("Location: http://{}/values\r\n", volume.addr());
    let master = Fake::new(move |request| {
        wrong(request).unwrap_or_else(|| match request.method.as_str() {
            "PUT" => Reply::Status(201),
            "GET" => answer("302 Found", &location, ""),
            _ => Reply::Status(204),
        })
    });
    let url = format!("http://{}", master.addr());
    let ended =
        thrash(&[&["--url", &url, "--count", "1", "--concurrency", "1", "--seed", "5"], flags].concat());
    ended.assert_one_line(1, parts);
}

/// Asserts that a run reports this answer of the master to requests of that method.
#[track_caller]
fn assert_master_fails(method: &'static str, reply: Reply, parts: &[&str]) {
    let wrong = move |request: &Recorded| (request.method == method).then(|| reply.clone());
    assert_fails(&[], wrong, Reply::Status(500), parts);
}

/// Asserts that a run reports this answer of the volume to a GET.
#[track_caller]
fn assert_value_fails(reply: Reply, parts: &[&str]) {
    assert_fails(&[], |_| None, reply, &[&["GET /benchmark-", "/values: expected 200"], parts].concat());
}

#[test]
fn a_refused_put_is_reported_with_its_reason() {
    let reply = answer("503 Service Unavailable", "", "too few volumes\nare up\u{1b}[31m\n");
    assert_master_fails(
        "PUT",
        reply,
        &["PUT /benchmark-", "expected 201, got 503", r"too few volumes\nare up\u{1b}[31m"],
    );
}

#[test]
fn an_error_at_an_upload_is_reported() {
    assert_master_fails("PUT", Reply::Status(500), &["PUT /benchmark-", "expected 201, got 500"]);
}

#[test]
fn an_unexpected_success_status_of_an_upload_is_reported() {
    assert_master_fails("PUT", Reply::Status(200), &["expected 201, got 200"]);
}

#[test]
fn an_upload_without_an_answer_is_reported() {
    assert_master_fails("PUT", Reply::CloseAfter(16), &["PUT /benchmark-", "expected 201, got "]);
}

#[test]
fn an_answer_that_is_not_http_is_reported() {
    assert_master_fails("PUT", Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), &["expected 201, got "]);
}

#[test]
fn an_error_instead_of_a_redirect_is_reported() {
    assert_master_fails("GET", Reply::Status(404), &["GET /benchmark-", "expected 302", "got 404"]);
}

#[test]
fn a_redirect_without_a_location_is_reported() {
    assert_master_fails("GET", answer("302 Found", "", ""), &["got 302 without a Location"]);
}

#[test]
fn a_redirect_to_an_invalid_location_is_reported() {
    assert_master_fails("GET", answer("302 Found", "Location: /here\r\n", ""), &["got 302 to /here"]);
}

#[test]
fn wrong_bytes_are_reported() {
    assert_value_fails(
        answer("200 OK", "", "sixteen bytes at"),
        &["got 200 and, from byte 0 on, \"sixteen bytes at\""],
    );
}

#[test]
fn too_few_bytes_are_reported() {
    assert_value_fails(answer("200 OK", "", ""), &["got 200 and 0 bytes"]);
}

#[test]
fn a_truncated_body_is_reported() {
    let cut = Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n".to_vec());
    assert_value_fails(cut, &["got 200, 0 bytes, then "]);
}

#[test]
fn an_error_of_the_volume_is_reported() {
    assert_value_fails(Reply::Status(500), &["got 500"]);
}

#[test]
fn a_volume_that_closes_the_connection_is_reported() {
    assert_value_fails(Reply::CloseAfter(0), &["got "]);
}

#[test]
fn a_key_that_should_be_missing_is_reported() {
    assert_fails(&["--mode", "missing"], |_| None, Reply::Status(500), &["expected 404, got 302"]);
}

/// Asserts that a run with one key reports this list.
#[track_caller]
fn assert_list_fails(body: &'static str, parts: &[&str]) {
    let wrong = move |request: &Recorded| (request.method == "GET").then(|| answer("200 OK", "", body));
    assert_fails(
        &["--mode", "list"],
        wrong,
        Reply::Status(500),
        &[&["expected 200 and a list of 1 keys"], parts].concat(),
    );
}

#[test]
fn a_list_that_lacks_keys_is_reported() {
    assert_list_fails(r#"{"next":"","keys":[]}"#, &["got 200 and a list of 0 keys"]);
}

#[test]
fn a_truncated_list_is_reported() {
    assert_list_fails(r#"{"next":"","keys":["/a""#, &["got 200 and a list cut short after 1 keys"]);
}

#[test]
fn an_answer_that_is_not_a_list_is_reported() {
    assert_list_fails("<html></html>", &["got 200 and something that isn't a list"]);
}

#[test]
fn a_master_that_is_down_is_reported() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let ended = thrash(&["--url", &url, "--count", "1"]);
    ended.assert_one_line(1, &["expected 201, got ", "refused"]);
}

/// A run on one volume that serves everything but requests of that method.
#[track_caller]
fn assert_direct_fails(method: &'static str, reply: Reply, parts: &[&str]) {
    let volume =
        Fake::new(move |request| if request.method == method { reply.clone() } else { Reply::Serve });
    let flags =
        ["--replicas", "1", "--count", "1", "--seed", "5", "--direct-head", "--direct", &volume.addr()];
    thrash(&flags).assert_one_line(1, parts);
}

#[test]
fn wrong_answers_of_a_volume_are_reported() {
    assert_direct_fails("PUT", Reply::Status(204), &["PUT /benchmark-direct-", "expected 201, got 204"]);
    assert_direct_fails("HEAD", Reply::Status(404), &["expected 200 with Content-Length 16, got 404"]);
    assert_direct_fails("GET", answer("200 OK", "", "other"), &["from byte 0 on, \"other\""]);
    assert_direct_fails("DELETE", Reply::Status(404), &["DELETE ", "expected 204, got 404"]);
}

#[test]
fn a_failed_run_with_json_prints_no_object() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let ended = thrash(&["--json", "--url", &url, "--count", "1"]);
    ended.assert_one_line(1, &["expected 201"]);
    assert_eq!(ended.out, "");
}

// Flags.

#[test]
fn invalid_flags_are_reported_in_one_line() {
    for line in [
        "--count 0",
        "--count many",
        "--concurrency 0",
        "--size 0",
        "--size 4kb",
        "--mode fast",
        "--seed x",
        "--url localhost:3000",
        "--url https://localhost:3000",
        "--url http://localhost:3000/path",
        "--direct a:1,b:1",
        "--direct a:1,b:1,a:1",
        "--direct a,b:1,c:1",
        "--direct a:1,b:1,c:1 --mode list",
        "--direct a:1,b:1,c:1 --replicas 0",
        "--direct a:1,b:1,c:1 --subvolumes 257",
        "--direct-head",
        "--replicas 2",
        "--repeat 2",
        "--mode redirect --existing",
        "--unknown",
        "surplus",
    ] {
        let ended = thrash(&line.split(' ').collect::<Vec<_>>());
        ended.assert_one_line(2, &[]);
        assert_eq!(ended.out, "", "{line}");
    }
}

#[test]
fn help_and_version_succeed() {
    for flag in ["--help", "--version"] {
        let ended = thrash(&[flag]);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.out.contains("davkv-thrasher") || ended.out.contains("Puts load"), "{ended:?}");
    }
}
