//! Command-line flags and environment variables. Names and defaults are minikeyvalue's where it has the flag.
//!
//! A wrong command line is reported in one line that says what to type instead; the exit status is 2.

mod values;

use std::collections::HashSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Args, Parser};

use crate::index;
use crate::pauses;
use crate::placement::Placement;
use crate::store::{self, Forgotten};
use crate::volume::{Addresses, Timeouts};

pub use values::Volume;
#[cfg(feature = "s3")]
use values::origin;
use values::{address, duration, duration_or_none, name, replaced, volume};

/// How often the master looks for parts whose upload no longer exists.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// How often the number of the run rises while the index is written: how much an older state of the index may lack
/// before it is refused.
const RAISE_EVERY: Duration = Duration::from_mins(1);

/// Exit status for a wrong command line.
pub const USAGE: u8 = 2;

/// Flags of the master and of the offline tools.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Directory of the index (LevelDB)
    #[arg(long, env = "DAVKV_DB", value_name = "PATH")]
    pub db: PathBuf,

    /// The volume servers, separated by commas. A volume's name is its address unless it is given as
    /// NAME=HOST:PORT; to move one to another address, keep its name
    #[arg(
        long,
        env = "DAVKV_VOLUMES",
        value_name = "[NAME=]HOST:PORT,...",
        required = true,
        value_delimiter = ',',
        value_parser = volume
    )]
    pub volumes: Vec<Volume>,

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

    /// How long to wait for a connection to a volume, or for the answer to a small request
    #[arg(long, env = "DAVKV_VOLTIMEOUT", default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub voltimeout: Duration,

    /// How long to wait for a volume's next byte in the middle of a value, or for its answer after the last byte
    #[arg(long, env = "DAVKV_STREAMTIMEOUT", default_value = pauses::STREAM, value_name = "TIME",
          value_parser = duration)]
    pub streamtimeout: Duration,

    /// File names of new values: plain names where that is safe, or always generation names
    #[arg(long, env = "DAVKV_NAMES", default_value = "plain", value_name = "plain|generation")]
    pub names: Names,

    /// Memory for cached blocks of the index, in MiB
    #[arg(long, env = "DAVKV_CACHE", default_value_t = 64, value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub cache: u32,

    /// Sync the index to disk before a write is answered, so that the write survives loss of power
    #[arg(long, env = "DAVKV_SYNC")]
    pub sync: bool,

    /// How long a request without an answer may still take effect; its intent is kept that long
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

    /// Port to listen on; 0 for any free port
    #[arg(long, env = "DAVKV_PORT", default_value_t = 3000)]
    pub port: u16,

    /// Address to listen on [default: all]
    #[arg(long, env = "DAVKV_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,

    /// Server to which readers of keys that don't exist are redirected
    #[arg(long, env = "DAVKV_FALLBACK", value_name = "HOST:PORT", value_parser = address)]
    pub fallback: Option<String>,

    /// File of clients' keys, read again on SIGHUP; without it anybody may do everything
    #[arg(long, env = "DAVKV_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,

    /// Refuse to delete keys that are not unlinked
    #[arg(long, env = "DAVKV_PROTECT", num_args = 0..=1, default_value_t = false, default_missing_value = "true",
          require_equals = true, action = ArgAction::Set, value_name = "BOOL")]
    pub protect: bool,

    /// How long to wait for a client's next byte; with --streamtimeout less than 60s, as a volume hangs up after that
    #[arg(long, env = "DAVKV_CLIENTTIMEOUT", default_value = pauses::CLIENT, value_name = "TIME", value_parser = duration)]
    pub clienttimeout: Duration,

    /// Client connections at a time; idle connections are closed to make room for new ones
    #[arg(long, env = "DAVKV_CONNECTIONS", default_value_t = 8192, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,

    /// How long requests in flight may take to finish at shutdown
    #[arg(long, env = "DAVKV_GRACE", default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub grace: Duration,

    /// After a replica was checked, how long readers are sent to it without another check; 0s: check each time
    #[arg(long, env = "DAVKV_RECHECK", default_value = "100ms", value_name = "TIME",
          value_parser = duration_or_none)]
    pub recheck: Duration,

    /// Abort multipart uploads that aren't completed in this time; 0s: never
    #[arg(long, env = "DAVKV_UPLOAD_EXPIRY", default_value = "7d", value_name = "TIME",
          value_parser = duration_or_none)]
    pub upload_expiry: Duration,

    #[cfg(feature = "s3")]
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub s3: S3,

    /// Volumes whose disks are gone for good, and were replaced by empty ones: what the log says of them, once
    #[arg(long, value_name = "NAME/ID,...", value_delimiter = ',', value_parser = replaced)]
    pub replaced: Vec<String>,

    /// How long a replaced file is kept for readers that were redirected to it
    #[arg(long, env = "DAVKV_READERGRACE", default_value = "1m", value_name = "TIME", value_parser = duration, hide = true)]
    pub readergrace: Duration,
}

/// The master's flags of the S3 API.
#[cfg(feature = "s3")]
#[derive(Args, Clone, Debug)]
pub struct S3 {
    /// A second port, where every request is S3; 0 for any free port
    #[arg(id = "s3_port", long = "s3-port", env = "DAVKV_S3_PORT", value_name = "PORT")]
    pub port: Option<u16>,

    /// Which S3 buckets exist: implicit, the first segment of any key; strict, only created buckets
    #[arg(
        long = "s3-buckets",
        env = "DAVKV_S3_BUCKETS",
        default_value = "implicit",
        value_name = "implicit|strict"
    )]
    pub buckets: S3Buckets,

    /// Redirect S3 readers to a volume (307) instead of passing the bytes through
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
    /// Created buckets, and the first segments of all keys.
    Implicit,
    /// Created buckets only.
    Strict,
}

/// The flags of `davkv-rebuild`.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "davkv-rebuild",
    version,
    about = "Makes a new index from the files on the volumes, while the master is down"
)]
pub struct Rebuild {
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub common: Common,

    /// An older index, or a dump of one. States, MD5s, headers and intents are taken from it for values whose files
    /// agree with it, and so are buckets and unfinished uploads
    #[arg(long, env = "DAVKV_FROM", value_name = "PATH")]
    pub from: Option<PathBuf>,

    /// Make keys live, not unlinked, that are found on fewer than half as many volumes as --replicas
    #[arg(long)]
    pub keep_suspects: bool,

    /// Program that is going to read the new index
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
    about = "Moves each value to its placement on the given volumes, while the master is down"
)]
pub struct Rebalance {
    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub common: Common,

    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,

    /// Volumes that are gone for good, with all their files, by name
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = name)]
    pub forget: Vec<String>,

    #[command(flatten)]
    #[allow(missing_docs, reason = "each flag is documented where it is declared")]
    pub jobs: Jobs,
}

/// The concurrency of an offline tool.
#[derive(Args, Clone, Copy, Debug)]
pub struct Jobs {
    /// How many listings of each volume (rebuild), or values (rebalance), are processed at a time
    #[arg(long, env = "DAVKV_JOBS", default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: u16,
}

/// The program whose form of records an index has.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// This version of davkv.
    Davkv,
    /// davkv 0.1, to go back to it.
    #[value(name = "davkv-0.1")]
    Davkv01,
    /// minikeyvalue, to go back to it.
    Minikeyvalue,
}

/// How new files are named.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Plain names where that is safe.
    Plain,
    /// Always generation names.
    Generation,
}

impl Common {
    /// The store's options; replaced files are kept for `reader_grace`.
    #[must_use]
    pub fn store(&self, reader_grace: Duration) -> store::Options {
        store::Options {
            placement: Placement::new(
                self.volumes.iter().map(|volume| volume.name.clone()).collect(),
                self.replicas,
                self.subvolumes,
            ),
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
            raise_every: RAISE_EVERY,
            forgotten: Forgotten::default(),
            replaced: Vec::new(),
        }
    }

    /// Where the volumes are that have names of their own.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let named = self.volumes.iter().filter(|volume| volume.name != volume.address);
        Addresses::new(named.map(|volume| (volume.name.clone(), volume.address.clone())))
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
        let names = self.volumes.iter().map(|volume| &volume.name);
        let addresses = self.volumes.iter().map(|volume| &volume.address);
        match twice(names).or_else(|| twice(addresses)) {
            Some(twice) => Err(format!("--volumes names {twice} twice: name each volume once")),
            None => Ok(()),
        }
    }
}

/// The first that comes twice.
fn twice<'a>(all: impl IntoIterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = HashSet::new();
    all.into_iter().find(|one| !seen.insert(*one))
}

/// The flags of a program.
pub trait Flags: Parser {
    /// Checks that flags are consistent with each other, which clap can't.
    ///
    /// # Errors
    ///
    /// One line that says what to type instead.
    fn check(&self) -> Result<(), String>;
}

impl Flags for Master {
    fn check(&self) -> Result<(), String> {
        pauses::check(self.clienttimeout, self.common.streamtimeout)?;
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
        let is_named = |gone: &&String| self.common.volumes.iter().any(|volume| volume.name == **gone);
        if let Some(both) = self.forget.iter().find(is_named) {
            return Err(format!("{both} is in both --forget and --volumes: remove it from one of them"));
        }
        self.common.check()
    }
}

/// Parses the command line of a program.
///
/// # Errors
///
/// The exit status for `--help`, `--version` or a wrong command line, after the output was printed.
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
            // standard output may be closed
            drop(error.print());
            return ExitCode::SUCCESS;
        }
        complain(&one_line(&error))
    })?;
    parsed.check().map_err(|what| complain(&what))?;
    Ok(parsed)
}

/// clap's message without colours, hints and line breaks.
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
