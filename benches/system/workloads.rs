//! What is measured: the workloads, described in `workloads.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::report::{Row, Wanted};
use crate::settings::{Result, Settings};
use crate::thrash::Run;
use crate::tools::{Scale, moves, whole_store};
use crate::{reads, s3, syscalls, thrash};

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    pub(crate) name: String,
    about: String,
    /// Whether it is measured when no workload is named.
    #[serde(default = "yes")]
    pub(crate) quick: bool,
    load: Vec<Load>,
    /// The goals of its rows, by name.
    #[serde(default)]
    wanted: BTreeMap<String, Vec<Wanted>>,
}

/// What is done; the function of the same name tells what its numbers mean.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Load {
    Thrash(Vec<Run>),
    Connections { clients: Vec<u32> },
    OneKey { existing: bool },
    List { keys: u64, times: u32, clients: u32 },
    Index { keys: u64 },
    Rebuild { objects: u32, scales: Vec<Scale> },
    Rebalance { objects: u32, scales: Vec<Scale> },
    Moves { objects: u32 },
    S3Get { mib: u32, counts: [u32; 2] },
    S3Put { bytes: usize },
    S3Upload { values: u32, mib: u32 },
    S3List { folders: u64, keys: u64 },
    Syscalls { keys: u32 },
}

fn yes() -> bool {
    true
}

impl Workload {
    /// Measures it.
    pub(crate) async fn run(&self, settings: &Settings) -> Result<Vec<Row>> {
        let (name, mut rows) = (&self.name, Vec::new());
        for load in &self.load {
            rows.extend(match load {
                Load::Thrash(runs) => thrash::runs(settings, name, runs).await,
                Load::Connections { clients } => thrash::connections(settings, clients).await,
                Load::OneKey { existing } => reads::one_key(settings, name, *existing).await,
                Load::List { keys, times, clients } => {
                    reads::list(settings, name, *keys, *times, *clients).await
                }
                Load::Index { keys } => reads::index(settings, name, *keys).await,
                Load::Rebuild { objects, scales } => whole_store(settings, "rebuild", *objects, scales).await,
                Load::Rebalance { objects, scales } => {
                    whole_store(settings, "rebalance", *objects, scales).await
                }
                Load::Moves { objects } => moves(settings, *objects).await,
                Load::S3Get { mib, counts } => s3::get(settings, name, *mib, *counts).await,
                Load::S3Put { bytes } => s3::put(settings, name, *bytes).await,
                Load::S3Upload { values, mib } => s3::upload(settings, name, *values, *mib).await,
                Load::S3List { folders, keys } => s3::list(settings, name, *folders, *keys).await,
                Load::Syscalls { keys } => syscalls::count(settings, *keys).await,
            }?);
        }
        let with_goals = |row: Row| match self.wanted.get(&row.workload) {
            Some(goals) => row.with_goals(goals, settings.against.is_some()),
            None => row,
        };
        Ok(rows.into_iter().map(with_goals).collect())
    }
}

/// All workloads.
pub(crate) fn all() -> Result<Vec<Workload>> {
    let mut table: BTreeMap<String, Vec<Workload>> = toml::from_str(include_str!("workloads.toml"))?;
    Ok(table.remove("workload").unwrap_or_default())
}

/// The workload of that name.
pub(crate) fn find(name: &str) -> Result<Workload, String> {
    let found = all().map_err(|error| error.to_string())?.into_iter().find(|workload| workload.name == name);
    found.ok_or_else(|| "there is no such workload; --list names them all".to_owned())
}

/// The table for people.
pub(crate) fn list() -> Result<String> {
    let line = |Workload { name, about, quick, .. }: &Workload| {
        let usual = if *quick { "" } else { " (only when asked for)" };
        format!("{name:<14} {about}{usual}\n")
    };
    Ok(all()?.iter().map(line).collect())
}
