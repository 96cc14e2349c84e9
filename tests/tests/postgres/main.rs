//! PostgreSQL through the gate: real drivers, unchanged, against a real server.

mod approvals;
mod bench;
mod drivers;
mod gate;
mod markers;
mod masked;
mod protocol;
mod regress;
mod server;
mod suites;
mod tasks;
mod tricks;
