//! PostgreSQL through the gate: real drivers, unchanged, against a real server.

mod server;
