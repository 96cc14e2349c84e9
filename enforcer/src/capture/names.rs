//! Names of unix sockets in the configuration, as the kernel half's table has them.

use aya::maps::lpm_trie::Key;
use enforcer_common::names::UNIX_NAME;

/// A row of the table: `prefix_len` bits of the name.
pub(super) type NameKey = Key<[u8; UNIX_NAME]>;

/// What an entry of `kernel.unix_sockets` stands for: `/run/x.sock` that path alone, `/run/x/`
/// everything below it, `@name` that abstract name. `None`: too long, relative or empty.
pub(crate) fn bytes(entry: &str) -> Option<(Vec<u8>, bool)> {
    let (name, whole) = match entry.strip_prefix('@') {
        Some("") => return None,
        Some(name) => ([b"\0", name.as_bytes()].concat(), true),
        None => (entry.as_bytes().to_vec(), !entry.ends_with('/')),
    };
    let fits = name.len() < UNIX_NAME && !entry.contains('\0');
    // The kernel compares the words that a caller wrote: what is not plain would never match.
    let plain = name.first() == Some(&0)
        || (name.first() == Some(&b'/')
            && !entry.contains("//")
            && !entry.split('/').any(|part| part == "." || part == ".."));
    (fits && plain).then_some((name, whole))
}

/// The row for an entry.
pub(super) fn key(entry: &str) -> Option<NameKey> {
    let (name, whole) = bytes(entry)?;
    let mut data = [0; UNIX_NAME];
    data.get_mut(..name.len())?.copy_from_slice(&name);
    let len = if whole { UNIX_NAME } else { name.len() };
    Some(Key::new(u32::try_from(8 * len).ok()?, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_counts_whole_and_a_directory_by_its_beginning() {
        assert_eq!(bytes("/run/a.sock"), Some((b"/run/a.sock".to_vec(), true)));
        assert_eq!(bytes("/srv/agents/"), Some((b"/srv/agents/".to_vec(), false)));
        assert_eq!(bytes("@chat"), Some((b"\0chat".to_vec(), true)));
        assert_eq!(key("/run/a.sock").unwrap().prefix_len(), 864);
        assert_eq!(key("/srv/agents/").unwrap().prefix_len(), 96);
        let key = key("@chat").unwrap();
        assert_eq!((key.prefix_len(), &key.data()[..6]), (864, &b"\0chat\0"[..]));
    }

    #[test]
    fn what_could_never_match_is_none() {
        let long = format!("/{}", "a".repeat(UNIX_NAME));
        for bad in ["", "@", "run/a", "/run//a", "/run/../a", "/a\0b", "./a", long.as_str()] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }
}
