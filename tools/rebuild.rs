//! `davkv-rebuild`: makes a new index from the files on the volumes.

mod progress;

use std::process::ExitCode;

use davkv::config::{self, Rebuild, Records};
use davkv::rebuild::{self, Options, Remark, Summary};
use davkv::record::Form;
use davkv::runtime;

fn main() -> ExitCode {
    let flags = match config::parse::<Rebuild>() {
        Ok(flags) => flags,
        Err(code) => return code,
    };
    davkv::logs::start_for_a_tool(flags.common.verbose);
    match runtime::run(run(flags)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_failures) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("davkv-rebuild: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: Rebuild) -> Result<u64, String> {
    let Rebuild { common, from, keep_suspects, records, jobs } = flags;
    let store = common.store(std::time::Duration::ZERO);
    let options = Options {
        db: common.db.clone(),
        index: common.index(true),
        placement: store.placement,
        addresses: common.addresses(),
        timeouts: store.timeouts,
        jobs: jobs.jobs.into(),
        keep_suspects,
        from,
        records: match records {
            Records::Davkv => Form::Current,
            Records::Davkv01 => Form::Davkv01,
            Records::Minikeyvalue => Form::Minikeyvalue,
        },
    };
    let progress = progress::new();
    let summary = progress::shown(&progress, rebuild::rebuild(&options, &progress, say)).await?;
    report(&summary);
    Ok(summary.failures)
}

fn say(remark: Remark) {
    match remark {
        Remark::Junk(place) => eprintln!("junk, left alone: {}", place.escape_debug()),
        Remark::Suspect(key) => eprintln!("on too few volumes: {key}"),
        Remark::Lost(key) => eprintln!("in the older index, and on no volume: {key}"),
        Remark::Unreadable(key) => eprintln!("minikeyvalue can't read the name of its file: {key}"),
    }
}

#[allow(clippy::print_stdout, reason = "the summary is what the program is run for")]
fn report(summary: &Summary) {
    println!("objects    {}, {} of them unlinked", summary.objects, summary.unlinked);
    println!("bytes      {}", progress::bytes(summary.bytes));
    println!("parts      {} of unfinished uploads", summary.parts);
    println!("incomplete {} (fewer replicas than wanted: davkv-rebalance adds them)", summary.incomplete);
    println!("leftovers  {} files, which the master will delete", summary.leftovers);
    println!("junk       {} files, left alone", summary.junk);
    println!("lost       {} values that are in the older index only", summary.lost);
    println!("failures   {}", summary.failures);
}
