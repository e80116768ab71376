//! `davkv-rebuild`: makes the index again from the files on the volumes.

mod comes_back;
mod davkv01;
mod dump;
mod interrupted;
mod junk;
mod minikeyvalue;
mod older_index;
mod parts;
mod unreadable;
