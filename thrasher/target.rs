//! What is thrashed: a master, or the volumes directly.

use davkv::key::Key;
use hyper::{Method, StatusCode};

use crate::client::Client;
use crate::direct::Direct;
use crate::request::{Failure, Request};
use crate::value::Item;

/// Where the operations go.
pub(crate) enum Target {
    /// A master at that URL, which has no path and no `/` at its end.
    Master(String),
    /// The volumes, with nobody in between.
    Direct(Direct),
}

/// One thing to do with a key, and what its latency covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Upload the value: until the 201 has arrived.
    Put,
    /// Download the value: asking the master, following its redirect, and the whole body, compared.
    Get,
    /// Delete the value: until the 204.
    Delete,
    /// Ask where the value is: until the 302, which isn't followed.
    Redirect,
    /// Ask for a key that isn't there: until the 404.
    Missing,
    /// List all the keys: until the last byte of the list.
    List,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Delete => "DELETE",
            Self::Redirect => "REDIRECT",
            Self::Missing => "MISSING",
            Self::List => "LIST",
        }
    }
}

impl Target {
    /// What the target is called in the report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Master(_) => "master",
            Self::Direct(_) => "direct",
        }
    }

    /// What all keys of a run begin with. The volumes' own keys stand out: should a run be cut short,
    /// they are on the volumes and in nobody's index.
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
    /// Any answer but the one that is due.
    pub(crate) async fn perform(
        &self,
        client: &Client,
        operation: Operation,
        item: &Item,
    ) -> Result<(), Failure> {
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
    /// Any answer but a list of as many keys.
    pub(crate) async fn list(&self, client: &Client, prefix: &Key, count: u64) -> Result<(), Failure> {
        let request = Request { client, operation: Operation::List, key: prefix };
        match self {
            Self::Direct(_) => Err(request.unsupported()),
            Self::Master(base) => request.list(&format!("{base}{prefix}?list"), count).await,
        }
    }
}

async fn ask_master(request: &Request<'_>, base: &str, item: &Item) -> Result<(), Failure> {
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
