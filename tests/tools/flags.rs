//! The command lines of both tools.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use crate::rig::{Ended, REBALANCE, REBUILD, run};

/// Runs the program with exactly these arguments, and an empty environment.
fn with_arguments(program: &str, line: &str) -> Ended {
    run(Command::new(program).env_clear().args(line.split_whitespace().map(OsStr::new)))
}

#[track_caller]
fn assert_usage(program: &str, lines: &[&str]) {
    let tempdir = tempfile::tempdir().unwrap();
    let db = tempdir.path().join("db");
    for line in lines {
        let ended = with_arguments(program, &line.replace("DB", db.to_str().unwrap()));
        ended.assert_one_line(2, "--help");
        assert!(ended.err.starts_with("davkv-re"), "{ended:?}");
    }
    assert_eq!(fs::read_dir(tempdir.path()).unwrap().count(), 0);
}

const WRONG_FOR_BOTH: [&str; 15] = [
    "",
    "--db DB",
    "--volumes a:1,b:1,c:1",
    "--db DB --volumes",
    "--db DB --volumes a:1,b:1",
    "--db DB --volumes a:1,b:1,a:1",
    "--db DB --volumes a:1,b:1,c:x",
    "--db DB --volumes a:1,b:1,c:1/sv00",
    "--db DB --volumes http://a:1,b:1,c:1",
    "--db DB --volumes a:1,b:1,c:1 --replicas 0",
    "--db DB --volumes a:1,b:1,c:1 --replicas 4",
    "--db DB --volumes a:1,b:1,c:1 --subvolumes 257",
    "--db DB --volumes a:1,b:1,c:1 --jobs 0",
    "--db DB --volumes a:1,b:1,c:1 --voltimeout fast",
    "--db DB --volumes a:1,b:1,c:1 surplus",
];

#[test]
fn invalid_flags_of_rebuild_are_reported_in_one_line() {
    assert_usage(REBUILD, &WRONG_FOR_BOTH);
    assert_usage(
        REBUILD,
        &[
            "--db DB --volumes a:1,b:1,c:1 --records other",
            "--db DB --volumes a:1,b:1,c:1 --from",
            "--db DB --volumes a:1,b:1,c:1 --keep-suspects=maybe",
            "--db DB --volumes a:1,b:1,c:1 --dry-run",
            "--db DB --volumes a:1,b:1,c:1 --port 3000",
        ],
    );
}

#[test]
fn invalid_flags_of_rebalance_are_reported_in_one_line() {
    assert_usage(REBALANCE, &WRONG_FOR_BOTH);
    assert_usage(
        REBALANCE,
        &[
            "--db DB --volumes a:1,b:1,c:1 --forget",
            "--db DB --volumes a:1,b:1,c:1 --forget http://d:1",
            "--db DB --volumes a:1,b:1,c:1 --from x",
            "--db DB --volumes a:1,b:1,c:1 --port 3000",
        ],
    );
}

#[test]
fn a_volume_cannot_be_both_used_and_forgotten() {
    assert_usage(REBALANCE, &["--db DB --volumes a:1,b:1,c:1 --forget c:1"]);
}

#[test]
fn help_and_version_succeed() {
    for program in [REBUILD, REBALANCE] {
        for line in ["--help", "--version"] {
            let ended = with_arguments(program, line);
            assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
            assert!(ended.out.contains("davkv-re"), "{ended:?}");
        }
    }
}
