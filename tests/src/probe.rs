//! (the probes of the containment suite)
