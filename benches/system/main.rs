//! davkv beside the limits of the same hardware, in one command:
//!
//! ```sh
//! cargo bench --bench system                                    # all that is quick
//! cargo bench --bench system -- --workloads thrash-16,redirect --rounds 9
//! cargo bench --bench system -- --list
//! ```
//!
//! It builds, starts volumes (stock nginx, one worker each) and a master on free ports, runs each workload
//! several times in turn with its limit (A B A B …, the first turn of each thrown away), prints a table,
//! and leaves nothing behind. It needs nginx; `wrk` and `strace` are used where they are.
//!
//! **How to read the table.** All figures are medians over the rounds.
//!
//! - *figure*: what davkv does. *limit*: what the same load does in the same rounds without davkv: against
//!   the volumes directly with a perfect master's work done by the client (`direct`, where a GET has a
//!   master's one HEAD before it), against a bare hyper server that answers a constant (`yardstick`), or
//!   davkv itself under other circumstances (another number of connections, a small index, the native API),
//!   or a stock nginx that passes a volume's file on (`proxy_pass`).
//! - *ratio*: figure ÷ limit, with the lowest and the highest of the rounds. Client, volumes and master share
//!   one machine, so rates are the machine's; ratios and CPU seconds are davkv's.
//! - *CPU*: user and system seconds of the master (or of the tool that is measured) per 1,000 operations, or
//!   per GiB where values are uploaded: the figure that a busy machine blurs least. *nginx*: the same of
//!   all volumes together.
//! - *by wrk*, or *by the thrasher* where wrk isn't installed: who asks. The thrasher itself ends at about
//!   two thirds of what the yardstick gives to wrk, so it flatters whoever is nearly as fast.
//! - *peak*: the most memory that was resident in that process meanwhile.
//! - *wanted*: what the project has set itself, and whether this run reached it. It doesn't change the exit
//!   status: that is 1 only where something failed to run.
//!
//! **On which disk.** ext4 without a journal, a rarity but for virtual machines, creates files many times
//! slower after mass deletion; so volumes and index go to memory (`/dev/shm`) if there is room, and the
//! output says where they are. A journalled file system of known state, as root:
//!
//! ```sh
//! truncate -s 8G /dev/shm/ext4.img && mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/shm/ext4.img
//! mkdir -p /mnt/bench && mount -o loop /dev/shm/ext4.img /mnt/bench
//! cargo bench --bench system -- --volumes-on /mnt/bench
//! umount /mnt/bench && rm /dev/shm/ext4.img
//! ```

#[cfg(feature = "s3")]
mod client;
mod load;
mod machine;
mod objects;
mod process;
mod report;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod signer;
mod stage;
mod syscalls;
mod tools;
mod workloads;
mod yardstick;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::report::Report;
use crate::workloads::Workload;

/// One line that says what is wrong.
type Failure = Box<dyn std::error::Error>;

const WRONG_FLAGS: u8 = 2;
/// As a shell reports a process that ended by SIGINT.
const INTERRUPTED: u8 = 130;

/// Where it gets crowded below: the largest of the usual workloads writes 3 GiB.
const ROOM_BYTES: u64 = 6 << 30;

/// Measures davkv beside the limits of the same hardware. The head of benches/system/main.rs tells how to
/// read the table.
#[derive(Debug, Parser)]
#[command(name = "system", override_usage = "cargo bench --bench system -- [OPTIONS]")]
struct Args {
    /// What to measure, by commas [default: all that are quick]
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", hide_possible_values = true)]
    workloads: Vec<Workload>,
    /// List the workloads, and end
    #[arg(long)]
    list: bool,
    /// How often each is measured, besides the first time, which isn't counted
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    rounds: u32,
    /// Where volumes and index are [default: /dev/shm if there is room, else the temporary directory]
    #[arg(long, value_name = "DIR")]
    volumes_on: Option<PathBuf>,
    /// Another davkv to measure; rebuild and rebalance are those that lie beside it
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_davkv"), hide_default_value = true)]
    master: PathBuf,
    /// Show these rows, too: a file of an earlier --json. Without --workloads, nothing is measured
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Write all figures there, as JSON; - for the standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the ratios there
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Serve the yardstick: answer this status, always
    #[arg(long, hide = true)]
    yardstick: Option<u16>,
    /// What cargo gives to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What all workloads share.
struct Settings {
    rounds: u32,
    volumes_on: PathBuf,
    master: PathBuf,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => return complain(&error.to_string(), WRONG_FLAGS),
        Err(help) => {
            print(&help.to_string());
            return ExitCode::SUCCESS;
        }
    };
    if let Some(status) = args.yardstick {
        return ended(yardstick::serve(status).map(|()| true));
    }
    if args.list {
        print(&listed());
        return ExitCode::SUCCESS;
    }
    // this process only waits for others
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.to_string(), 1),
    };
    runtime.block_on(async {
        // whatever is under way is dropped, and takes its processes and files along
        tokio::select! {
            biased;
            () = interrupted() => ExitCode::from(INTERRUPTED),
            result = run(args) => ended(result),
        }
    })
}

/// Measures and reports; whether everything ran.
async fn run(args: Args) -> Result<bool, Failure> {
    let volumes_on = args.volumes_on.clone().unwrap_or_else(fast_directory);
    let settings = Settings { rounds: args.rounds, volumes_on, master: args.master.clone() };
    let mut report = Report::new(machine::describe(&settings.volumes_on)?);
    for file in &args.with {
        report.add_file(file)?;
    }
    let mut whole = true;
    for workload in chosen(&args) {
        eprintln!("{}", workload.name());
        match workload.run(&settings).await {
            Ok(rows) => rows.into_iter().for_each(|row| report.add(row)),
            Err(error) => {
                eprintln!("{} failed: {error}", workload.name());
                whole = false;
            }
        }
    }
    write(&args, &report)?;
    Ok(whole)
}

fn chosen(args: &Args) -> Vec<Workload> {
    match (args.workloads.is_empty(), args.with.is_empty()) {
        (false, _) => args.workloads.clone(),
        (true, true) => Workload::value_variants().iter().copied().filter(|one| one.is_quick()).collect(),
        (true, false) => Vec::new(),
    }
}

fn write(args: &Args, report: &Report) -> Result<(), Failure> {
    match &args.json {
        Some(path) if path.as_os_str() == "-" => print(&report.json()?),
        Some(path) => {
            std::fs::write(path, report.json()? + "\n")?;
            print(&report.table());
        }
        None => print(&report.table()),
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, report.svg())?;
    }
    Ok(())
}

/// Memory, if it has the room: the noise of a disk is none of ours.
fn fast_directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let room = rustix::fs::statvfs(&memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if room > ROOM_BYTES { memory } else { std::env::temp_dir() }
}

fn listed() -> String {
    let line = |workload: &Workload| {
        let usual = if workload.is_quick() { "" } else { " (only when asked for)" };
        format!("{:<14} {}{usual}\n", workload.name(), workload.about())
    };
    Workload::value_variants().iter().map(line).collect()
}

/// Returns when the user wants an end.
async fn interrupted() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let signals = kinds.into_iter().filter_map(|kind| signal(kind).ok());
    let waits = signals.map(|mut signal| Box::pin(async move { signal.recv().await }));
    futures_util::future::select_all(waits).await;
}

fn ended(result: Result<bool, Failure>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&error.to_string(), 1),
    }
}

#[allow(clippy::print_stdout, reason = "the figures are what it is run for")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}

fn complain(message: &str, code: u8) -> ExitCode {
    eprintln!("{}", message.trim_end());
    ExitCode::from(code)
}
