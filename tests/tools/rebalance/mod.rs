//! `davkv-rebalance`: every value moves to its placement.

mod damage;
mod down;
mod dry_run;
mod full;
mod interrupted;
mod moves;
mod refused;
