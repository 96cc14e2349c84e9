//! The written file names every key there is, and nothing is ever overwritten.

use super::*;
use crate::config;
use serde::de::value::Error as NoValue;
use serde::de::{Deserializer, Error as _, Visitor};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Learns the field names of a struct from what its `Deserialize` asks for.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = NoValue;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
        Err(NoValue::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, NoValue> {
        *self.0 = fields;
        Err(NoValue::custom("only the names were wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: serde::de::DeserializeOwned>() -> BTreeSet<String> {
    let mut names: &'static [&'static str] = &[];
    assert!(T::deserialize(Fields(&mut names)).is_err());
    assert!(!names.is_empty());
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The template with every key that is off turned on.
fn all_on() -> String {
    template(Path::new(DEFAULT_DIR), Path::new("/var/lib/enforcer"))
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => key,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_key_is_in_the_file_and_works() {
    let text = all_on();
    Config::parse(&text, &(32_768..=60_999)).unwrap();
    let document: toml::Table = toml::from_str(&text).unwrap();
    let keys = |section: &str| -> BTreeSet<String> {
        let table = match &document[section] {
            toml::Value::Array(items) => &items[0],
            table => table,
        };
        table.as_table().unwrap().keys().cloned().collect()
    };
    let sections: BTreeSet<String> = document.keys().cloned().collect();
    assert_eq!(sections, fields::<Config>());
    for (section, expected) in [
        ("host", fields::<config::Host>()),
        ("governed", fields::<config::Governed>()),
        ("kernel", fields::<config::Kernel>()),
        ("proxy", fields::<config::Proxy>()),
        ("resolver", fields::<config::Resolver>()),
        ("tls", fields::<config::Tls>()),
        ("server", fields::<config::Server>()),
        ("policy", fields::<config::Policy>()),
        ("transcript", fields::<config::Transcript>()),
        ("limits", fields::<config::Limits>()),
        ("run", fields::<config::Run>()),
        ("metrics", fields::<config::Metrics>()),
    ] {
        assert_eq!(keys(section), expected, "[{section}]");
    }
}

#[test]
fn every_key_has_a_comment_of_its_own() {
    let mut commented = false;
    for line in TEMPLATE.lines() {
        let is_comment = line.starts_with("# ");
        let bare = line.strip_prefix('#').unwrap_or(line);
        if !is_comment && bare.contains(" = ") {
            assert!(commented, "no comment before `{line}`");
        }
        commented = is_comment;
    }
}

#[test]
fn what_the_file_says_is_the_default() {
    let text = template(Path::new(DEFAULT_DIR), Path::new("/var/lib/enforcer"));
    let written = Config::parse(&text, &(32_768..=60_999)).unwrap();
    let least = "[host]\n[[governed]]\ncgroup = \"/agents.slice\"\n[policy]\ndir = \"/etc/enforcer/policy\"\n";
    let least = Config::parse(least, &(32_768..=60_999)).unwrap();
    assert_eq!(format!("{written:?}"), format!("{least:?}"));
}

#[test]
fn makes_what_is_missing_and_changes_nothing_after() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("a \"quoted\" dir");
    let data = dir.join("data");
    let all = |steps: &[Step], outcome| {
        steps
            .iter()
            .filter(|step| !step.to_string().contains("user of agents"))
            .all(|step| step.outcome == outcome)
    };
    let template = template(&dir, &data).replace("\"enforcer-agent\"", "\"nobody\"");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("enforcer.toml"), &template).unwrap();
    let first = init(&dir, &data).unwrap();
    assert!(first.len() > 5);
    assert!(all(&first[2..], Outcome::Made), "{first:#?}");
    let mode = fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let snapshot = || -> Vec<Vec<u8>> {
        ["enforcer.toml", "data/ca.pem", "data/ca.key", "policy/targets.toml"]
            .iter()
            .map(|file| fs::read(dir.join(file)).unwrap())
            .collect()
    };
    let before = snapshot();
    let second = init(&dir, &data).unwrap();
    assert!(all(&second, Outcome::Exists), "{second:#?}");
    assert_eq!(snapshot(), before);
}

#[test]
fn an_existing_file_with_an_error_is_named_and_left() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("enforcer.toml");
    fs::write(&path, "[host]\nnam = 1\n").unwrap();
    let error = init(temp.path(), &temp.path().join("data")).unwrap_err().to_string();
    assert!(error.contains("enforcer.toml:2: host.nam"), "{error}");
    assert!(!temp.path().join("data").exists());
}
