//! The types of PostgreSQL's own catalog, by oid, and how their binary forms print.
//!
//! The oids are fixed (`src/include/catalog/pg_type.dat`); the binary forms are what the
//! types' send functions write (`src/backend/utils/adt`).

use super::array;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use time::macros::date;

/// What a value of a type is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Characters: text, varchar, char(n), name, unknown, cstring.
    Text,
    /// One byte: "char".
    Char,
    Json,
    Jsonb,
    Xml,
    Bytea,
    /// Numbers that an account or a card can be.
    Number,
    /// Addresses of networks.
    Net,
    /// Of a fixed form that holds nothing to detect: yes or no, dates, times, UUIDs.
    Fixed,
    /// An array of elements of this type.
    Array(u32),
    /// Not known here: enums, composites, ranges, extensions' types.
    Other,
}

/// What a type is.
pub(super) fn class_of(oid: u32) -> Class {
    match oid {
        25 | 1043 | 1042 | 19 | 705 | 2275 => Class::Text,
        18 => Class::Char,
        114 => Class::Json,
        3802 => Class::Jsonb,
        142 => Class::Xml,
        17 => Class::Bytea,
        // int4, int8, float4, float8, numeric, money
        23 | 20 | 700 | 701 | 1700 | 790 => Class::Number,
        // inet, cidr, macaddr, macaddr8
        869 | 650 | 829 | 774 => Class::Net,
        // bool, int2, oid, date, time, timetz, timestamp, timestamptz, interval, uuid, void
        16 | 21 | 26 | 1082 | 1083 | 1266 | 1114 | 1184 | 1186 | 2950 | 2278 => Class::Fixed,
        oid => element_of(oid).map_or(Class::Other, Class::Array),
    }
}

/// Whether values of a type are characters and nothing else.
pub fn is_text(oid: u32) -> bool {
    class_of(oid) == Class::Text
}

/// The element type of an array type of the catalog; `None` when it is not one that is known.
pub fn element_of(oid: u32) -> Option<u32> {
    Some(match oid {
        143 => 142,
        199 => 114,
        651 => 650,
        775 => 774,
        791 => 790,
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1028 => 26,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1263 => 2275,
        1270 => 1266,
        2951 => 2950,
        3807 => 3802,
        _ => return None,
    })
}

/// A value as PostgreSQL prints it, for people and rules: text (format 0) as it is, binary of
/// the common types decoded (dates in ISO style, times in UTC), everything else and what is
/// not as its type says as `\x` and hexadecimal digits.
pub fn printed(type_oid: u32, format: i16, value: &[u8]) -> String {
    let text = match format {
        0 => std::str::from_utf8(value).ok().map(str::to_owned),
        1 => binary(type_oid, value),
        _ => None,
    };
    text.unwrap_or_else(|| format!("\\x{}", hex::encode(value)))
}

/// A binary value of a known type; `None` when it is not one.
pub(super) fn binary(oid: u32, value: &[u8]) -> Option<String> {
    Some(match oid {
        16 => match value {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            _ => return None,
        },
        21 => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        23 => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        20 => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        26 => u32::from_be_bytes(value.try_into().ok()?).to_string(),
        700 => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        701 => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        1700 => numeric(value)?,
        3802 => std::str::from_utf8(value.strip_prefix(&[1])?).ok()?.to_owned(),
        2950 => uuid::Uuid::from_slice(value).ok()?.to_string(),
        869 | 650 => net(value)?,
        1082 => day(i64::from(i32::from_be_bytes(value.try_into().ok()?)))?,
        1083 => clock(i64::from_be_bytes(value.try_into().ok()?))?,
        1114 => instant(i64::from_be_bytes(value.try_into().ok()?))?,
        1184 => {
            let micros = i64::from_be_bytes(value.try_into().ok()?);
            let text = instant(micros)?;
            if text.ends_with("infinity") { text } else { text + "+00" }
        }
        oid => match class_of(oid) {
            Class::Text | Class::Char | Class::Json | Class::Xml => {
                std::str::from_utf8(value).ok()?.to_owned()
            }
            Class::Array(element) => array::print(element, value)?,
            _ => return None,
        },
    })
}

/// Sign words of a binary numeric (`numeric.c`).
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// Digits in base 10000 before and behind the point.
fn numeric(value: &[u8]) -> Option<String> {
    let word = |at: usize| {
        let bytes = value.get(at * 2..at * 2 + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (count, weight, sign, scale) = (word(0)?, word(1)? as i16, word(2)?, word(3)?);
    if value.len() != 8 + usize::from(count) * 2 || scale > 0x3FFF {
        return None;
    }
    let mut out = match sign {
        0 => String::new(),
        NEGATIVE => "-".to_owned(),
        NAN => return Some("NaN".to_owned()),
        POSITIVE_INFINITY => return Some("Infinity".to_owned()),
        NEGATIVE_INFINITY => return Some("-Infinity".to_owned()),
        _ => return None,
    };
    let digit = |at: i32| match usize::try_from(at) {
        Ok(index) if index < usize::from(count) => word(4 + index).filter(|digit| *digit < 10_000),
        _ => Some(0),
    };
    if weight < 0 {
        out.push('0');
    }
    for at in 0..=i32::from(weight) {
        let digit = digit(at)?;
        let _ = if at == 0 { write!(out, "{digit}") } else { write!(out, "{digit:04}") };
    }
    if scale > 0 {
        out.push('.');
        let until = out.len() + usize::from(scale);
        let mut at = i32::from(weight) + 1;
        while out.len() < until {
            let _ = write!(out, "{:04}", digit(at)?);
            at += 1;
        }
        out.truncate(until);
    }
    Some(out)
}

/// Address families of a binary inet (`PGSQL_AF_INET`, `PGSQL_AF_INET6`).
const INET: u8 = 2;
const INET6: u8 = 3;

fn net(value: &[u8]) -> Option<String> {
    let [family, bits, cidr, length, address @ ..] = value else {
        return None;
    };
    if usize::from(*length) != address.len() {
        return None;
    }
    let (text, whole) = match *family {
        INET => (Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?).to_string(), 32),
        INET6 => (Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_string(), 128),
        _ => return None,
    };
    Some(if *bits == whole && *cidr == 0 { text } else { format!("{text}/{bits}") })
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A day counted from 2000-01-01.
fn day(days: i64) -> Option<String> {
    match days {
        days if days == i64::from(i32::MAX) => return Some("infinity".to_owned()),
        days if days == i64::from(i32::MIN) => return Some("-infinity".to_owned()),
        _ => {}
    }
    let day = date!(2000 - 01 - 01).checked_add(time::Duration::days(days))?;
    // Years before 1 are written as BC; nobody is born then.
    let (year, month, day) = (day.year(), u8::from(day.month()), day.day());
    (year > 0).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// Microseconds since midnight.
fn clock(micros: i64) -> Option<String> {
    if !(0..=DAY).contains(&micros) {
        return None;
    }
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut out = format!("{hours:02}:{minutes:02}:{rest:02}");
    if fraction > 0 {
        let _ = write!(out, ".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
    Some(out)
}

/// Microseconds since the beginning of 2000-01-01.
fn instant(micros: i64) -> Option<String> {
    match micros {
        i64::MAX => return Some("infinity".to_owned()),
        i64::MIN => return Some("-infinity".to_owned()),
        _ => {}
    }
    Some(format!("{} {}", day(micros.div_euclid(DAY))?, clock(micros.rem_euclid(DAY))?))
}
