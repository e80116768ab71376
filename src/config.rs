//! Flags and environment: minikeyvalue's names and defaults, and ours in the same spirit.
//!
//! What is wrong with them is one line that says what to type instead; exit status 2.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Args, Parser};

use crate::index;
use crate::placement::Placement;
use crate::store::{self, Forgotten};
use crate::volume::Timeouts;

/// How often parts of uploads are looked for that have been left behind.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// What a program ends with when its command line is wrong.
pub const USAGE: u8 = 2;

/// Flags of the master and of the offline tools.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Directory of the index (LevelDB)
    #[arg(long, env = "DAVKV_DB", value_name = "PATH")]
    pub db: PathBuf,

    /// The volume servers, separated by commas
    #[arg(
        long,
        env = "DAVKV_VOLUMES",
        value_name = "HOST:PORT,...",
        required = true,
        value_delimiter = ',',
        value_parser = address
    )]
    pub volumes: Vec<String>,

    /// Replicas of each value
    #[arg(long, env = "DAVKV_REPLICAS", default_value_t = 3, value_name = "N")]
    pub replicas: usize,

    /// Subvolumes (disks) of each volume, 1 to 256
    #[arg(long, env = "DAVKV_SUBVOLUMES", default_value_t = 10, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub subvolumes: u32,

    /// Compute and store MD5s of values
    #[arg(long, env = "DAVKV_MD5SUM", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub md5sum: bool,

    /// How long a volume is waited for: a connection, or the answer to a small request
    #[arg(long, env = "DAVKV_VOLTIMEOUT", default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub voltimeout: Duration,

    /// How long a volume may be silent in the middle of a value, or after its last byte
    #[arg(long, env = "DAVKV_STREAMTIMEOUT", default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub streamtimeout: Duration,

    /// Names of new values: plain ones where possible, or generation names always
    #[arg(long, env = "DAVKV_NAMES", default_value = "plain", value_name = "plain|generation")]
    pub names: Names,

    /// Memory for blocks of the index, in MiB
    #[arg(long, env = "DAVKV_CACHE", default_value_t = 64, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub cache: u32,

    /// Write to the disk before answering, so that it survives loss of power
    #[arg(long, env = "DAVKV_SYNC")]
    pub sync: bool,

    /// How long after a doubtful request its file is watched for
    #[arg(long, env = "DAVKV_QUARANTINE", default_value = "10m", value_name = "TIME", value_parser = duration, hide = true)]
    pub quarantine: Duration,

    /// Log every request
    #[arg(short, long)]
    pub verbose: bool,
}

/// The master's flags.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "davkv",
    version,
    about = "The master of a davkv store: keeps the index, writes to the volumes, redirects readers to them"
)]
pub struct Master {
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub common: Common,

    /// Port to serve on; 0 for any free one
    #[arg(long, env = "DAVKV_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Address to serve on [default: all]
    #[arg(long, env = "DAVKV_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,

    /// Where readers of keys that don't exist are sent
    #[arg(long, env = "DAVKV_FALLBACK", value_name = "HOST:PORT", value_parser = address)]
    pub fallback: Option<String>,

    /// File of clients' keys, read again on SIGHUP; without one everything is open to everybody
    #[arg(long, env = "DAVKV_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,

    /// Refuse to delete what wasn't unlinked first
    #[arg(long, env = "DAVKV_PROTECT", num_args = 0..=1, default_value_t = false, default_missing_value = "true",
          require_equals = true, action = ArgAction::Set, value_name = "BOOL")]
    pub protect: bool,

    /// How long a client may be silent in the middle of a value
    #[arg(long, env = "DAVKV_CLIENTTIMEOUT", default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub clienttimeout: Duration,

    /// Connections of clients at a time
    #[arg(long, env = "DAVKV_CONNECTIONS", default_value_t = 8192, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// How long requests in flight may take to finish at the end
    #[arg(long, env = "DAVKV_GRACE", default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub grace: Duration,

    /// A replica that was seen whole so recently isn't looked at again before readers are sent to it; 0s: each time
    #[arg(long, env = "DAVKV_RECHECK", default_value = "100ms", value_name = "TIME",
          value_parser = duration_or_none)]
    pub recheck: Duration,

    /// How long an upload in parts may take, before it is aborted; 0s: for ever
    #[arg(long, env = "DAVKV_UPLOAD_EXPIRY", default_value = "7d", value_name = "TIME",
          value_parser = duration_or_none)]
    pub upload_expiry: Duration,

    #[cfg(feature = "s3")]
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub s3: S3,

    /// How long a file that readers may have been sent to is left after it was replaced
    #[arg(long, env = "DAVKV_READERGRACE", default_value = "1m", value_name = "TIME", value_parser = duration, hide = true)]
    pub readergrace: Duration,
}

/// The master's flags of the S3 API.
#[cfg(feature = "s3")]
#[derive(Args, Clone, Debug)]
pub struct S3 {
    /// A further port, where every request is S3; 0 for any free one
    #[arg(id = "s3_port", long = "s3-port", env = "DAVKV_S3_PORT", value_name = "PORT")]
    pub port: Option<u16>,

    /// Which S3 buckets exist: any first segment of a key is one, or only those that were made
    #[arg(
        long = "s3-buckets",
        env = "DAVKV_S3_BUCKETS",
        default_value = "implicit",
        value_name = "implicit|strict"
    )]
    pub buckets: S3Buckets,

    /// Send readers of S3 to a volume (307) instead of passing the bytes through
    #[arg(long = "s3-redirect", env = "DAVKV_S3_REDIRECT")]
    pub redirect: bool,

    /// Origins whose pages may use S3 in browsers, like <https://example.com>; * for all [default: none]
    #[arg(long = "s3-cors", env = "DAVKV_S3_CORS", value_name = "ORIGIN,...", value_delimiter = ',',
          value_parser = origin)]
    pub cors: Vec<String>,
}

#[cfg(feature = "s3")]
impl S3 {
    /// The API's options.
    #[must_use]
    pub fn options(&self) -> crate::s3::Options {
        crate::s3::Options {
            strict_buckets: self.buckets == S3Buckets::Strict,
            redirect: self.redirect,
            origins: crate::s3::Origins(self.cors.clone()),
        }
    }
}

/// Which S3 buckets exist.
#[cfg(feature = "s3")]
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Buckets {
    /// Those that were made, and the first segments of keys.
    Implicit,
    /// Those that were made.
    Strict,
}

/// The flags of `davkv-rebuild`.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "davkv-rebuild",
    version,
    about = "Makes a fresh index from what lies on the volumes, while the master is down"
)]
pub struct Rebuild {
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub common: Common,

    /// An older index, or a dump of one: its states, MD5s, headers and intents are kept where the files agree,
    /// and so are its buckets and the uploads under way
    #[arg(long, env = "DAVKV_FROM", value_name = "PATH")]
    pub from: Option<PathBuf>,

    /// Keys found on fewer than half of their volumes are live, not unlinked
    #[arg(long)]
    pub keep_suspects: bool,

    /// The program that shall read the new index
    #[arg(long, default_value = "davkv", value_name = "davkv|davkv-0.1|minikeyvalue")]
    pub records: Records,

    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub jobs: Jobs,
}

/// The flags of `davkv-rebalance`.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "davkv-rebalance",
    version,
    about = "Moves each value to where the given volumes want it, while the master is down"
)]
pub struct Rebalance {
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub common: Common,

    /// Only tell what would be done
    #[arg(long)]
    pub dry_run: bool,

    /// Volumes that are gone for good, with all that was on them
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = address)]
    pub forget: Vec<String>,

    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub jobs: Jobs,
}

/// How much an offline tool does at a time.
#[derive(Args, Clone, Copy, Debug)]
pub struct Jobs {
    /// How much is done at a time: listings of each volume, or values
    #[arg(long, env = "DAVKV_JOBS", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
}

/// Whose records an index holds.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// Ours.
    Davkv,
    /// Of our version 0.1, for going back to it.
    #[value(name = "davkv-0.1")]
    Davkv01,
    /// The predecessor's, for going back to it.
    Minikeyvalue,
}

/// How new files are named.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Plain names wherever that is safe.
    Plain,
    /// Generation names always.
    Generation,
}

impl Common {
    /// The store's options; files that readers may use are left for `reader_grace`.
    #[must_use]
    pub fn store(&self, reader_grace: Duration) -> store::Options {
        store::Options {
            placement: Placement::new(self.volumes.clone(), self.replicas, self.subvolumes),
            timeouts: Timeouts { request: self.voltimeout, stream: self.streamtimeout },
            client_idle: Duration::from_secs(30),
            md5: self.md5sum,
            protect: false,
            generation_names: self.names == Names::Generation,
            quarantine: self.quarantine,
            reader_grace,
            recheck: Duration::ZERO,
            upload_expiry: Duration::ZERO,
            sweep_every: SWEEP_EVERY,
            forgotten: Forgotten::default(),
        }
    }

    /// How the index is opened.
    #[must_use]
    pub fn index(&self, create: bool) -> index::Options {
        index::Options { create, cache_bytes: self.cache as usize * 1024 * 1024, sync: self.sync }
    }

    fn check(&self) -> Result<(), String> {
        let volumes = self.volumes.len();
        if !(1..=volumes).contains(&self.replicas) {
            return Err(format!(
                "--replicas {} with {volumes} volumes: type --replicas 1 to {volumes}, or name more --volumes",
                self.replicas
            ));
        }
        let mut sorted = self.volumes.clone();
        sorted.sort();
        match sorted.windows(2).find(|pair| pair.first() == pair.last()) {
            Some(pair) => Err(format!(
                "--volumes names {} twice: name each volume once",
                pair.concat().split_at(pair.concat().len() / 2).0
            )),
            None => Ok(()),
        }
    }
}

/// The flags of a program.
pub trait Flags: Parser {
    /// What clap can't check: what flags say about each other.
    ///
    /// # Errors
    ///
    /// What to type instead.
    fn check(&self) -> Result<(), String>;
}

impl Flags for Master {
    fn check(&self) -> Result<(), String> {
        self.common.check()
    }
}

impl Flags for Rebuild {
    fn check(&self) -> Result<(), String> {
        self.common.check()
    }
}

impl Flags for Rebalance {
    fn check(&self) -> Result<(), String> {
        if let Some(both) = self.forget.iter().find(|gone| self.common.volumes.contains(gone)) {
            return Err(format!("--forget {both}, and --volumes names it too: take it out of one of them"));
        }
        self.common.check()
    }
}

/// Reads the command line of a program, or ends it as `--help` and mistakes do.
///
/// # Errors
///
/// The exit status; the line was printed.
pub fn parse<P: Flags>() -> Result<P, ExitCode> {
    parse_from(std::env::args_os())
}

fn parse_from<P: Flags>(arguments: impl IntoIterator<Item = OsString>) -> Result<P, ExitCode> {
    let name = P::command().get_name().to_owned();
    let complain = |what: &str| {
        eprintln!("{name}: {what} (see {name} --help)");
        ExitCode::from(USAGE)
    };
    let parsed = P::try_parse_from(arguments).map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // to standard output, which may be closed
            drop(error.print());
            return ExitCode::SUCCESS;
        }
        complain(&one_line(&error))
    })?;
    parsed.check().map_err(|what| complain(&what))?;
    Ok(parsed)
}

/// clap's message without its colours, hints and line breaks.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(missing) = error.get(ContextKind::InvalidArg)
    {
        return format!("type {}", missing.to_string().replace(", ", " "));
    }
    let text = error.render().to_string();
    let text = text.split("\n\nUsage").next().unwrap_or_default();
    let text = text.split("\n\nFor more").next().unwrap_or_default();
    let words: Vec<&str> = text.split_whitespace().skip_while(|word| *word == "error:").collect();
    words.join(" ")
}

/// `HOST` or `HOST:PORT`, as it may stand in a URL.
fn address(text: &str) -> Result<String, String> {
    let fits = |text: &str| -> Option<()> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        if let Some(port) = port {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (digits && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(())?;
        }
        match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(drop),
            None => (!host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
            .then_some(()),
        }
    };
    fits(text).map(|()| text.to_owned()).ok_or_else(|| "type HOST:PORT, like 10.0.0.1:3001".to_owned())
}

/// `*`, or a scheme and a host with its port, as browsers send them.
#[cfg(feature = "s3")]
fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fits = text == "*" || host.is_some_and(|host| address(host).is_ok());
    fits.then(|| text.to_owned()).ok_or_else(|| "type an origin like https://example.com, or *".to_owned())
}

/// `1s`, `500ms`, `10m`: longer than nothing.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("type a time like 1s, 500ms or 10m".to_owned()),
    }
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_no_time| "type a time like 1s or 100ms, or 0s".to_owned())
}
