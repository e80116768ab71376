//! A perfect master's work, done by the client itself: the limit of the same hardware.
//!
//! Values lie where davkv and minikeyvalue would put them, under their plain names. A real master's figures
//! are lower by what else it has to do: its own hop, the index, the intents.

use davkv::key::Name;
use davkv::placement::Placement;
use futures_util::future::try_join_all;
use hyper::{Method, StatusCode};

use crate::request::{Operation, OperationError, Request};
use crate::value::Item;

/// The volumes, and how they are used.
pub(crate) struct Direct {
    pub(crate) placement: Placement,
    /// Whether a HEAD precedes each GET, as in a master that has just seen the value on the volume that it
    /// redirects to.
    pub(crate) head: bool,
}

impl Direct {
    /// PUT and DELETE go to all replicas at once, GET to one of them.
    pub(crate) async fn perform(&self, request: &Request<'_>, item: &Item) -> Result<(), OperationError> {
        let urls = self.urls(item);
        match request.operation {
            Operation::Put => {
                try_join_all(urls.iter().map(|url| request.put(url, item.value))).await?;
            }
            Operation::Delete => {
                let delete = |url| request.expect(Method::DELETE, url, StatusCode::NO_CONTENT);
                try_join_all(urls.iter().map(|url| delete(url))).await?;
            }
            Operation::Get => {
                let url = item.pick(&urls).ok_or_else(|| request.unsupported())?;
                if self.head {
                    request.head(url, item.value).await?;
                }
                request.get(url, item.value).await?;
            }
            Operation::Redirect | Operation::Missing | Operation::List => return Err(request.unsupported()),
        }
        Ok(())
    }

    /// Where the replicas lie.
    fn urls(&self, item: &Item) -> Vec<String> {
        let path = item.key.path(Name::Plain);
        let places = self.placement.wanted(&item.key);
        places.iter().map(|place| format!("http://{place}{path}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Size;

    #[test]
    fn replicas_lie_on_different_volumes() {
        let volumes = ["a:1", "b:1", "c:1", "d:1"].map(str::to_owned).to_vec();
        let direct = Direct { placement: Placement::new(volumes, 3, 10), head: false };
        let item = Item::new("/benchmark-", 1, 0, Size(16));
        let urls = direct.urls(&item);
        let mut hosts: Vec<_> = urls.iter().filter_map(|url| url.split("/sv0").next()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!((urls.len(), hosts.len()), (3, 3));
        assert!(urls.iter().all(|url| url.ends_with(&item.key.path(Name::Plain))));
        assert!(item.pick(&urls).is_some_and(|url| urls.contains(url)));
    }
}
