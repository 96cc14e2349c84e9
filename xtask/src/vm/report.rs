//! The table of `docs/kernels.md`, from what the suite has seen on each kernel.

use super::kernels::Kernel;
use crate::exec::{Done, root};
use std::fs;
use std::path::Path;

/// Where the table stands in the document.
const BEGIN: &str = "<!-- begin: cargo xtask vm --report -->\n";
const END: &str = "<!-- end -->\n";

/// One kernel's row.
pub(super) struct Row {
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
        Self { release: kernel.release.clone(), layers: layers.collect() }
    }

    fn cell(&self, name: &str) -> String {
        match self.layers.iter().find(|(layer, ..)| layer == name) {
            Some((_, true, detail)) => detail.clone(),
            Some((_, false, why)) => format!("not: {why}"),
            None => "?".into(),
        }
    }
}

/// Puts the rows into the document.
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
    let (_, after) = rest.split_once(END)?;
    let mut table =
        "\n| kernel | cgroup | unix | lsm | containment suite |\n|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        table.push_str(&format!(
            "| {} | {} | {} | {} | passes |\n",
            row.release,
            row.cell("cgroup"),
            row.cell("unix"),
            row.cell("lsm"),
        ));
    }
    Some(format!("{before}{BEGIN}{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_between_its_marks_and_nothing_else_changes() {
        let row = Row {
            release: "6.1.0".into(),
            layers: vec![
                ("cgroup".into(), true, "18 programs".into()),
                ("unix".into(), false, "needs Linux 6.7".into()),
            ],
        };
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let new = placed(&text, &[row]).unwrap();
        assert!(new.starts_with("before\n") && new.ends_with("after\n"), "{new}");
        assert!(
            new.contains("| 6.1.0 | 18 programs | not: needs Linux 6.7 | ? | passes |"),
            "{new}"
        );
        assert!(!new.contains("old"));
        assert_eq!(placed("no marks", &[]), None);
    }
}
