//! `RowDescription`: the columns of a result.

use super::{CodecError, Reader, put, put_count, put_text};
use bytes::{BufMut, Bytes, BytesMut};

/// Its tag.
pub const TAG: u8 = b'T';
/// Bytes of a field beside its name, with the zero that ends the name.
const FIELD: usize = 19;

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The table that it is a column of, or 0.
    pub table: u32,
    /// The number of that column, or 0.
    pub column: i16,
    /// Its type.
    pub kind: u32,
    /// The type's size; negative when it varies.
    pub size: i16,
    /// The type's modifier.
    pub modifier: i32,
    /// 0 is text, 1 binary; 0 where it is not known yet.
    pub format: i16,
}

impl Field {
    /// A value of this type and format that is no column of a table.
    pub fn unnamed(kind: u32, format: i16) -> Self {
        Self { name: String::new(), table: 0, column: 0, kind, size: -1, modifier: -1, format }
    }
}

/// Reads one.
///
/// # Errors
/// What does not fit its length.
pub fn read(body: &Bytes) -> Result<Vec<Field>, CodecError> {
    let mut reader = Reader::new(body, "RowDescription");
    let count = reader.count(FIELD)?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        fields.push(Field {
            name: reader.text()?,
            table: reader.u32()?,
            column: reader.i16()?,
            kind: reader.u32()?,
            size: reader.i16()?,
            modifier: reader.i32()?,
            format: reader.i16()?,
        });
    }
    reader.end()?;
    Ok(fields)
}

/// Appends one.
pub fn write(out: &mut BytesMut, fields: &[Field]) {
    put(out, TAG, |body| {
        put_count(body, fields.len());
        for field in fields {
            put_text(body, &field.name);
            body.put_u32(field.table);
            body.put_i16(field.column);
            body.put_u32(field.kind);
            body.put_i16(field.size);
            body.put_i32(field.modifier);
            body.put_i16(field.format);
        }
    });
}
