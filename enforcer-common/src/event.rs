//! Records that the kernel half sends up: refusals.
