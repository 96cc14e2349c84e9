//! The `enforcer` program; everything lives in the library.

fn main() -> std::process::ExitCode {
    enforcer::cli::main()
}
