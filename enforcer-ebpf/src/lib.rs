//! Empty: lets the user half depend on this package for rebuilds only.
#![no_std]
