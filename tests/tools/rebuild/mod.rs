//! `davkv-rebuild`: the index is made again from what lies on the volumes.

mod comes_back;
mod davkv01;
mod dump;
mod interrupted;
mod junk;
mod minikeyvalue;
mod older_index;
mod parts;
mod unreadable;
