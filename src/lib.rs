//! davkv: a key-value store for large values.
//!
//! One master keeps an index (key → replicas) in LevelDB; the values are plain files on stock nginx
//! servers, the volumes. PUT and DELETE go through the master, GET is answered with a redirect to a
//! volume. The correctness rests on the order in which the index and the volumes are written ([`store`]).
//!
//! The modules, from the top down. A module imports only from modules below it, and the files within a module
//! have no circular imports. The programs `src/main.rs` and `tools/` are above them: they parse flags,
//! open the index, run, and exit with a status.
//!
//! | module | purpose |
//! |---|---|
//! | [`config`] | flags and environment variables, and the messages for wrong ones |
//! | `front` | chooses the API that answers a request on the shared port |
//! | [`native`], `s3` | the two APIs, independent of each other: they turn requests into calls of the store, and its errors into statuses |
//! | [`wire`] | shared by the APIs: connections, the context of a request, bodies in and out, framing, panics, text that is safe in the log |
//! | [`access`] | clients' keys: who may do what. On the same level as `wire`: neither imports the other |
//! | [`rebuild`] | makes a new index from the files on the volumes, for `davkv-rebuild` |
//! | [`store`] | the write protocol: attempts and intents, one writer per key (`claims`), the reaper, reading, rebalancing, uploads in parts |
//! | `source` | a client's body on its way to the replicas: minimum rate, size, MD5 |
//! | [`index`] | records, intents and notes, by key and by page. A second engine beside LevelDB would go here |
//! | [`volume`] | one volume server: its requests, connections and health. The only module that knows WebDAV |
//! | [`leveldb`] | a safe interface to LevelDB, for `index` only |
//! | [`error`] | the reasons why a request fails, independent of HTTP; the APIs choose the statuses |
//! | [`identity`] | pure: who a store and its volumes are, and what follows where a volume isn't the one that the index means |
//! | [`record`], [`placement`], [`key`] | pure: what the index stores for a key, which volumes hold it, what its files are called |
//! | [`memory`] | what the allocator keeps, and what it gives back |
//! | [`pauses`] | how long clients, volumes and readers may pause in the middle of a value |
//! | [`clock`] | wall time, in milliseconds. Intervals are measured with the runtime's clock |
//! | `hashing` | the MD5 of values on their way through, many at once on a thread of its own |
//! | [`runtime`], [`logs`], [`progress`] | the async runtime and blocking work; log lines; the progress of a run |

pub mod access;
pub mod clock;
pub mod config;
pub mod error;
#[cfg(feature = "s3")]
pub mod front;
mod hashing;
pub mod identity;
pub mod index;
pub mod key;
pub mod leveldb;
pub mod logs;
pub mod memory;
pub mod native;
pub mod pauses;
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
