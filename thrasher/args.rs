//! The flags.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use clap::Parser;
use clap::error::ErrorKind;
use davkv::placement::Placement;
use hyper::Uri;
use hyper::http::uri::Authority;

use crate::direct::Direct;
use crate::load::{Load, Mode};
use crate::target::Target;
use crate::value::Size;

const DEFAULT_URL: &str = "http://localhost:3000";

/// Puts load on davkv, checks every answer, and measures.
///
/// By default, like minikeyvalue's thrasher: 10,000 random keys, 16 clients, and for each key a PUT, a
/// GET that follows the redirect and compares the bytes, and a DELETE. The latency of a GET includes
/// the redirect and the whole body. The first wrong answer ends the run with exit code 1; what it had
/// put then stays.
#[derive(Debug, Parser)]
#[command(name = "davkv-thrasher", version)]
pub(crate) struct Args {
    /// The master; `http://localhost:3000` unless --direct is given
    #[arg(long)]
    url: Option<String>,
    /// Number of keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Clients at work at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    concurrency: u16,
    /// Size of each value: bytes, or like 4KiB, 1MiB, 1GiB; streamed, never held
    #[arg(long, default_value = "16")]
    size: Size,
    /// What to measure
    #[arg(long, value_enum, default_value = "thrash")]
    mode: Mode,
    /// Do the timed part so often with each key; with --mode get, redirect, missing or list
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..), value_name = "TIMES")]
    repeat: u64,
    /// The keys are there already and stay: those of a --mode put with the same seed (for list: whatever
    /// lies under /benchmark-SEED/)
    #[arg(long, requires = "seed")]
    existing: bool,
    /// Repeats the keys and values of the run with this seed [default: a new one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// Do a perfect master's work on these volumes without one; with --url, compare the two
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    direct: Vec<String>,
    /// Before each GET of --direct, a HEAD, as a master does
    #[arg(long, requires = "direct")]
    direct_head: bool,
    /// Replicas of each value of --direct
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..), requires = "direct")]
    replicas: u16,
    /// Subvolumes of each volume of --direct
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=256), requires = "direct")]
    subvolumes: u32,
}

impl Args {
    /// The flags as clap reads them.
    ///
    /// # Errors
    ///
    /// A text to print, and whether the user has asked for it (`--help`).
    pub(crate) fn read(args: impl Iterator<Item = std::ffi::OsString>) -> Result<Self, (String, bool)> {
        Self::try_parse_from(args).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => (error.to_string(), true),
            _ => (one_line(&error.to_string()), false),
        })
    }

    /// The load that they ask for.
    pub(crate) fn load(&self) -> Load {
        // 32 bits are short enough to be typed, and every JSON reader keeps them exact
        let new_seed = || RandomState::new().hash_one(SystemTime::now()) >> 32;
        Load {
            mode: self.mode,
            count: self.count,
            repeat: self.repeat,
            existing: self.existing,
            concurrency: self.concurrency.into(),
            size: self.size,
            seed: self.seed.unwrap_or_else(new_seed),
        }
    }

    /// The targets, in the order in which they are loaded.
    ///
    /// # Errors
    ///
    /// One line that says which flags don't fit.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, String> {
        if self.repeat > 1 && !self.mode.can_repeat() {
            return Err("--repeat goes with --mode get, redirect, missing or list".to_owned());
        }
        if self.existing && !self.mode.needs_keys() {
            return Err("--existing goes with --mode get, redirect, list or delete".to_owned());
        }
        let mut targets = Vec::new();
        if !self.direct.is_empty() {
            targets.push(Target::Direct(self.direct()?));
        }
        if self.url.is_some() || self.direct.is_empty() {
            targets.push(Target::Master(base(self.url.as_deref().unwrap_or(DEFAULT_URL))?));
        }
        Ok(targets)
    }

    fn direct(&self) -> Result<Direct, String> {
        if matches!(self.mode, Mode::Missing | Mode::Redirect | Mode::List) {
            return Err(
                "--direct has no master to ask: it goes with --mode thrash, put, get or delete".to_owned()
            );
        }
        for (n, volume) in self.direct.iter().enumerate() {
            let address = volume.parse::<Authority>().ok();
            let with_port = address.as_ref().and_then(Authority::port_u16).is_some();
            if !with_port || volume.contains('@') {
                return Err(format!("--direct: '{volume}' is not HOST:PORT"));
            }
            if self.direct.iter().take(n).any(|other| other == volume) {
                return Err(format!("--direct names {volume} twice"));
            }
        }
        let (replicas, volumes) = (usize::from(self.replicas), self.direct.clone());
        if replicas > volumes.len() {
            return Err(format!(
                "--replicas {replicas} needs as many volumes, --direct has {}",
                volumes.len()
            ));
        }
        let placement = Placement::new(volumes, replicas, self.subvolumes);
        Ok(Direct { placement, head: self.direct_head })
    }
}

/// The URL of a master, to which keys are appended.
fn base(url: &str) -> Result<String, String> {
    let wrong = || format!("--url: '{url}' is not like {DEFAULT_URL}");
    let uri: Uri = url.parse().map_err(|_not_a_url| wrong())?;
    match (uri.scheme_str(), uri.authority(), uri.path_and_query().map_or("/", |path| path.as_str())) {
        (Some("http"), Some(authority), "/") => Ok(format!("http://{authority}")),
        _ => Err(wrong()),
    }
}

/// The first paragraph of clap's message, which says what is wrong, as one line.
fn one_line(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<_> = first.split_whitespace().skip_while(|word| *word == "error:").collect();
    format!("{} (see --help)", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<&'static str>, String> {
        let words = std::iter::once("davkv-thrasher").chain(line.split_whitespace());
        let args = Args::read(words.map(Into::into)).map_err(|(message, _)| message)?;
        args.targets().map(|targets| targets.iter().map(Target::name).collect())
    }

    #[test]
    fn the_flags_choose_the_targets() {
        assert_eq!(read(""), Ok(vec!["master"]));
        assert_eq!(read("--url http://localhost:3000/"), Ok(vec!["master"]));
        assert_eq!(read("--direct a:1,b:1,c:1"), Ok(vec!["direct"]));
        assert_eq!(read("--direct a:1,b:1 --replicas 2 --url http://m:1"), Ok(vec!["direct", "master"]));
    }

    #[test]
    fn wrong_flags_are_one_line() {
        for line in [
            "--count 0",
            "--concurrency 0",
            "--concurrency 70000",
            "--size 4kb",
            "--mode fast",
            "--url localhost:3000",
            "--url https://localhost:3000",
            "--url http://localhost:3000/a",
            "--direct a:1,b:1",
            "--direct a,b:1,c:1",
            "--direct a:1,a:1,c:1",
            "--direct a:1,b:1,c:1/sv00",
            "--direct a:1,b:1,c:1 --mode missing",
            "--direct a:1,b:1,c:1 --mode redirect",
            "--direct a:1,b:1,c:1 --mode list",
            "--direct a:1,b:1,c:1 --subvolumes 257",
            "--direct-head",
            "--replicas 2",
            "--repeat 0",
            "--repeat 2",
            "--mode delete --repeat 2",
            "--mode get --existing",
            "--mode missing --seed 1 --existing",
            "surplus",
        ] {
            let message = read(line).err().unwrap_or_default();
            assert!(!message.is_empty() && !message.contains('\n'), "{line}: {message}");
        }
    }

    #[test]
    fn a_seed_is_kept_and_a_new_one_is_short() {
        let load = |words: &[&str]| Args::try_parse_from(words).map(|args| args.load().seed);
        assert_eq!(load(&["x", "--seed", "18446744073709551615"]).ok(), Some(u64::MAX));
        assert!(load(&["x"]).is_ok_and(|seed| seed < 1 << 32));
    }
}
