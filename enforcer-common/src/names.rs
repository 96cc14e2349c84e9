//! Names of programs, maps and pins, and capacities.
