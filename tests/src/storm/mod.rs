//! Work and attempts to escape that go on while things are killed, and the proof afterwards:
//! what was on the wire, held against what the transcripts say.

mod attacks;
mod clients;
mod evidence;
mod probes;

pub use attacks::{ATTACKS, attack, memory};
pub use clients::{Clients, Way};
pub use evidence::{Evidence, stray};
pub use probes::{CONTROL, MARK, Probes, control};
