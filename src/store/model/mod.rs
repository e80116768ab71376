//! What surrounds the store in its unit tests: an index in memory, and below the real client of the volumes a
//! network in memory with an nginx behind each connection. Every single call can fail, or be the last one before
//! the store stops.
//!
//! | file | what it holds |
//! |---|---|
//! | [`fault`] | what the store calls, and what can befall each call |
//! | [`world`] | what outlives the store: rows, files, requests on their way |
//! | [`invariants`] | what must hold at each request that changes a volume |
//! | [`disks`] | disks that vanish, come back, or are mounted where they don't belong |
//! | [`calls`] | the world as calls meet it: numbers, faults, and requests that land |
//! | [`index`] | the stage of the index's simulated engine |
//! | [`network`], [`nginx`], [`http`] | what the real `crate::volume` sees of it, byte by byte: connections, and volumes behind them |
//! | [`terms`] | what clients write, ask for and are told |
//! | [`step`] | what clients do, and what happens |
//! | [`setup`] | the store, in a world |
//! | [`history`] | what clients were told, and what may therefore be |
//! | [`case`], [`run`] | clients and what they were told, over one or more runs of the store |
//! | [`audit`] | what must hold when all is quiet |
//! | [`scenarios`], [`every_call`] | each scenario again and again, each time with another call failing, or the last |
//! | [`foreign`] | the disks of another store |
//! | [`every_disk`] | at every call of some scenarios a disk vanishes, and comes back |
//! | [`copies`] | two stores with copies of one index |
//! | [`taken`] | writes that are under way while another program takes the volumes over |
//! | [`owner_file`] | volumes that refuse their owner files |
//! | [`recheck`] | values that are in doubt, as a disk was away, while others write them |
//! | [`every_byte`] | exchanges with a volume that are cut at every byte |
//! | [`reading`] | a read that takes longer than its value is there |
//! | [`recovery`] | the index is opened again while the reaper works |
//! | [`uploads`] | what clients do with uploads in parts |
//! | [`unclaimed`] | an attempt that others don't wait for, and the reaper |
//! | [`any_order`] | random steps of clients at once, and random faults |
//!
//! Time is tokio's paused clock: a quarantine passes at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on panics, and that is its report"
)]

mod any_order;
mod audit;
mod calls;
mod case;
mod copies;
mod disks;
mod every_byte;
mod every_call;
mod every_disk;
mod fault;
mod foreign;
mod history;
mod http;
mod index;
mod invariants;
mod network;
mod nginx;
mod owner_file;
mod reading;
mod recheck;
mod recovery;
mod run;
mod scenarios;
mod setup;
mod step;
mod taken;
mod terms;
mod unclaimed;
mod uploads;
mod world;
