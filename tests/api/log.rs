//! What the master logs about requests.

use crate::common::{Cluster, eventually};
use crate::rig::{PATIENCE, cluster, put, refuses};

/// The log lines since the master started to listen.
fn logged(cluster: &Cluster) -> Vec<String> {
    let log = cluster.master.log();
    log.lines().skip_while(|line| !line.contains("listening")).skip(1).map(str::to_owned).collect()
}

#[test]
fn failed_requests_are_logged_in_one_line_and_successful_ones_are_not() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    for (method, target) in [
        ("GET", "/key"),
        ("HEAD", "/key"),
        ("GET", "/?list"),
        ("UNLINK", "/key"),
        ("RELINK", "/key"),
        ("REBALANCE", "/key"),
        ("DELETE", "/key"),
    ] {
        assert!(cluster.request(method, target, b"").status < 400, "{method}");
    }
    refuses(&cluster, "PUT", "/empty", b"", 411);
    refuses(&cluster, "POST", "/other", b"x", 405);
    eventually("the failures are logged", PATIENCE, || logged(&cluster).len() >= 2);
    let lines = logged(&cluster);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(["PUT", "/empty", "411"].iter().all(|word| lines[0].contains(word)), "{}", lines[0]);
    assert!(["POST", "/other", "405"].iter().all(|word| lines[1].contains(word)), "{}", lines[1]);
}

#[test]
fn verbose_logs_successful_requests() {
    let cluster = Cluster::new(3, &["-v"]);
    put(&cluster, "/key", b"value");
    let good = |line: &str| ["PUT", "/key", "201"].iter().all(|word| line.contains(word));
    eventually("the request is logged", PATIENCE, || cluster.master.log().lines().any(good));
}

#[test]
fn a_request_cannot_break_a_log_line() {
    let cluster = Cluster::new(3, &["-v"]);
    for target in
        ["/a%0Ainjected", "/a%1b[31minjected", "/%C2%9Binjected", "/\u{9b}injected", "/\u{2028}injected"]
    {
        cluster.request("PUT", target, b"x");
        cluster.request("GET", target, b"");
    }
    cluster.request("POST", "/last", b"");
    eventually("the last request is logged", PATIENCE, || cluster.master.log().contains("/last"));
    let log = cluster.master.log();
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    assert!(!log.lines().any(|line| line.starts_with("injected")), "{log}");
    assert!(!log.contains('\u{2028}'), "{log:?}");
}
