//! The server that the other suites use is what they take it for: each way to sign in works
//! as it says and no other does, straight, without the gate.

use enforcer_tests::postgres::{
    CERTIFICATE, CLEAR, DATABASE, MD5, OWNS, PLAIN, PORT, Postgres, SCRAM, SUPER, User, bin,
};
use enforcer_tests::servers::Pki;
use enforcer_tests::world::{FAR_V4, World};
use std::process::Output;

struct Far {
    postgres: Postgres,
    pki: Pki,
    world: World,
}

impl Far {
    fn start() -> Self {
        let world = World::new();
        let pki = Pki::new(world.dir());
        let postgres = Postgres::start(&world, &pki, &["db.test"]);
        Self { postgres, pki, world }
    }

    /// psql from the host's side of the wire.
    fn psql(&self, user: User, password: Option<&str>, more: &str) -> Output {
        let mut psql = self.world.host.command(bin().join("psql"));
        psql.args(["-X", "-At", "-c", "SELECT current_user"])
            .arg(format!(
                "host=db.test hostaddr={FAR_V4} port={PORT} dbname={DATABASE} user={} \
                 sslrootcert={} connect_timeout=10 {more}",
                user.name,
                self.pki.ca.display()
            ))
            .env("PGPASSWORD", password.unwrap_or_default());
        psql.output().expect("psql starts")
    }
}

#[test]
fn every_way_to_sign_in_is_the_one_that_it_says() {
    let far = Far::start();
    let full = "sslmode=verify-full";
    for user in [SCRAM, MD5, CLEAR, OWNS, SUPER] {
        let out = far.psql(user, user.password, full);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), user.name, "{said}");
        assert!(!far.psql(user, Some("wrong"), full).status.success(), "{}", user.name);
        assert!(!far.psql(user, user.password, "sslmode=disable").status.success());
    }
    let bound = far.psql(SCRAM, SCRAM.password, &format!("{full} channel_binding=require"));
    assert!(bound.status.success(), "{}", String::from_utf8_lossy(&bound.stderr));
    let unbound = far.psql(MD5, MD5.password, &format!("{full} channel_binding=require"));
    assert!(!unbound.status.success());

    assert!(far.psql(PLAIN, PLAIN.password, "sslmode=disable").status.success());
    assert!(!far.psql(PLAIN, PLAIN.password, full).status.success());

    let (chain, key) = &far.postgres.certificate;
    let with = format!("{full} sslcert={} sslkey={}", chain.display(), key.display());
    let out = far.psql(CERTIFICATE, None, &with);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!far.psql(CERTIFICATE, None, full).status.success(), "without the certificate");
    assert!(!far.psql(SCRAM, Some("wrong"), &with).status.success(), "another's certificate");
    assert!(far.postgres.saw("statement: SELECT current_user"));
}

/// The oids that the masks know are those of the server's own catalog.
#[test]
fn the_catalog_has_the_types_that_the_masks_know() {
    let far = Far::start();
    let rows = far.postgres.admin(
        DATABASE,
        "SELECT t.oid, coalesce(nullif(t.typelem, 0), 0), t.typcategory, t.typname \
         FROM pg_type t WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.oid < 10000",
    );
    let mut arrays = 0;
    for row in rows.lines() {
        let fields: Vec<&str> = row.split('|').collect();
        let [oid, element, category, name] = fields[..] else { panic!("{row}") };
        let (oid, element): (u32, u32) = (oid.parse().unwrap(), element.parse().unwrap());
        let known = enforcer::mask::column::element_of(oid);
        match known {
            Some(known) => {
                assert_eq!((known, category), (element, "A"), "{name}");
                arrays += 1;
            }
            None => assert!(
                !name.starts_with('_') || !enforcer::mask::column::is_text(element),
                "{name} is an array of text that the masks do not know"
            ),
        }
        if enforcer::mask::column::is_text(oid) {
            assert!(["S", "X", "P"].contains(&category), "{name} is {category}");
        }
    }
    assert!(arrays > 25, "{arrays}");
}
