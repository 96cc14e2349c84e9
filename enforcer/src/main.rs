//! The `enforcer` program; everything lives in the library.

/// An operation makes and drops hundreds of small values on whichever thread it runs; the C
/// library's allocator has these threads wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    enforcer::cli::main()
}
