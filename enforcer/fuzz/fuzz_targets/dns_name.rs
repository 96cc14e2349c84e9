//! Any text as a host name: what passes reads back as itself and is no address to anyone.
#![no_main]

use enforcer::protocol::dns::names::Name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = Name::parse(text) {
        assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(&name));
        assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
        assert!(name.as_str().len() <= 253);
    }
});
