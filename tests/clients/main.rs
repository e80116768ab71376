//! The clients of S3 that people already use, as they come from the package registries, against the real
//! master over real volumes: given an endpoint and keys, and nothing else.
//!
//! A test starts a cluster and runs a client's script, the files beside this one; each of its scenarios says
//! by its name what holds. Whatever the client has stored it has deleted again at the end, and the volumes
//! must then be empty: no part, no copy and no replaced value is left over.
//!
//! `prepare` installs the clients. A missing one is a failure: nobody shall believe that it was tried.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]
#![allow(clippy::print_stdout, reason = "what the scripts say is shown with a failure")]

#[path = "../common/mod.rs"]
mod common;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Cluster, eventually};

/// A client that hangs is ended after so many seconds.
const LONGEST: &str = "300";
/// Replaced files are left to their readers for a while: `--readergrace`, here a second.
const TIDY: Duration = Duration::from_secs(30);

const ACCESS: &str = "AKIAEXAMPLE0000000000";
const SECRET: &str = "a-secret-of-forty-characters-0123456789ab";

const CREDENTIALS: &str = r#"
public-read = ["public"]

[[key]]
access = "AKIAEXAMPLE0000000000"
secret = "a-secret-of-forty-characters-0123456789ab"
buckets = ["*"]
allow = ["admin"]

[[key]]
access = "AKIAREADER00000000000"
secret = "another-secret-that-is-for-reading-only"
buckets = ["*"]
allow = ["read"]

[[key]]
access = "AKIAWRITER00000000000"
secret = "a-secret-for-the-bucket-of-the-writers"
buckets = ["writers"]
allow = ["read", "write"]
"#;

/// Where `prepare` puts the clients: beside what cargo builds.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients")
}

/// Who may do what on the master that a client meets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anybody may do anything.
    Open,
    /// There is a credentials file, and buckets have to be created.
    Keys,
}

struct Client {
    access: Access,
    cluster: Cluster,
    /// holds the credentials file, which a master that is started again reads again
    _credentials: tempfile::TempDir,
}

impl Client {
    fn new(access: Access) -> Self {
        let mut flags = vec!["--readergrace", "1s"];
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials.toml");
        if access == Access::Keys {
            fs::write(&file, CREDENTIALS).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            flags.extend(["--credentials", file.to_str().unwrap(), "--s3-buckets", "strict"]);
        }
        Self { access, cluster: Cluster::new(3, &flags), _credentials: directory }
    }

    /// Runs a script of this directory with an environment that holds the endpoint, the keys and no more.
    #[track_caller]
    fn run(&self, script: &str, arguments: &[&str]) {
        let clients = installed();
        assert!(clients.join("complete").exists(), "the clients are not installed: run tools/test once");
        let home = self.cluster.tempdir.path().join("home");
        fs::create_dir_all(&home).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
        let mut path = OsString::from(clients.join("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let output = Command::new("timeout")
            .args(["--kill-after", "5", LONGEST])
            .arg(script)
            .args(arguments)
            .current_dir(&home)
            .env_clear()
            .envs([("PATH", path), ("HOME", home.clone().into()), ("TMPDIR", home.into())])
            .envs([
                ("LANG", "C.UTF-8"),
                ("PYTHONDONTWRITEBYTECODE", "1"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ])
            .envs([("AWS_ACCESS_KEY_ID", ACCESS), ("AWS_SECRET_ACCESS_KEY", SECRET)])
            .envs([("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_REGION", "us-east-1")])
            .env("AWS_ENDPOINT_URL", self.cluster.master.url())
            .env("NODE_PATH", clients.join("node_modules"))
            .envs(match self.access {
                Access::Open => vec![("S3_OPEN", "1")],
                Access::Keys => vec![
                    ("S3_BUCKETS", "strict"),
                    ("S3_READER", "AKIAREADER00000000000:another-secret-that-is-for-reading-only"),
                    ("S3_WRITER", "AKIAWRITER00000000000:a-secret-for-the-bucket-of-the-writers"),
                ],
            })
            .stdin(Stdio::null())
            .output()
            .unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }

    /// That the volumes hold nothing any more, and that nothing happened that an operator has to look at.
    #[track_caller]
    fn leaves_nothing(self) {
        for volume in &self.cluster.volumes {
            eventually("the volumes are empty", TIDY, || {
                volume.paths().is_empty() && volume.temporary_files() == 0
            });
        }
        let log = self.cluster.master.log();
        let bad: Vec<_> =
            log.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

#[track_caller]
fn works(access: Access, script: &str) {
    let client = Client::new(access);
    client.run(script, &[]);
    client.leaves_nothing();
}

#[test]
fn boto3_works_on_an_open_master() {
    works(Access::Open, "boto3_test.py");
}

#[test]
fn boto3_works_with_keys() {
    works(Access::Keys, "boto3_test.py");
}

#[test]
fn an_upload_by_boto3_outlives_the_master() {
    let mut client = Client::new(Access::Keys);
    client.run("boto3_restart.py", &["begin"]);
    client.cluster.master.kill();
    client.cluster.master.restart();
    client.run("boto3_restart.py", &["finish"]);
    client.leaves_nothing();
}

#[test]
fn pyarrow_works_without_keys_on_an_open_master() {
    works(Access::Open, "pyarrow_test.py");
}

#[test]
fn pyarrow_works_with_keys() {
    works(Access::Keys, "pyarrow_test.py");
}

#[test]
fn s3fs_works() {
    works(Access::Keys, "s3fs_test.py");
}

#[test]
fn the_aws_cli_works() {
    works(Access::Keys, "aws.sh");
}

#[test]
fn rclone_works() {
    works(Access::Keys, "rclone.sh");
}

#[test]
fn restic_works() {
    works(Access::Keys, "restic.sh");
}

#[test]
fn s3cmd_works() {
    works(Access::Keys, "s3cmd.sh");
}

#[test]
fn the_sdk_for_javascript_works() {
    works(Access::Keys, "javascript_test.js");
}
