//! `DataRow`: one row of a result.

use super::{CodecError, Reader, put, put_count, put_value};
use bytes::{Bytes, BytesMut};

/// Its tag.
pub const TAG: u8 = b'D';

/// Reads one: a value for each column, `None` for NULL.
///
/// # Errors
/// What does not fit its length.
pub fn read(body: &Bytes) -> Result<Vec<Option<Bytes>>, CodecError> {
    let mut reader = Reader::new(body, "DataRow");
    let count = reader.count(4)?;
    let values = (0..count).map(|_| reader.value()).collect::<Result<Vec<_>, _>>()?;
    reader.end()?;
    Ok(values)
}

/// Appends one.
pub fn write<V: AsRef<[u8]>>(out: &mut BytesMut, values: &[Option<V>]) {
    put(out, TAG, |body| {
        put_count(body, values.len());
        for value in values {
            put_value(body, value.as_ref().map(AsRef::as_ref));
        }
    });
}
