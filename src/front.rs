//! Which API answers a request on the port that both share: the one place that knows both.

use std::convert::Infallible;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::wire::{Outgoing, RequestContext};
use crate::{native, s3};

/// Both APIs of a store.
#[derive(Clone)]
pub struct Front {
    native: native::Api,
    s3: s3::Api,
}

/// The answer of either API.
pub type Answer = Response<Either<Outgoing, s3::Body>>;

/// The answer of S3, under way.
type S3Answer = BoxFuture<'static, Result<Response<s3::Body>, Infallible>>;

impl Front {
    /// Both of these.
    #[must_use]
    pub fn new(native: native::Api, s3: s3::Api) -> Self {
        Self { native, s3 }
    }

    /// Answers a request in the API that it speaks: S3 if it is S3's beyond doubt, and else the native one.
    pub fn answer(
        &self,
        context: RequestContext,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Infallible>> + use<> {
        let asked = if self.s3.is_meant(&request) {
            // in a box, so that requests to the native API don't carry its room
            Err(self.s3.clone().answer(context, request).boxed())
        } else {
            Ok((context, request))
        };
        either(self.native.clone(), asked)
    }
}

/// The answer of the native API to a request, or the answer of S3 that is already under way.
// An `async fn`, though it has little to say: one made of combinators is copied whole for each request.
async fn either(
    native: native::Api,
    asked: Result<(RequestContext, Request<Incoming>), S3Answer>,
) -> Result<Answer, Infallible> {
    Ok(match asked {
        Ok((context, request)) => native.answer(context, request).await?.map(Either::Left),
        Err(answer) => answer.await?.map(Either::Right),
    })
}
