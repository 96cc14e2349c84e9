//! PostgreSQL through the gate: real drivers, unchanged, against a real server.

mod approvals;
mod bench;
mod drivers;
mod gate;
mod masked;
mod server;
mod tasks;
mod tricks;
