//! Any text as `enforcer.toml`: read, or refused with something said about it.
#![no_main]

use enforcer::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(problems) = Config::parse(text, &(32_768..=60_999)) {
        assert!(!problems.is_empty());
    }
});
