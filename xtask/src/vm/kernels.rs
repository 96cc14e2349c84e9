//! The kernels of the matrix: Debian's own packages, downloaded and unpacked,
//! never installed on the host.

use crate::exec::{Done, root, run as execute, step};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel of the matrix: its name and the suites that it is looked for in.
struct Source {
    name: &'static str,
    suites: &'static [&'static str],
}

/// The oldest on which every program of the kernel half loads, the one between, the newest that
/// there is.
const SOURCES: [Source; 3] = [
    Source { name: "6.1", suites: &["bookworm"] },
    Source { name: "6.12", suites: &["bookworm-backports"] },
    Source { name: "newest", suites: &["trixie-backports", "sid"] },
];

/// The package that depends on a suite's current kernel.
const META: &str = "linux-image-amd64";

/// Signs the package lists; part of every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Names that `--kernel` takes.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|source| source.name)
}

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// Its place in the matrix.
    pub(crate) name: &'static str,
    /// `uname -r` of it.
    pub(crate) release: String,
    /// The unpacked package.
    pub(crate) dir: PathBuf,
}

impl Kernel {
    /// The image to boot; newer packages have it beside the modules.
    pub(crate) fn image(&self) -> PathBuf {
        let beside = self.modules().join("vmlinuz");
        if beside.exists() {
            return beside;
        }
        self.dir.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// Its modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules").join(&self.release)
    }
}

/// The kernel of this name below `vm`, unpacked before or now.
pub(crate) fn unpacked(vm: &Path, name: &str) -> Result<Kernel, String> {
    let source = SOURCES
        .iter()
        .find(|source| source.name == name)
        .ok_or_else(|| format!("no kernel {name}; there are all, {}", list()))?;
    let dir = vm.join("kernels").join(source.name);
    if let Some(release) = release_in(&dir) {
        return Ok(Kernel { name: source.name, release, dir });
    }
    step(&format!("fetching the kernel {name} (unpacked, not installed)"));
    let part = vm.join("kernels").join(format!("{name}.part"));
    remove(&part)?;
    remove(&dir)?;
    let work = part.join("download");
    make(&work)?;
    for package in download(&work, source.suites)? {
        execute(Command::new("dpkg-deb").arg("-x").arg(package).arg(&part))?;
    }
    remove(&work)?;
    // Debian 13 and later have /usr merged in packages, too.
    if !part.join("lib/modules").is_dir() && part.join("usr/lib/modules").is_dir() {
        make(&part.join("lib"))?;
        fs::rename(part.join("usr/lib/modules"), part.join("lib/modules"))
            .map_err(|error| format!("{}: {error}", part.display()))?;
    }
    let release = release_in(&part).ok_or("the kernel's package has no kernel")?;
    execute(Command::new("depmod").arg("-b").arg(&part).arg(&release))?;
    fs::rename(&part, &dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    Ok(Kernel { name: source.name, release, dir })
}

fn list() -> String {
    names().collect::<Vec<_>>().join(", ")
}

/// The release of the kernel in an unpacked package.
fn release_in(dir: &Path) -> Option<String> {
    let mut modules = fs::read_dir(dir.join("lib/modules")).ok()?.flatten();
    modules.next()?.file_name().into_string().ok()
}

/// Downloads the newest kernel of the suites with an apt of its own: the host's lists, sources
/// and packages stay as they are.
fn download(work: &Path, suites: &[&str]) -> Result<Vec<PathBuf>, String> {
    let site = debian_site()?;
    let sources: String = suites
        .iter()
        .map(|suite| format!("deb [signed-by={KEYRING} arch=amd64] {site} {suite} main\n"))
        .collect();
    let list = work.join("sources.list");
    fs::write(&list, sources).map_err(|error| format!("{}: {error}", list.display()))?;
    for dir in ["lists/partial", "cache/archives/partial"] {
        make(&work.join(dir))?;
    }
    let status = work.join("status");
    fs::write(&status, "").map_err(|error| format!("{}: {error}", status.display()))?;
    let apt = |program: &str| {
        let mut apt = Command::new(program);
        apt.current_dir(work)
            .arg("-qq")
            .arg(format!("-oDir::Etc::sourcelist={}", list.display()))
            .arg("-oDir::Etc::sourceparts=/dev/null")
            .arg(format!("-oDir::State::lists={}", work.join("lists").display()))
            .arg(format!("-oDir::State::status={}", status.display()))
            .arg(format!("-oDir::Cache={}", work.join("cache").display()))
            // The directory is root's; apt's own user cannot write there.
            .arg("-oAPT::Sandbox::User=root")
            .arg("-oAcquire::Languages=none")
            .arg("-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false");
        apt
    };
    execute(apt("apt-get").arg("update"))?;
    // Newest first by version, not by the suites' priorities.
    let madison = output(apt("apt-cache").args(["madison", META]))?;
    let version = newest(&madison).ok_or_else(|| format!("no {META} in {}", suites.join(", ")))?;
    let depends = |package: &str| -> Result<Vec<String>, String> {
        let shown = output(apt("apt-cache").args(["show", package]))?;
        let line = shown.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or("");
        let names = line.split(',').filter_map(|entry| entry.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    };
    let mut packages = depends(&format!("{META}={version}"))?;
    packages.retain(|name| name.starts_with("linux-image-"));
    let image = packages.first().ok_or_else(|| format!("{META} {version} names no kernel"))?;
    // Newer packages come in parts.
    let parts = depends(image)?;
    packages.extend(parts.into_iter().filter(|name| {
        ["linux-binary-", "linux-modules-"].iter().any(|part| name.starts_with(part))
    }));
    execute(apt("apt-get").arg("download").args(&packages))?;
    let entries = fs::read_dir(work).map_err(|error| format!("{}: {error}", work.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

/// The greatest version in `apt-cache madison`'s table, as dpkg orders versions.
fn newest(madison: &str) -> Option<String> {
    let versions = madison.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    versions.map(str::to_owned).reduce(|best, next| {
        let newer = Command::new("dpkg").args(["--compare-versions", &next, "gt", &best]).status();
        if newer.is_ok_and(|status| status.success()) { next } else { best }
    })
}

/// The Debian mirror that this host already uses.
fn debian_site() -> Result<String, String> {
    let sites = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(SITE) $(ORIGIN) $(LABEL)",
        "Created-By: Packages",
    ]))?;
    sites
        .lines()
        .find_map(|line| line.strip_suffix(" Debian Debian"))
        .map(str::to_owned)
        .ok_or_else(|| {
            "apt knows no Debian archive (run `apt-get update`; the kernel matrix is Debian's)"
                .into()
        })
}

fn output(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if !out.status.success() {
        let why = String::from_utf8_lossy(&out.stderr);
        return Err(format!("{command:?}: {}: {}", out.status, why.trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

pub(super) fn make(dir: &Path) -> Done {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
}

pub(super) fn remove(dir: &Path) -> Done {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Where the matrix keeps its files.
pub(super) fn home() -> PathBuf {
    let target = crate::exec::target_dir();
    // Another directory than ours means the caller's, from where cargo was started.
    if target.is_absolute() { target.join("vm") } else { root().join(target).join("vm") }
}
