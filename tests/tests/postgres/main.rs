//! PostgreSQL through the gate: real drivers, unchanged, against a real server.

mod bench;
mod drivers;
mod gate;
mod server;
