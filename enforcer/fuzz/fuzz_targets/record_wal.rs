//! Any bytes as a log file of RocksDB: looked through without a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let places = enforcer::record::wal::damage(data);
    assert!(places.iter().all(|at| *at < data.len() as u64));
});
