//! `predict serve` as programs meet it: the program itself, on a free port, with a tiny model that is made here.

#![allow(unreachable_pub)] // modules of one test

mod client;
mod files;
mod hostile;
mod routes;
mod schema;
mod server;
mod stop;
mod tiny;
