//! What is measured: the workloads, described in `workloads.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::load::Caller;
use crate::native::Store;
use crate::report::Goals;
use crate::settings::{Result, Rows, Settings};
use crate::tools::Tool;
use crate::{native, s3, syscalls, tools};

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workload {
    pub(crate) name: String,
    about: String,
    /// Whether it is measured only if it is named.
    #[serde(default)]
    pub(crate) slow: bool,
    load: Vec<Load>,
    /// The goals of its rows, by name.
    #[serde(default)]
    wanted: BTreeMap<String, Goals>,
}

/// What is done; the function of the same name tells what its numbers mean.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Load {
    Stores(Vec<Store>),
    OneKey { existing: bool },
    Tool(Tool),
    S3Get { mib: u32, clients: usize, count: u32 },
    S3Put { count: u32, bytes: usize, runs: Vec<(String, Caller)> },
    S3List { folders: u64, keys: u64 },
    Syscalls { keys: u32 },
}

impl Workload {
    /// Measures it.
    pub(crate) async fn run(&self, settings: &Settings) -> Rows {
        let (name, mut rows) = (&self.name, Vec::new());
        for load in &self.load {
            rows.extend(match load {
                Load::Stores(stores) => native::stores(settings, stores).await,
                Load::OneKey { existing } => native::one_key(settings, name, *existing).await,
                Load::Tool(tool) => tools::run(settings, tool).await,
                Load::S3Get { mib, clients, count } => s3::get(settings, name, *mib, *clients, *count).await,
                Load::S3Put { count, bytes, runs } => s3::put(settings, *count, *bytes, runs).await,
                Load::S3List { folders, keys } => s3::list(settings, name, *folders, *keys).await,
                Load::Syscalls { keys } => syscalls::count(settings, *keys).await,
            }?);
        }
        for row in &mut rows {
            if let Some(goals) = self.wanted.get(&row.workload) {
                row.compare(goals, settings.against.is_some());
            }
        }
        Ok(rows)
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
    let line = |Workload { name, about, slow, .. }: &Workload| {
        let usual = if *slow { " (only when asked for)" } else { "" };
        format!("{name:<14} {about}{usual}\n")
    };
    Ok(all()?.iter().map(line).collect())
}
