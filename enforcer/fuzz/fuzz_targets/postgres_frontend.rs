//! Any bytes as what a client of a database sends: messages or refusals, and what is read is what
//! is written again.
#![no_main]

use bytes::BytesMut;
use enforcer::protocol::postgres::codec::frontend::{self, Frontend};
use enforcer::protocol::postgres::codec::{MAX_MESSAGE, take};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut buf = BytesMut::from(data);
    while let Ok(Some(message)) = take(&mut buf, MAX_MESSAGE) {
        let mut wire = BytesMut::new();
        match frontend::read(&message) {
            Ok(Frontend::Query(sql)) => frontend::put_query(&mut wire, &sql),
            Ok(Frontend::Parse(parse)) => parse.put(&mut wire),
            Ok(Frontend::Bind(bind)) => bind.put(&mut wire),
            Ok(Frontend::Describe(named)) => named.put_describe(&mut wire),
            Ok(Frontend::Close(named)) => named.put_close(&mut wire),
            _ => continue,
        }
        let again = take(&mut wire, MAX_MESSAGE).expect("written by us").expect("whole");
        assert_eq!(again, message);
    }
});
