//! davkv: a key-value store for large values.
//!
//! One master keeps an index (key → replicas) in LevelDB; the values are plain files on stock nginx
//! servers, the volumes. PUT and DELETE go through the master, GET is answered with a redirect to a
//! volume. All cleverness is in one place: the order in which the index and the volumes are written
//! ([`store`]).
//!
//! The rooms, from the top; each imports only from those below it, and no files of a room import each
//! other in a circle. Above them stand the programs: `src/main.rs` and `tools/` parse, open, run, and end
//! with a status.
//!
//! | room | what it is for |
//! |---|---|
//! | [`config`] | flags and environment: what the operator may say, and what to type where it is wrong |
//! | `front` | which of the two APIs answers a request |
//! | [`native`], `s3` | siblings that don't know each other: requests to calls of the store, and its errors to statuses, which appear nowhere else |
//! | [`wire`] | what both share: connections, the context of a request, bodies in and out, framing, panics, text that is safe in the log |
//! | [`access`] | clients' keys: who may do what. It stands beside `wire` |
//! | [`rebuild`] | a fresh index from the volumes, for a program of its own |
//! | [`store`] | the write protocol: attempts and their intents, one writer per key (a limit on those that wait for a key belongs to its `claims`), the reaper, reading, rebalancing, uploads in parts |
//! | `source` | a client's body on its way to the replicas: paced, counted, hashed |
//! | [`index`] | records, intents and notes, by key and by page, whatever engine keeps them: a further engine stands here, beside LevelDB |
//! | [`volume`] | one volume server: its requests, its connections, its health. Nothing else knows WebDAV |
//! | [`leveldb`] | the safe side of LevelDB, for `index` alone |
//! | [`error`] | what can go wrong with a request, by meaning; statuses are the APIs' |
//! | [`record`], [`placement`], [`key`] | pure: what the index keeps of a key, where its replicas belong, what its files are called |
//! | [`clock`] | the time of day, in milliseconds. Intervals are measured by the runtime's clock |
//! | [`runtime`], [`logs`], [`progress`] | how the programs run, and the one way onto the threads for blocking work; lines for the operator; how far a run is |

pub mod access;
pub mod clock;
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
