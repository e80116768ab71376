//! Looks after the volumes that take no part: each is looked at again and again until it does. Then the values that were
//! stored there just before are looked at again, too.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::sleep;

use super::core::Core;
use super::standing::Standing;
use crate::volume::VolumeError;

/// How much longer the pauses between looks at a volume that is refused become, each twice as long as the last, while it
/// is refused for the same reason. Any other volume is looked at after the first pause.
const LONGER: u32 = 10;

/// A volume that is looked after, until it takes part or another program has taken it.
type Looking = BoxFuture<'static, (String, Standing)>;

impl Core {
    /// Looks after the volumes that take no part, until the store stops.
    pub(super) fn keep_register(
        self: Arc<Self>,
        standings: &[(String, Standing)],
    ) -> impl Future<Output = ()> + use<> {
        let out = standings.iter().filter(|(_, standing)| !standing.is_verified());
        let out = out.map(|(name, standing)| (name.clone(), standing.kind())).collect();
        self.look_after(out)
    }

    /// `out`: the volumes that take no part, each with what was said of it last.
    async fn look_after(self: Arc<Self>, out: Vec<(String, String)>) {
        let mut names: BTreeSet<String> = out.iter().map(|(name, _)| name.clone()).collect();
        // each on its own: one that doesn't answer mustn't delay the others
        let mut looking: FuturesUnordered<Looking> =
            out.into_iter().map(|(name, told)| Arc::clone(&self).look_until_settled(name, told)).collect();
        loop {
            let name = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                name = self.volumes.unverified() => name,
                name = self.volumes.doubtful() => {
                    self.tasks.spawn(Arc::clone(&self).recheck(name));
                    continue;
                }
                Some((name, standing)) = looking.next() => {
                    if matches!(standing, Standing::Taken) {
                        self.options.placement.volumes().for_each(|name| self.volumes.named(name).bar());
                        self.taken.cancel();
                        return;
                    }
                    names.remove(&name);
                    // it may have been barred again meanwhile
                    name
                }
            };
            if self.volumes.named(&name).is_out() && names.insert(name.clone()) {
                looking.push(Arc::clone(&self).look_until_settled(name, String::new()));
            }
        }
    }

    /// `told`: the kind of what was said of the volume last; nothing if it is to be looked at now.
    fn look_until_settled(self: Arc<Self>, name: String, mut told: String) -> Looking {
        Box::pin(async move {
            let first = self.volumes.look_every();
            let mut pause = first;
            if !told.is_empty() {
                sleep(pause).await;
            }
            loop {
                let standing = self.look_again(&name).await;
                let now = standing.kind();
                let is_same = now == told;
                if !is_same {
                    standing.log(&name);
                    told = now;
                }
                if standing.is_verified() || matches!(standing, Standing::Taken) {
                    return (name, standing);
                }
                pause = next_pause(first, pause, &standing, is_same);
                sleep(pause).await;
            }
        })
    }

    async fn look_again(&self, name: &str) -> Standing {
        let standing = async {
            let known = self.index.known_volumes().await?;
            let look = self.look(name, known.get(name)).await;
            self.settle_identity(name, known.get(name), look).await
        };
        standing.await.unwrap_or_else(|error| {
            Standing::Down(VolumeError::Unreachable(format!("the index can't tell whose it is: {error}")))
        })
    }
}

fn next_pause(first: Duration, last: Duration, standing: &Standing, is_same: bool) -> Duration {
    match standing {
        Standing::Refused { .. } if is_same => (last * 2).min(first * LONGER),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Problem;

    #[test]
    fn a_volume_that_stays_refused_is_looked_at_less_and_less_often() {
        let refused = Standing::Refused { problem: Problem::Unknown, replaced: String::new() };
        let first = Duration::from_secs(1);
        let mut pauses = vec![first];
        for _ in 0..6 {
            pauses.push(next_pause(first, pauses.last().copied().unwrap_or_default(), &refused, true));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10, 10].map(Duration::from_secs));
        // at once when it changes, as when its disk is mounted and the next step fails
        assert_eq!(next_pause(first, first * LONGER, &refused, false), first);
        let down = Standing::Down(VolumeError::Unverified);
        assert_eq!(next_pause(first, first * LONGER, &down, true), first);
    }
}
