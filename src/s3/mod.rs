//! The S3 API, over the same store as the native API. `/bucket/key` is the same object in both.
//!
//! The crate s3s reads and writes S3's XML, routes requests, and checks signatures; no other module uses it. This
//! module adds what s3s lacks: the bodies of objects bypass s3s in both directions (`request`, `answer`), and are
//! unframed and checked (`payload`, `signature`, `checksum`); XML is bounded (`xml`); failed requests are logged
//! (`answer`); browsers get CORS headers (`cors`).
//!
//! Source of all formats: the Amazon S3 API Reference.

mod answer;
mod api;
mod authorization;
mod buckets;
mod checksum;
mod completion;
mod condition;
mod cors;
mod errors;
mod fields;
mod keys;
mod listing;
mod metadata;
mod objects;
mod outputs;
mod payload;
mod presigned;
mod query;
mod recognition;
mod request;
mod signature;
mod uploads;
mod xml;

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::access::Access;
use crate::error::Error;
use crate::store::Store;
use crate::wire::{self, RequestContext, Share, caught};

use answer::Asked;
pub use answer::Body;
use api::Operations;
use buckets::{Buckets, Names};
pub use cors::Origins;
use errors::refused;
use keys::Keys;
use xml::LONGEST_XML;

/// The memory that a page takes until its length is known, in bytes: a thousand items with names of some hundred bytes,
/// and what it is made from.
const PAGE: usize = 1 << 20;

/// How the S3 API behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only created buckets exist.
    pub strict_buckets: bool,
    /// Readers are redirected to a volume.
    pub redirect: bool,
    /// Origins whose pages may use the API in browsers.
    pub origins: Origins,
}

/// The S3 API over a store.
#[derive(Clone)]
pub struct Api {
    service: S3Service,
    access: Access,
    origins: Arc<Origins>,
}

impl Api {
    /// Serves the store to clients with access.
    #[must_use]
    pub fn new(store: Store, access: Access, options: Options) -> Self {
        let Options { strict_buckets, redirect, origins } = options;
        let buckets = Buckets::new(&store, strict_buckets);
        let keys = Keys(access.clone());
        let mut service =
            S3ServiceBuilder::new(Operations { store, buckets, access: access.clone(), redirect });
        let mut config = S3Config::default();
        config.xml_max_body_size = LONGEST_XML;
        service.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        service.set_validation(Names { strict: strict_buckets });
        service.set_auth(keys.clone());
        service.set_access(keys);
        Self { service: service.build(), access, origins: Arc::new(origins) }
    }

    /// Whether a request is certainly an S3 request.
    #[must_use]
    pub fn is_meant<B>(&self, request: &Request<B>) -> bool {
        recognition::is_s3(request) || self.origins.is_preflight(request)
    }

    /// Answers a request to S3, and logs it if it failed.
    ///
    /// # Errors
    ///
    /// Never: failures become answers.
    pub async fn answer(
        self,
        context: RequestContext,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let context = Arc::new(context.answered_by(wire::Api::S3));
        let is_preflight = self.origins.is_preflight(&request);
        let (mut head, body) = request.into_parts();
        head.extensions.insert(Arc::clone(&context));
        let asked = Asked { context, condition: condition::named(&head.headers) };
        let origin = self.origins.of(&head);
        let preflight = is_preflight.then(|| self.origins.preflight(&head));
        let answer = match preflight {
            Some(answer) => answer.map(|answer| (answer, None)),
            None => self.run_within_share(head, body).await,
        };
        let (mut answer, share) = answer.unwrap_or_else(|error| (answer::refusal(error), None));
        asked.end(&mut answer);
        if let Some(share) = share {
            answer::hold(&mut answer, share);
        }
        self.origins.tell(&mut answer, origin);
        Ok(answer::finish(answer, asked))
    }

    /// Runs a request. If its answer is a page, it takes its share of the memory for pages first.
    async fn run_within_share(
        &self,
        head: Parts,
        body: Incoming,
    ) -> S3Result<(s3s::HttpResponse, Option<Share>)> {
        if !recognition::asks_for_page(&head) {
            return Ok((self.run(head, body).await?, None));
        }
        let share = Share::take(PAGE).await.ok_or_else(|| refused(Error::NoMemory))?;
        let answer = self.run(head, body).await?;
        let length = answer.body().bytes().map_or(0, |page| page.len());
        Ok((answer, Some(share.fit(length))))
    }

    async fn run(&self, head: Parts, body: Incoming) -> S3Result<s3s::HttpResponse> {
        let (request, gathered) = request::prepare(head, body, &self.access)?;
        let failed = |_failure| S3Error::new(S3ErrorCode::InternalError);
        let panicked = |_panic| s3_error!(InternalError, "the master failed, see its log");
        let answer = caught(self.service.call(request)).await;
        // s3s reports any error of a body as an internal error
        gathered.check()?;
        answer.map_err(panicked)?.map_err(failed)
    }
}
