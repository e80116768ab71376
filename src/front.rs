//! Chooses the API that answers a request on the shared port. No other module knows both APIs.

use std::convert::Infallible;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::wire::{Outgoing, RequestContext};
use crate::{native, s3};

/// The native and the S3 API of a store.
#[derive(Clone)]
pub struct Front {
    native: native::Api,
    s3: s3::Api,
}

/// The answer of either API.
pub type Answer = Response<Either<Outgoing, s3::Body>>;

/// The pending answer of the S3 API.
type S3Answer = BoxFuture<'static, Result<Response<s3::Body>, Infallible>>;

impl Front {
    /// Combines the two APIs.
    #[must_use]
    pub fn new(native: native::Api, s3: s3::Api) -> Self {
        Self { native, s3 }
    }

    /// Answers a request in S3 if it is certainly an S3 request, and in the native API otherwise.
    pub fn answer(
        &self,
        context: RequestContext,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Infallible>> + use<> {
        let asked = if self.s3.is_meant(&request) {
            // boxed, so that native requests don't reserve memory for S3's large future
            Err(self.s3.clone().answer(context, request).boxed())
        } else {
            Ok((context, request))
        };
        either(self.native.clone(), asked)
    }
}

/// The answer of the native API to a request, or the pending answer of S3.
// An `async fn`, because a future made of combinators is copied as a whole for each request.
async fn either(
    native: native::Api,
    asked: Result<(RequestContext, Request<Incoming>), S3Answer>,
) -> Result<Answer, Infallible> {
    Ok(match asked {
        Ok((context, request)) => native.answer(context, request).await?.map(Either::Left),
        Err(answer) => answer.await?.map(Either::Right),
    })
}
