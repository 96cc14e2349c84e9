//! Any bytes as what a database sends: read or refused, and rows are written again as they came.
#![no_main]

use bytes::BytesMut;
use enforcer::protocol::postgres::codec::error_response::Report;
use enforcer::protocol::postgres::codec::{
    MAX_MESSAGE, backend, copy, data_row, row_description, take,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut buf = BytesMut::from(data);
    while let Ok(Some(message)) = take(&mut buf, MAX_MESSAGE) {
        let body = &message.body;
        let _ = (backend::authentication(body), backend::key_data(body), backend::ready(body));
        let _ = (backend::parameter(body), backend::parameters(body), backend::negotiate(body));
        let _ = (backend::notification(body), backend::complete(body), Report::read(body));
        let mut wire = BytesMut::new();
        match message.tag {
            data_row::TAG => {
                let Ok(row) = data_row::read(body) else { continue };
                data_row::write(&mut wire, &row);
            }
            row_description::TAG => {
                let Ok(fields) = row_description::read(body) else { continue };
                row_description::write(&mut wire, &fields);
            }
            copy::OUT_RESPONSE => {
                let Ok(response) = copy::read(body) else { continue };
                response.put(&mut wire, copy::OUT_RESPONSE);
            }
            _ => continue,
        }
        let again = take(&mut wire, MAX_MESSAGE).expect("written by us").expect("whole");
        assert_eq!(again, message);
    }
});
