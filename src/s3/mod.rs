//! The S3 API.
#![allow(dead_code, reason = "the parts come before what is made of them")]

mod checksum;
mod payload;
mod signature;
