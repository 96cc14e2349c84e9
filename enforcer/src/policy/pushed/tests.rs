//! What a host takes, what it does not, and when it is too old.

use super::Host as Ground;
use super::*;
use crate::policy::signed::{PolicyKey, to_message};
use tempfile::TempDir;

const MAX: Duration = Duration::from_secs(3600);
const START: i64 = 1_700_000_000_000;

struct Host {
    dir: TempDir,
    key: PolicyKey,
    steady: Instant,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = PolicyKey::open(&dir.path().join("server.key")).unwrap();
        identity::pin_policy_key(&dir.path().join("identity"), key.public()).unwrap();
        Self { dir, key, steady: Instant::now() }
    }

    fn at(&self, seconds: i64) -> Now {
        let since = Duration::from_secs(u64::try_from(seconds).unwrap());
        Now { unix_ms: START + seconds * 1000, steady: self.steady + since }
    }

    fn inbox(&self, now: Now) -> Inbox {
        let path = self.dir.path();
        Inbox::open(path.join("policy"), &self.ground(), MAX, now)
    }

    fn ground(&self) -> Ground {
        let secrets = [self.dir.path().join("secrets")];
        Ground {
            identity_dir: self.dir.path().join("identity"),
            mask_key: b"mask".to_vec(),
            secrets: AllowedSecrets::new(&secrets, &["TOKEN".to_owned()]),
        }
    }

    fn verify(&self, message: v1::PolicyBundle) -> Result<Verified, Refused> {
        verify(&self.ground(), message)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("policy").join(name)
    }

    /// An inbox with version `number`, confirmed at `seconds`.
    fn with(&self, number: u64, seconds: i64) -> Inbox {
        let mut inbox = self.inbox(self.at(seconds));
        let message = bundle(&self.key, number, "");
        let signed = message.signed.clone().unwrap();
        assert!(inbox.take(self.verify(message).unwrap()).unwrap());
        let said = self.key.confirm(&signed, self.at(seconds).unix_ms);
        inbox.confirm(&said, self.at(seconds)).unwrap();
        inbox
    }
}

fn bundle(key: &PolicyKey, number: u64, comment: &str) -> v1::PolicyBundle {
    of_targets(key, number, comment, "")
}

fn of_targets(key: &PolicyKey, number: u64, comment: &str, targets: &str) -> v1::PolicyBundle {
    let files = ["targets.toml", "rules.cedar", "scopes.toml", "masks.toml"];
    let mut files: crate::policy::Files = files.map(|f| (f.to_owned(), String::new())).into();
    files.insert("masks.toml".to_owned(), format!("# {comment}\n"));
    files.insert("targets.toml".to_owned(), targets.to_owned());
    let bundle = Bundle::from_files(&files).unwrap();
    let statement = v1::PolicyStatement {
        number,
        digest: bundle.digest().to_vec(),
        version: bundle.version().to_owned(),
        ..v1::PolicyStatement::default()
    };
    v1::PolicyBundle { signed: Some(key.sign(&statement)), files: to_message(&files) }
}

#[test]
fn nothing_is_in_force_before_the_first_confirmed_bundle() {
    let host = Host::new();
    let mut inbox = host.inbox(host.at(0));
    assert_eq!(inbox.in_force(host.at(0)).unwrap_err(), Absence::Missing);
    inbox.take(host.verify(bundle(&host.key, 1, "")).unwrap()).unwrap();
    assert_eq!(inbox.in_force(host.at(0)).unwrap_err(), Absence::Missing);
    assert_eq!(host.with(2, 0).in_force(host.at(0)).unwrap().absence(), None);
}

#[test]
fn a_restart_uses_what_was_kept_within_its_age_only() {
    let host = Host::new();
    drop(host.with(4, 0));
    let inbox = host.inbox(host.at(3600));
    assert_eq!(inbox.number(), 4);
    assert!(inbox.in_force(host.at(3600)).is_ok());
    assert_eq!(inbox.in_force(host.at(3601)).unwrap_err(), Absence::Expired);
    // A server that is back makes it good again.
    let mut inbox = host.inbox(host.at(9000));
    assert_eq!(inbox.in_force(host.at(9000)).unwrap_err(), Absence::Expired);
    let signed = bundle(&host.key, 4, "").signed.unwrap();
    let said = host.key.confirm(&signed, host.at(9000).unix_ms);
    inbox.confirm(&said, host.at(9000)).unwrap();
    assert!(inbox.in_force(host.at(9000)).is_ok());
    // And an older word does not make it older.
    inbox.confirm(&host.key.confirm(&signed, START), host.at(9001)).unwrap();
    assert!(inbox.in_force(host.at(9001)).is_ok());
}

#[test]
fn neither_clock_alone_keeps_it_young() {
    let host = Host::new();
    let inbox = host.with(1, 1000);
    // The wall stands still or goes back, and the steady clock goes on; and the other way round.
    let still = Now { unix_ms: START + 1_000_000, ..host.at(1000 + 3601) };
    assert_eq!(inbox.in_force(still).unwrap_err(), Absence::Expired);
    let back = Now { unix_ms: START, ..host.at(1001) };
    assert_eq!(inbox.in_force(back).unwrap_err(), Absence::Expired);
    let slept = Now { steady: host.at(1001).steady, ..host.at(1000 + 3601) };
    assert_eq!(inbox.in_force(slept).unwrap_err(), Absence::Expired);
    let a_little_back = Now { unix_ms: START + 999_000, ..host.at(1001) };
    assert!(inbox.in_force(a_little_back).is_ok());
}

#[test]
fn an_older_statement_that_is_sent_again_is_refused() {
    let host = Host::new();
    let mut inbox = host.with(5, 0);
    for number in [1, 4, 5] {
        let old = host.verify(bundle(&host.key, number, "other")).unwrap();
        let refused = inbox.take(old).unwrap_err();
        assert!(matches!(refused, Refused::Older(n, 5) if n == number), "{refused}");
    }
    let same = host.verify(bundle(&host.key, 5, "")).unwrap();
    assert!(!inbox.take(same).unwrap(), "the very same is no news");
    // Over a restart too.
    let mut inbox = host.inbox(host.at(1));
    assert!(inbox.take(host.verify(bundle(&host.key, 4, "")).unwrap()).is_err());
    // The files of before, under a new number, are a rollback.
    assert!(inbox.take(host.verify(bundle(&host.key, 6, "")).unwrap()).unwrap());
    assert_eq!((inbox.number(), host.inbox(host.at(1)).number()), (6, 6));
}

#[test]
fn a_disk_that_takes_nothing_does_not_keep_a_version_from_being_in_force() {
    let host = Host::new();
    let mut inbox = host.inbox(host.at(0));
    // A file where the directory has to be.
    std::fs::write(host.dir.path().join("policy"), "").unwrap();
    let message = bundle(&host.key, 1, "");
    let signed = message.signed.clone().unwrap();
    let kept = inbox.take(host.verify(message).unwrap());
    assert!(matches!(kept, Err(Refused::File(_))), "{kept:?}");
    let said = host.key.confirm(&signed, host.at(0).unix_ms);
    assert!(matches!(inbox.confirm(&said, host.at(0)), Err(Refused::File(_))));
    assert!(inbox.in_force(host.at(0)).is_ok());
    // Once it takes something again, the next word has the bundle kept too.
    std::fs::remove_file(host.dir.path().join("policy")).unwrap();
    inbox.confirm(&host.key.confirm(&signed, host.at(5).unix_ms), host.at(5)).unwrap();
    assert!(host.inbox(host.at(6)).in_force(host.at(6)).is_ok());
}

#[test]
fn a_confirmation_of_the_future_is_refused_and_keeps_no_right_one_out() {
    let host = Host::new();
    let mut inbox = host.with(1, 0);
    let signed = bundle(&host.key, 1, "").signed.unwrap();
    let year = 365 * 86_400;
    let future = host.key.confirm(&signed, host.at(year).unix_ms);
    let refused = inbox.confirm(&future, host.at(10)).unwrap_err();
    assert!(matches!(refused, Refused::Ahead(_)), "{refused}");
    assert_eq!(inbox.age(host.at(10)), Some(Duration::from_secs(10)), "it changed nothing");
    let right = |inbox: &mut Inbox, seconds| {
        let said = host.key.confirm(&signed, host.at(seconds).unix_ms);
        inbox.confirm(&said, host.at(seconds)).unwrap();
        assert_eq!(inbox.age(host.at(seconds)), Some(Duration::ZERO));
    };
    right(&mut inbox, 4000);
    // A host whose own clock was ahead took it; set right, it takes those of now.
    let ahead = Now { unix_ms: host.at(year).unix_ms, ..host.at(4001) };
    inbox.confirm(&future, ahead).unwrap();
    assert_eq!(inbox.in_force(host.at(4002)).unwrap_err(), Absence::Expired);
    right(&mut inbox, 4003);
    // On disk as well.
    assert!(host.inbox(host.at(4004)).in_force(host.at(4004)).is_ok());
}

#[test]
fn only_the_pinned_key_counts() {
    let host = Host::new();
    let other = PolicyKey::open(&host.dir.path().join("other.key")).unwrap();
    let refused = host.verify(bundle(&other, 9, "")).unwrap_err();
    assert!(matches!(refused, Refused::Untrusted(Untrusted::Signature)), "{refused}");
    let mut inbox = host.with(1, 0);
    let signed = bundle(&host.key, 1, "").signed.unwrap();
    assert!(inbox.confirm(&other.confirm(&signed, START), host.at(0)).is_err());
    let elsewhere = host.key.confirm(&bundle(&host.key, 2, "").signed.unwrap(), START);
    assert!(inbox.confirm(&elsewhere, host.at(0)).is_err(), "of another version");
    // Who joins another server trusts that one's key, whose numbers start anew.
    identity::pin_policy_key(&host.dir.path().join("identity"), other.public()).unwrap();
    assert_eq!(host.inbox(host.at(0)).number(), 0, "what was kept is of the old key");
    assert!(inbox.take(host.verify(bundle(&other, 1, "")).unwrap()).unwrap());
    assert_eq!(inbox.in_force(host.at(0)).unwrap_err(), Absence::Missing, "and not confirmed");
    std::fs::remove_file(host.dir.path().join("identity/policy.pub")).unwrap();
    assert!(matches!(host.verify(bundle(&other, 2, "")), Err(Refused::NoKey)));
}

#[test]
fn a_bundle_that_names_a_secret_of_the_host_that_is_none_of_its_is_refused() {
    let host = Host::new();
    let mut inbox = host.with(1, 0);
    let secrets = host.dir.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    std::fs::write(secrets.join("token"), "t").unwrap();
    std::fs::write(host.dir.path().join("shadow"), "root").unwrap();
    let web = |secret: &str| {
        format!(
            "[[target]]\nname = \"api\"\nnames = [\"api.example\"]\nports = [443]\n\
             [[target.inject]]\nheader = \"authorization\"\n{secret}\n"
        )
    };
    let database = |role: &str| {
        format!(
            "[[target]]\nname = \"db\"\nnames = [\"db.example\"]\nports = [5432]\n\
             protocol = \"postgres\"\n[target.postgres]\n[[target.postgres.role]]\n\
             name = \"app\"\n{role}\n"
        )
    };
    let inside = format!("{:?}", secrets.join("token"));
    let outside = format!("{:?}", host.dir.path().join("shadow"));
    let good = [
        web(&format!("file = {inside}")),
        web("env = \"TOKEN\""),
        web("credential = \"api\""),
        database(&format!("file = {inside}")),
        database(&format!("certificate = {inside}\nkey = {inside}")),
    ];
    for targets in good {
        host.verify(of_targets(&host.key, 2, "", &targets)).unwrap();
    }
    let bad = [
        web(&format!("file = {outside}")),
        web("env = \"HOME\""),
        database(&format!("file = {outside}")),
        database(&format!("certificate = {outside}\nkey = {inside}")),
        database(&format!("certificate = {inside}\nkey = {outside}")),
    ];
    for targets in bad {
        let refused = host.verify(of_targets(&host.key, 2, "", &targets)).unwrap_err();
        assert!(matches!(refused, Refused::Secret(..)), "{refused}");
        let why = refused.to_string();
        assert!(why.contains("shadow") || why.contains("HOME"), "it says which: {why}");
    }
    assert_eq!(inbox.number(), 1);
    let said = host.key.confirm(&bundle(&host.key, 1, "").signed.unwrap(), host.at(5).unix_ms);
    inbox.confirm(&said, host.at(5)).unwrap();
    assert!(inbox.in_force(host.at(5)).is_ok(), "what was in force stays");
}

#[test]
fn what_is_kept_can_be_read_by_itself() {
    let host = Host::new();
    let (dir, identity) = (host.dir.path().join("policy"), host.dir.path().join("identity"));
    assert!(kept(&dir, &identity).unwrap().is_none());
    let inbox = host.with(1, 0);
    let bundle = kept(&dir, &identity).unwrap().unwrap();
    assert_eq!(bundle.digest(), inbox.in_force(host.at(0)).unwrap().digest());
    std::fs::write(host.file("bundle"), b"other").unwrap();
    assert!(kept(&dir, &identity).is_err());
}

#[test]
fn a_changed_byte_in_what_was_kept_is_found() {
    let host = Host::new();
    drop(host.with(3, 0));
    let whole = std::fs::read(host.file("bundle")).unwrap();
    assert!(host.inbox(host.at(1)).in_force(host.at(1)).is_ok());
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(host.file("bundle"), &changed).unwrap();
        let inbox = host.inbox(host.at(1));
        assert!(inbox.in_force(host.at(1)).is_err(), "byte {at}");
    }
    std::fs::write(host.file("bundle"), &whole).unwrap();
    let confirmed = std::fs::read(host.file("confirmed")).unwrap();
    for at in 0..confirmed.len() {
        let mut changed = confirmed.clone();
        changed[at] ^= 1;
        std::fs::write(host.file("confirmed"), &changed).unwrap();
        assert!(host.inbox(host.at(1)).in_force(host.at(1)).is_err(), "byte {at}");
    }
    std::fs::write(host.file("confirmed"), &confirmed).unwrap();
    assert!(host.inbox(host.at(1)).in_force(host.at(1)).is_ok());
}
