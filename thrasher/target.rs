//! What the load goes to: a master, or the volumes directly.

use davkv::key::Key;
use hyper::{Method, StatusCode};

use crate::client::Client;
use crate::direct::Direct;
use crate::request::{Operation, OperationError, Request};
use crate::value::Item;

/// Where the operations go.
pub(crate) enum Target {
    /// A master at that URL, which has no path and no `/` at its end.
    Master(String),
    /// The volumes, without a master.
    Direct(Direct),
}

impl Target {
    /// What the target is called in the report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Master(_) => "master",
            Self::Direct(_) => "direct",
        }
    }

    /// The prefix of all keys of a run. Keys put directly have a prefix of their own: if a run is cut short,
    /// they stay on the volumes, and no index has them.
    pub(crate) fn prefix(&self) -> &'static str {
        match self {
            Self::Master(_) => "/benchmark-",
            Self::Direct(_) => "/benchmark-direct-",
        }
    }

    /// Does one operation on one key, and checks the answer.
    ///
    /// # Errors
    ///
    /// Any other answer than the expected one.
    pub(crate) async fn perform(
        &self,
        client: &Client,
        operation: Operation,
        item: &Item,
    ) -> Result<(), OperationError> {
        let request = Request { client, operation, key: &item.key };
        match self {
            Self::Direct(direct) => direct.perform(&request, item).await,
            Self::Master(base) => ask_master(&request, base, item).await,
        }
    }

    /// Lists the keys under a prefix, of which there are `count`.
    ///
    /// # Errors
    ///
    /// Any other answer than a list of as many keys.
    pub(crate) async fn list(&self, client: &Client, prefix: &Key, count: u64) -> Result<(), OperationError> {
        let request = Request { client, operation: Operation::List, key: prefix };
        match self {
            Self::Direct(_) => Err(request.unsupported()),
            Self::Master(base) => request.list(&format!("{base}{prefix}?list"), count).await,
        }
    }
}

async fn ask_master(request: &Request<'_>, base: &str, item: &Item) -> Result<(), OperationError> {
    let url = format!("{base}{}", item.key);
    match request.operation {
        Operation::Put => request.put(&url, item.value).await,
        Operation::Get => {
            let location = request.location(&url).await?;
            request.get(&location, item.value).await
        }
        Operation::Delete => request.expect(Method::DELETE, &url, StatusCode::NO_CONTENT).await,
        Operation::Missing => request.expect(Method::GET, &url, StatusCode::NOT_FOUND).await,
        Operation::Redirect => request.location(&url).await.map(drop),
        Operation::List => Err(request.unsupported()),
    }
}
