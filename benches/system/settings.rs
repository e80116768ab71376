//! The flags that all workloads share, and the rounds in which they are measured.

use std::path::PathBuf;

use crate::report::Row;

/// One line that says what is wrong.
pub(crate) type Failure = Box<dyn std::error::Error>;
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;
/// What a workload measures, or one round of it.
pub(crate) type Rows = Result<Vec<Row>>;

/// The largest of the quick workloads writes 3 GiB; memory with less room than this gets crowded.
const ROOM_BYTES: u64 = 6 << 30;

/// The flags that all workloads share.
#[derive(Clone, clap::Args)]
pub(crate) struct Settings {
    /// How often each is measured, besides the first time, which isn't counted
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) rounds: u32,
    /// Where volumes and index are [default: /dev/shm if there is room, else the temporary directory]
    #[arg(long, value_name = "DIR", default_value_os_t = fast_directory(), hide_default_value = true)]
    pub(crate) volumes_on: PathBuf,
    /// Another davkv to measure; rebuild and rebalance are those that lie beside it
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_davkv"), hide_default_value = true)]
    pub(crate) master: PathBuf,
    /// Compare with this davkv, in turn, instead of with the limits
    #[arg(long, value_name = "PATH")]
    pub(crate) against: Option<PathBuf>,
}

/// Memory, if it has the room: the noise of a disk is none of davkv's.
fn fast_directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let room = rustix::fs::statvfs(&memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if room > ROOM_BYTES { memory } else { std::env::temp_dir() }
}

impl Settings {
    /// Prepares once and measures in rounds, of which the first isn't counted. The two sides are measured in
    /// turn, A B A B …, so that the machine's moods meet both.
    ///
    /// A round measures the limits too, unless another build is given: then that build does the same work in
    /// turn with ours, and its figures are the limits.
    pub(crate) async fn measure<S>(
        &self,
        prepare: impl AsyncFn(&Self) -> Result<S>,
        round: impl AsyncFn(&S, bool) -> Rows,
    ) -> Rows {
        let theirs = match &self.against {
            Some(path) => Some(prepare(&Self { master: path.clone(), ..self.clone() }).await?),
            None => None,
        };
        let ours = prepare(self).await?;
        let mut rows = Vec::new();
        // the second round takes the place of the first
        for n in 0..=self.rounds {
            let limits = if let Some(other) = &theirs { round(other, false).await? } else { Vec::new() };
            let mut shown = round(&ours, theirs.is_none()).await?;
            if theirs.is_some() {
                shown = shown.into_iter().zip(&limits).map(|(row, other)| row.against_build(other)).collect();
            }
            rows = match n {
                0 | 1 => shown,
                _ => rows.into_iter().zip(shown).map(|(row, other): (Row, _)| row.merge(other)).collect(),
            };
        }
        Ok(rows.into_iter().map(Row::finish).collect())
    }
}
