//! davkv: a key-value store for large values.
//!
//! One master keeps an index (key → replicas) in LevelDB; the values are plain files on stock nginx
//! servers, the volumes. PUT and DELETE go through the master, GET is answered with a redirect to a
//! volume. All cleverness is in one place: the order in which the index and the volumes are written
//! ([`store`]).
//!
//! The rooms, from the bottom; each imports only from those above it in this list:
//!
//! | room | what it is for |
//! |---|---|
//! | [`error`], [`progress`], [`logs`] | what can go wrong, how far a run is, lines for the operator |
//! | [`key`], [`placement`], [`record`] | pure: formats and hashing |
//! | [`leveldb`] | the safe side of LevelDB, for `index` alone |
//! | [`index`] | keys, records and intents, by key and by page |
//! | [`volume`] | one volume server: its requests, its health |
//! | `source` | a client's body: paced, counted, hashed |
//! | [`store`] | the write protocol, claims, the reaper, rebalancing |
//! | [`rebuild`] | an index from volumes |
//! | [`access`] | clients' keys: who may do what |
//! | [`wire`] | what both APIs share: connections, bodies, framing |
//! | [`native`] | the native API |
//! | `s3` | the S3 API, beside the native one |
//! | [`config`] | flags |

pub mod access;
pub mod config;
pub mod error;
#[cfg(feature = "s3")]
pub mod front;

pub mod index;
pub mod key;
pub mod leveldb;
pub mod logs;
pub mod native;
pub mod placement;
pub mod progress;
pub mod rebuild;
pub mod record;
pub mod runtime;
#[cfg(feature = "s3")]
pub mod s3;
mod source;
pub mod store;
pub mod volume;
pub mod wire;
