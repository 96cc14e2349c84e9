//! The table of `docs/kernels.md`, from what the suite has seen on each kernel.

use super::kernels::{Kernel, names};
use crate::exec::{Done, root};
use std::fs;
use std::path::Path;

/// Where the table stands in the document.
const BEGIN: &str = "<!-- begin: cargo xtask vm --report -->\n";
const END: &str = "<!-- end -->\n";

/// The first column.
const HEAD: &str = "kernel";

/// One kernel's row.
pub(super) struct Row {
    name: String,
    release: String,
    /// Layer, whether it holds, how or why not.
    layers: Vec<(String, bool, String)>,
}

impl Row {
    /// From what the suite wrote: `layer|name|holds|detail` in each line.
    pub(super) fn read(kernel: &Kernel, dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("report")).unwrap_or_default();
        let layers = text.lines().filter_map(|line| {
            let mut words = line.strip_prefix("layer|")?.splitn(3, '|');
            let (name, state, detail) = (words.next()?, words.next()?, words.next()?);
            Some((name.to_owned(), state == "holds", detail.to_owned()))
        });
        Self {
            name: kernel.name.to_owned(),
            release: kernel.release.clone(),
            layers: layers.collect(),
        }
    }

    fn cell(&self, name: &str) -> String {
        match self.layers.iter().find(|(layer, ..)| layer == name) {
            Some((_, true, detail)) => detail.clone(),
            Some((_, false, why)) => format!("not: {why}"),
            None => "?".into(),
        }
    }
}

/// Puts the rows into the document; those of kernels that were not tried now stay.
pub(super) fn write(rows: &[Row]) -> Done {
    let file = root().join("docs/kernels.md");
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let text = placed(&text, rows).ok_or_else(|| {
        format!("{}: the lines {} and {} are missing", file.display(), BEGIN.trim(), END.trim())
    })?;
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn placed(text: &str, rows: &[Row]) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (old, after) = rest.split_once(END)?;
    let mut lines: Vec<(String, String)> = old
        .lines()
        .filter_map(|line| Some((line.strip_prefix("| ")?.split(" |").next()?, line)))
        .filter(|(name, _)| *name != HEAD && !rows.iter().any(|row| row.name == *name))
        .map(|(name, line)| (name.to_owned(), line.to_owned()))
        .collect();
    lines.extend(rows.iter().map(|row| {
        let [cgroup, unix, lsm] = ["cgroup", "unix", "lsm"].map(|name| row.cell(name));
        let line =
            format!("| {} | {} | {cgroup} | {unix} | {lsm} | passes |", row.name, row.release);
        (row.name.clone(), line)
    }));
    lines.sort_by_key(|(name, _)| names().position(|known| known == name));
    let rows: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
    Some(format!(
        "{before}{BEGIN}\n| {HEAD} | release | cgroup | unix | lsm | containment suite |\n\
         |---|---|---|---|---|---|\n{}\n\n{END}{after}",
        rows.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, release: &str) -> Row {
        let layers = vec![
            ("cgroup".into(), true, "18 programs".into()),
            ("unix".into(), false, "needs Linux 6.7".into()),
        ];
        Row { name: name.into(), release: release.into(), layers }
    }

    #[test]
    fn rows_are_replaced_and_nothing_else_changes() {
        let text = format!("before\n{BEGIN}{END}after\n");
        let first = placed(&text, &[row("newest", "7.0"), row("6.1", "6.1.1")]).unwrap();
        let second = placed(&first, &[row("6.1", "6.1.2")]).unwrap();
        assert!(second.starts_with("before\n") && second.ends_with("after\n"), "{second}");
        let rows: Vec<&str> =
            second.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        assert_eq!(
            rows,
            [
                "| 6.1 | 6.1.2 | 18 programs | not: needs Linux 6.7 | ? | passes |",
                "| newest | 7.0 | 18 programs | not: needs Linux 6.7 | ? | passes |",
            ]
        );
        assert_eq!(placed(&second, &[row("6.1", "6.1.2")]), Some(second));
        assert_eq!(placed("no marks", &[]), None);
    }
}
