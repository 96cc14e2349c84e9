//! Behaviour of the table through its public face.

use super::*;
use proptest::prelude::*;

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn small(bits: u8, per_agent: usize) -> Names {
    Names::new(
        Ipv4Net::new_assert([198, 18, 0, 0].into(), 32 - bits),
        Ipv6Net::new_assert("fd65::".parse().unwrap(), 64),
        per_agent,
    )
}

#[test]
fn one_name_keeps_its_addresses_and_they_lead_back() {
    let names = small(17, 10);
    let (a, n) = (agent("a"), name("api.example.com"));
    let v4 = names.assign(&a, &n, Family::V4).unwrap();
    let v6 = names.assign(&a, &n, Family::V6).unwrap();
    assert_eq!(names.assign(&a, &n, Family::V4), Some(v4));
    assert_eq!(names.assign(&a, &n, Family::V6), Some(v6));
    assert!(v4.is_ipv4() && v6.is_ipv6());
    assert_eq!(names.lookup(&a, v4), Lookup::Name(n.clone()));
    assert_eq!(names.lookup(&a, v6), Lookup::Name(n.clone()));
    let IpAddr::V4(plain) = v4 else { unreachable!() };
    assert_eq!(names.lookup(&a, plain.to_ipv6_mapped().into()), Lookup::Name(n));
    assert_eq!(names.len(), 1);
}

#[test]
fn an_address_is_foreign_to_other_agents_and_they_get_others() {
    let names = small(17, 10);
    let n = name("api.example.com");
    let one = names.assign(&agent("one"), &n, Family::V4).unwrap();
    let two = names.assign(&agent("two"), &n, Family::V4).unwrap();
    assert_ne!(one, two);
    assert_eq!(names.lookup(&agent("two"), one), Lookup::Foreign);
    assert_eq!(names.lookup(&agent("three"), one), Lookup::Foreign);
}

#[test]
fn addresses_that_stand_for_nothing() {
    let names = small(17, 10);
    let a = agent("a");
    for ip in ["198.18.0.0", "198.19.255.255", "198.18.7.7", "fd65::", "fd65::1:0:0:7"] {
        assert_eq!(names.lookup(&a, ip.parse().unwrap()), Lookup::Foreign, "{ip}");
    }
    for ip in ["198.20.0.0", "93.184.216.34", "fd66::1", "::1"] {
        assert_eq!(names.lookup(&a, ip.parse().unwrap()), Lookup::NotSynthetic, "{ip}");
    }
}

#[test]
fn the_daemons_own_name_is_always_known_and_costs_nothing() {
    let names = small(17, 0);
    let a = agent("a");
    let own = name(INTERNAL_NAME);
    let ip = names.assign(&a, &own, Family::V4).unwrap();
    assert_eq!(ip, IpAddr::from([198, 18, 0, 1]));
    assert_eq!(names.lookup(&agent("b"), ip), Lookup::Name(own));
    assert_eq!(names.assign(&a, &name("x.example"), Family::V4), None);
}

#[test]
fn a_full_agent_reuses_only_what_was_long_unused() {
    let names = small(17, 2);
    let a = agent("a");
    let start = Instant::now();
    let first = names.assign_at(&a, &name("one.example"), Family::V4, start).unwrap();
    names.assign_at(&a, &name("two.example"), Family::V4, start).unwrap();
    let three = name("three.example");
    assert_eq!(names.assign_at(&a, &three, Family::V4, start), None);
    let soon = start + UNUSED - Duration::from_secs(1);
    // A connection to "two" keeps it.
    let two = names.assign_at(&a, &name("two.example"), Family::V4, soon).unwrap();
    assert_eq!(names.assign_at(&a, &three, Family::V4, soon), None);
    let later = start + UNUSED;
    let third = names.assign_at(&a, &three, Family::V4, later).unwrap();
    assert_ne!(third, first);
    assert_eq!(names.lookup_at(&a, first, later), Lookup::Foreign);
    assert_eq!(names.lookup_at(&a, two, later), Lookup::Name(name("two.example")));
    // Another agent has its own count.
    assert!(names.assign_at(&agent("b"), &three, Family::V4, start).is_some());
}

#[test]
fn a_freed_address_rests_before_it_stands_for_another_name() {
    // Three bits: 8 addresses, of which 5 can be given out.
    let names = small(3, 100);
    let a = agent("a");
    let start = Instant::now();
    let given: Vec<IpAddr> = (0..5)
        .map(|i| names.assign_at(&a, &name(&format!("n{i}.example")), Family::V4, start).unwrap())
        .collect();
    let next = name("next.example");
    assert_eq!(names.assign_at(&agent("b"), &next, Family::V4, start), None);
    let freed = start + UNUSED;
    assert_eq!(names.assign_at(&agent("b"), &next, Family::V4, freed), None);
    for ip in &given {
        assert_eq!(names.lookup_at(&a, *ip, freed), Lookup::Foreign);
    }
    let rested = freed + QUARANTINE;
    let again = names.assign_at(&agent("b"), &next, Family::V4, rested).unwrap();
    assert!(given.contains(&again));
    assert_eq!(names.lookup_at(&a, again, rested), Lookup::Foreign);
}

#[test]
fn the_table_outlives_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("names");
    let v4 = Ipv4Net::new_assert([198, 18, 0, 0].into(), 15);
    let v6 = Ipv6Net::new_assert("fd65::".parse().unwrap(), 64);
    let a = agent("a");
    let mut given = Vec::new();
    {
        let names = Names::open(v4, v6, 100, &file).unwrap();
        for i in 0..50 {
            let n = name(&format!("n{i}.example"));
            given.push((names.assign(&a, &n, Family::V4).unwrap(), n));
        }
    }
    for _ in 0..2 {
        let names = Names::open(v4, v6, 100, &file).unwrap();
        for (ip, n) in &given {
            assert_eq!(names.lookup(&a, *ip), Lookup::Name(n.clone()));
            assert_eq!(names.assign(&a, n, Family::V4), Some(*ip));
        }
    }
    let names = Names::open(v4, v6, 100, &file).unwrap();
    for i in 50..100 {
        let n = name(&format!("n{i}.example"));
        let ip = names.assign(&a, &n, Family::V4).unwrap();
        assert!(given.iter().all(|(old, _)| *old != ip));
    }
    // Other blocks: nothing of the old table holds.
    let v4 = Ipv4Net::new_assert([198, 18, 0, 0].into(), 16);
    assert!(Names::open(v4, v6, 100, &file).unwrap().is_empty());
}

proptest! {
    #[test]
    fn an_address_never_leads_to_a_name_it_was_not_given_for(
        steps in proptest::collection::vec((0_u8..3, 0_u8..12, 0_u64..4_000), 1..200)
    ) {
        let names = small(4, 5);
        let mut now = Instant::now();
        // For each address: who had it for what, and when that was last known to hold.
        let mut told: Vec<(IpAddr, AgentName, Name, Instant)> = Vec::new();
        for (who, what, seconds) in steps {
            now += Duration::from_secs(seconds);
            let (a, n) = (agent(&format!("a{who}")), name(&format!("n{what}.example")));
            if let Some(ip) = names.assign_at(&a, &n, Family::V4, now) {
                told.retain(|(old, ..)| *old != ip);
                told.push((ip, a, n, now));
            }
            for (ip, a, n, since) in &told {
                match names.state().table.entries().find(|(slot, ..)| names.address(*slot, Family::V4) == *ip) {
                    Some((_, owner, held)) => {
                        prop_assert_eq!(owner, a);
                        prop_assert_eq!(held, n);
                    }
                    None => prop_assert!(now.duration_since(*since) >= UNUSED),
                }
            }
        }
    }
}
