//! Empty: the programs are the binary of this package. The library lets host
//! tools (fmt, doc, check) see a package that builds everywhere.
#![no_std]
