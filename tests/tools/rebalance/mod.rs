//! `davkv-rebalance`: every value goes to where the volumes want it.

mod damage;
mod down;
mod dry_run;
mod interrupted;
mod moves;
mod refused;
