//! What is started, as whom and where: a caller's wish, what the kernel says of
//! the caller, and the configuration become a [`Spec`], or a refusal.
//!
//! Pure but for the account lookup, which is passed in.

use super::env::{self, Trust, Who};
use super::peer::Peer;
use super::trust::TrustFiles;
use super::wire::{Run, Spec};
use crate::config::Config;
use crate::principal::AgentName;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a program is not started; each is a sentence for the caller.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No program, or something that cannot be passed on.
    #[error("{0}")]
    Malformed(&'static str),
    /// The name is none.
    #[error(
        "{what} {name:?} is no name: 1 to 128 letters, digits and any of ._@:- \
         (and the backslash that systemd writes)"
    )]
    Name {
        /// Agent or task.
        what: &'static str,
        /// What was asked.
        name: String,
    },
    /// Only root may choose.
    #[error("only root may run a program as another user; leave --user out")]
    OtherUser,
    /// The user is not there.
    #[error("there is no user {name:?}{hint}")]
    NoUser {
        /// The user.
        name: String,
        /// What to do.
        hint: &'static str,
    },
    /// Root inside defeats the guard.
    #[error(
        "a program that runs as root can undo its own confinement where the lsm layer does not \
         hold (`enforcer status`); choose another --user, or accept it by name with --accept-root"
    )]
    Root,
    /// The account database failed.
    #[error("the account database cannot be read: {0}")]
    Accounts(String),
}

/// One account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Finds an account by login name or decimal user id.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<Account>, String>;

/// What does not come from the caller.
#[derive(Debug)]
pub struct Place<'a> {
    /// The daemon's configuration.
    pub config: &'a Config,
    /// The governed root as a directory.
    pub root: &'a Path,
    /// The CA files.
    pub trust: &'a TrustFiles,
    /// The name of the run's own cgroup.
    pub run_id: String,
    /// Whether the lsm layer holds, and with it root inside is held, too.
    pub lsm: bool,
}

/// Decides what is started. `run` keeps program, arguments, directory and mask;
/// agent, task and environment become what was decided.
pub fn plan(
    mut run: Run,
    peer: &Peer,
    place: &Place<'_>,
    lookup: Lookup<'_>,
) -> Result<Spec, Refusal> {
    check_words(&run)?;
    let chosen = choose_user(&run, peer, place, lookup)?;
    if run.agent.is_empty() {
        run.agent = default_agent(&run.argv[0], chosen.uid);
    }
    let name = |what, name: &str| {
        AgentName::parse(name)
            .ok_or_else(|| Refusal::Name { what, name: name.chars().take(200).collect() })
    };
    name("the agent", &run.agent)?;
    if !run.task.is_empty() {
        name("the task", &run.task)?;
    }
    run.sandbox |= place.config.run.sandbox;
    let who = Who {
        agent: &run.agent,
        task: &run.task,
        other_user: chosen
            .other
            .as_ref()
            .map(|a| (a.name.as_str(), a.home.as_path(), a.shell.as_path())),
    };
    let trust = Trust { bundle: &place.trust.bundle, ca: &place.trust.ca };
    run.env = env::compute(&run.env, &who, trust);
    Ok(Spec {
        root: place.root.as_os_str().as_bytes().to_vec(),
        run_id: place.run_id.clone(),
        uid: chosen.uid,
        gid: chosen.gid,
        groups: chosen.groups,
        caller: peer.pid,
        runtime_dir: place.config.host.runtime_dir.as_os_str().as_bytes().to_vec(),
        name_server: name_server(place.config),
        run: Some(run),
    })
}

struct Chosen {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// Set when it is not the caller.
    other: Option<Account>,
}

fn choose_user(
    run: &Run,
    peer: &Peer,
    place: &Place<'_>,
    lookup: Lookup<'_>,
) -> Result<Chosen, Refusal> {
    let caller = Chosen { uid: peer.uid, gid: peer.gid, groups: peer.groups.clone(), other: None };
    let (name, hint) = match (run.user.as_str(), peer.uid) {
        ("", 0) => (
            place.config.run.user.as_str(),
            ": it is the default for root's programs; make it \
             (`systemd-sysusers`, `useradd --system`), set run.user, or give --user",
        ),
        ("", _) => return Ok(caller),
        (name, _) => (name, ""),
    };
    let account = lookup(name)
        .map_err(Refusal::Accounts)?
        .ok_or_else(|| Refusal::NoUser { name: name.to_owned(), hint })?;
    if account.uid == 0 && peer.uid == 0 && !run.accept_root && !place.lsm {
        return Err(Refusal::Root);
    }
    if account.uid == peer.uid {
        return Ok(caller);
    }
    if peer.uid != 0 {
        return Err(Refusal::OtherUser);
    }
    Ok(Chosen {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
        other: Some(account),
    })
}

fn check_words(run: &Run) -> Result<(), Refusal> {
    if run.argv.first().is_none_or(Vec::is_empty) {
        return Err(Refusal::Malformed("no program to run"));
    }
    if run.argv.iter().any(|arg| arg.contains(&0)) {
        return Err(Refusal::Malformed("an argument holds a NUL byte"));
    }
    if run.cwd.first() != Some(&b'/') || run.cwd.contains(&0) {
        return Err(Refusal::Malformed("the working directory is no absolute path"));
    }
    Ok(())
}

fn default_agent(program: &[u8], uid: u32) -> String {
    let base = program.rsplit(|b| *b == b'/').next().unwrap_or(program);
    let base: String = base
        .iter()
        .take(100)
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"._-".contains(b) => char::from(*b),
            _ => '_',
        })
        .collect();
    format!("{base}-{uid}")
}

/// An address that stands for the resolver. Any would do, the kernel brings all
/// of them to it; one out of the synthetic block can never be somebody's.
fn name_server(config: &Config) -> String {
    let block = config.resolver.synthetic_v4;
    block.hosts().next().unwrap_or_else(|| block.addr()).to_string()
}

/// Looks in the system's account database.
pub fn system_accounts(name: &str) -> Result<Option<Account>, String> {
    use nix::unistd::{Uid, User, getgrouplist};
    let found = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let Some(user) = found.map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let login = std::ffi::CString::new(user.name.as_str()).map_err(|e| e.to_string())?;
    let groups = getgrouplist(&login, user.gid).map_err(|e| e.to_string())?;
    Ok(Some(Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        home: user.dir,
        shell: user.shell,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        toml::from_str(
            "[host]\nname = \"h\"\n[[governed]]\ncgroup = \"/agents.slice\"\n[policy]\ndir = \"/p\"\n",
        )
        .unwrap()
    }

    fn lookup(name: &str) -> Result<Option<Account>, String> {
        let uid = match name {
            "root" | "0" => 0,
            "enforcer-agent" => 900,
            "ann" => 1000,
            "bob" => 1001,
            _ => return Ok(None),
        };
        Ok(Some(Account {
            name: name.into(),
            uid,
            gid: uid,
            groups: vec![uid, 44],
            home: format!("/home/{name}").into(),
            shell: "/bin/sh".into(),
        }))
    }

    fn planned(uid: u32, change: impl FnOnce(&mut Run)) -> Result<Spec, Refusal> {
        planned_where(false, uid, change)
    }

    /// `lsm`: whether that layer holds.
    fn planned_where(lsm: bool, uid: u32, change: impl FnOnce(&mut Run)) -> Result<Spec, Refusal> {
        let mut run = Run {
            argv: vec![b"/usr/bin/curl".to_vec()],
            env: vec![b"HOME=/root".to_vec()],
            cwd: b"/".to_vec(),
            ..Run::default()
        };
        change(&mut run);
        let peer = Peer { pid: 1, uid, gid: uid, groups: vec![7] };
        let config = config();
        let place = Place {
            config: &config,
            root: Path::new("/sys/fs/cgroup/agents.slice"),
            trust: &super::super::trust::files(Path::new("/run/enforcer")),
            run_id: "run-1".into(),
            lsm,
        };
        plan(run, &peer, &place, &lookup)
    }

    #[test]
    fn who_it_runs_as() {
        // caller, --user, --accept-root -> uid and groups, or the refusal
        type Expected = Result<(u32, Vec<u32>), Refusal>;
        let cases: Vec<(u32, &str, bool, Expected)> = vec![
            (1000, "", false, Ok((1000, vec![7]))),
            (1000, "ann", false, Ok((1000, vec![7]))),
            (1000, "1000", false, Err(Refusal::NoUser { name: "1000".into(), hint: "" })),
            (1000, "bob", false, Err(Refusal::OtherUser)),
            (1000, "root", false, Err(Refusal::OtherUser)),
            (1000, "root", true, Err(Refusal::OtherUser)),
            (0, "", false, Ok((900, vec![900, 44]))),
            (0, "bob", false, Ok((1001, vec![1001, 44]))),
            (0, "root", false, Err(Refusal::Root)),
            (0, "0", false, Err(Refusal::Root)),
            (0, "root", true, Ok((0, vec![7]))),
        ];
        for (uid, user, accept, expected) in cases {
            let got = planned(uid, |run| {
                run.user = user.into();
                run.accept_root = accept;
            });
            assert_eq!(got.map(|s| (s.uid, s.groups)), expected, "{uid} {user} {accept}");
        }
    }

    #[test]
    fn root_inside_needs_the_lsm_layer_or_a_word() {
        let as_root = |run: &mut Run| run.user = "root".into();
        assert_eq!(planned_where(false, 0, as_root).unwrap_err(), Refusal::Root);
        assert_eq!(planned_where(true, 0, as_root).unwrap().uid, 0);
        assert_eq!(planned_where(true, 1000, as_root).unwrap_err(), Refusal::OtherUser);
        let default = planned_where(true, 0, |_| ()).unwrap();
        assert_eq!(default.uid, 900, "root's programs are somebody else's all the same");
    }

    #[test]
    fn home_is_the_other_users_only_when_it_is_another() {
        let env = |spec: Spec| spec.run.unwrap().env;
        assert!(env(planned(0, |_| ()).unwrap()).contains(&b"HOME=/home/enforcer-agent".to_vec()));
        assert!(env(planned(1000, |_| ()).unwrap()).contains(&b"HOME=/root".to_vec()));
    }

    #[test]
    fn names_are_checked_and_have_a_default() {
        let agent = |spec: Spec| spec.run.unwrap().agent;
        assert_eq!(agent(planned(1000, |_| ()).unwrap()), "curl-1000");
        let odd = planned(1000, |run| run.argv = vec![b"./my tool\xff".to_vec()]).unwrap();
        assert_eq!(agent(odd), "my_tool_-1000");
        for bad in ["..", "a/b", "../x", "a b", "a\n"] {
            assert!(
                matches!(planned(0, |r| r.agent = bad.into()), Err(Refusal::Name { .. })),
                "{bad}"
            );
            assert!(
                matches!(planned(0, |r| r.task = bad.into()), Err(Refusal::Name { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_cannot_be_passed_on_is_refused() {
        for change in [
            (|r: &mut Run| r.argv.clear()) as fn(&mut Run),
            |r| r.argv = vec![Vec::new()],
            |r| r.argv.push(b"a\0b".to_vec()),
            |r| r.cwd = b"relative".to_vec(),
            |r| r.cwd = Vec::new(),
        ] {
            assert!(matches!(planned(1000, change), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn the_name_server_is_synthetic() {
        assert_eq!(planned(1000, |_| ()).unwrap().name_server, "198.18.0.1");
    }
}
