//! Existing S3 clients, as they are in the package registries, against the real master over real volumes.
//! They are configured with an endpoint and credentials, and nothing else.
//!
//! A test starts a cluster and runs a client's script, one of the files beside this one; the name of each
//! scenario says what holds. Each script deletes everything that it stored, and the volumes must be empty
//! afterwards: no part, copy or replaced value may be left.
//!
//! `prepare` installs the clients. A missing client fails the test, so that it doesn't seem tested.

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

/// A client that takes longer is killed; in seconds.
const LONGEST: &str = "300";
/// Deadline for deleting replaced files, which are kept for readers for `--readergrace`, one second here.
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

/// The directory in which `prepare` installs the clients, inside cargo's target directory.
fn installed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients")
}

/// The access rules of the master.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Every request is allowed.
    Open,
    /// There is a credentials file, and buckets must be created.
    Keys,
}

struct Client {
    access: Access,
    cluster: Cluster,
    /// the directory of the credentials file, which a restarted master reads again
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

    /// Runs a script of this directory. Its environment holds only the endpoint and the credentials.
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

    /// Asserts that the volumes become empty, and that the log has no warnings or errors.
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
fn boto3_works_with_credentials() {
    works(Access::Keys, "boto3_test.py");
}

#[test]
fn an_upload_by_boto3_survives_a_restart_of_the_master() {
    let mut client = Client::new(Access::Keys);
    client.run("boto3_restart.py", &["begin"]);
    client.cluster.master.kill();
    client.cluster.master.restart();
    client.run("boto3_restart.py", &["finish"]);
    client.leaves_nothing();
}

#[test]
fn pyarrow_works_without_credentials_on_an_open_master() {
    works(Access::Open, "pyarrow_test.py");
}

#[test]
fn pyarrow_works_with_credentials() {
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
