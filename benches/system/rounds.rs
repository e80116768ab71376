//! Rounds: two sides are measured in turn, A B A B …, so that the machine's moods meet both.

use crate::report::Row;
use crate::settings::{Result, Settings};

/// Prepares once and measures in rounds, of which the first isn't counted.
///
/// A round measures the limits too, unless another build is given: then that build does the same work in
/// turn with ours, and its figures are the limits.
pub(crate) async fn measure<S>(
    settings: &Settings,
    prepare: impl AsyncFn(&Settings) -> Result<S>,
    round: impl AsyncFn(&S, bool) -> Result<Vec<Row>>,
) -> Result<Vec<Row>> {
    let theirs = match &settings.against {
        Some(path) => Some(prepare(&Settings { master: path.clone(), ..settings.clone() }).await?),
        None => None,
    };
    let ours = prepare(settings).await?;
    let mut rows = Vec::new();
    // the second round takes the place of the first
    for n in 0..=settings.rounds {
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

/// Does the work of a limit, where limits are wanted.
pub(crate) async fn if_wanted<T>(limits: bool, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    if limits { work.await.map(Some) } else { Ok(None) }
}
