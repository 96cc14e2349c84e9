//! Every special range, its edges, and what naming it does.

use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn decide(ip: &str, named: &[&str]) -> Result<(), Special> {
    let named: Vec<IpNet> = named.iter().map(|n| net(n)).collect();
    let own = ["10.9.9.9", "93.184.216.40", "127.0.0.1", "2600::40"].map(|ip| ip.parse().unwrap());
    let synthetic = [net("198.18.0.0/15"), net("fd65:6e66:7263::/64")];
    check(ip.parse().unwrap(), &named, &own, &synthetic).map_err(|f| f.special)
}

#[rstest]
#[case("0.0.0.0", Special::Unspecified)]
#[case("0.1.2.3", Special::Unspecified)]
#[case("10.0.0.0", Special::Private)]
#[case("10.255.255.255", Special::Private)]
#[case("100.64.0.1", Special::SharedSpace)]
#[case("100.127.255.255", Special::SharedSpace)]
#[case("100.100.100.200", Special::Metadata)]
#[case("127.0.0.1", Special::Loopback)]
#[case("127.255.255.254", Special::Loopback)]
#[case("168.63.129.16", Special::Metadata)]
#[case("169.254.169.254", Special::LinkLocal)]
#[case("172.16.0.1", Special::Private)]
#[case("172.31.255.255", Special::Private)]
#[case("192.0.0.8", Special::Reserved)]
#[case("192.0.0.192", Special::Metadata)]
#[case("192.0.2.1", Special::Documentation)]
#[case("192.31.196.1", Special::Reserved)]
#[case("192.52.193.1", Special::Reserved)]
#[case("192.88.99.1", Special::SixToFour)]
#[case("192.168.1.1", Special::Private)]
#[case("192.175.48.1", Special::Reserved)]
#[case("198.18.0.9", Special::Synthetic)]
#[case("198.19.255.255", Special::Synthetic)]
#[case("198.51.100.7", Special::Documentation)]
#[case("203.0.113.7", Special::Documentation)]
#[case("224.0.0.1", Special::Multicast)]
#[case("239.255.255.255", Special::Multicast)]
#[case("240.0.0.1", Special::Reserved)]
#[case("255.255.255.255", Special::Broadcast)]
#[case("::", Special::Unspecified)]
#[case("::1", Special::Loopback)]
#[case("::7f00:1", Special::EmbeddedV4)]
#[case("::ffff:127.0.0.1", Special::EmbeddedV4)]
#[case("::ffff:8.8.8.8", Special::EmbeddedV4)]
#[case("::ffff:0:8.8.8.8", Special::EmbeddedV4)]
#[case("64:ff9b::a9fe:a9fe", Special::Nat64)]
#[case("64:ff9b::808:808", Special::Nat64)]
#[case("64:ff9b:1::1", Special::Nat64)]
#[case("100::1", Special::Reserved)]
#[case("100:0:0:1::1", Special::Reserved)]
#[case("2001::1", Special::Teredo)]
#[case("2001:10::1", Special::Reserved)]
#[case("2001:1ff::1", Special::Reserved)]
#[case("2001:db8::1", Special::Documentation)]
#[case("2002:7f00:1::", Special::SixToFour)]
#[case("2620:4f:8000::1", Special::Reserved)]
#[case("3fff::1", Special::Documentation)]
#[case("5f00::1", Special::Reserved)]
#[case("4000::1", Special::Reserved)]
#[case("200::1", Special::Reserved)]
#[case("fc00::1", Special::Private)]
#[case("fdff::1", Special::Private)]
#[case("fd00:ec2::254", Special::Metadata)]
#[case("fd20:ce::254", Special::Metadata)]
#[case("fd65:6e66:7263::5", Special::Synthetic)]
#[case("fe80::1", Special::LinkLocal)]
#[case("fec0::1", Special::Reserved)]
#[case("ff02::1", Special::Multicast)]
#[case("10.9.9.9", Special::Private)]
#[case("93.184.216.40", Special::OwnInterface)]
#[case("2600::40", Special::OwnInterface)]
fn special_addresses_are_refused(#[case] ip: &str, #[case] special: Special) {
    assert_eq!(decide(ip, &[]), Err(special));
    assert_eq!(
        decide(ip, &["0.0.0.0/0", "::/0"]),
        Err(special),
        "a wide block names nothing special"
    );
}

#[rstest]
#[case("1.1.1.1")]
#[case("9.255.255.255")]
#[case("11.0.0.0")]
#[case("100.63.255.255")]
#[case("100.128.0.0")]
#[case("126.255.255.255")]
#[case("128.0.0.0")]
#[case("172.15.255.255")]
#[case("172.32.0.0")]
#[case("192.0.1.0")]
#[case("198.17.255.255")]
#[case("198.20.0.0")]
#[case("223.255.255.255")]
#[case("2001:200::1")]
#[case("2606:4700::1111")]
#[case("2a00:1450:4001::200e")]
fn global_addresses_pass(#[case] ip: &str) {
    assert_eq!(decide(ip, &[]), Ok(()));
}

#[rstest]
#[case("10.1.2.3", &["10.0.0.0/8"], Ok(()))]
#[case("10.1.2.3", &["10.1.2.3/32"], Ok(()))]
#[case("10.1.2.3", &["10.1.3.0/24"], Err(Special::Private))]
#[case("10.1.2.3", &["8.0.0.0/5"], Err(Special::Private))]
#[case("127.0.0.1", &["127.0.0.1/32"], Ok(()))]
#[case("::1", &["::1/128"], Ok(()))]
#[case("169.254.169.254", &["169.254.169.254/32"], Ok(()))]
#[case("100.100.100.200", &["100.64.0.0/10"], Err(Special::Metadata))]
#[case("fd00:ec2::254", &["fc00::/7"], Err(Special::Metadata))]
#[case("fd12::1", &["fd12::/16"], Ok(()))]
#[case("64:ff9b::808:808", &["64:ff9b::/96"], Ok(()))]
#[case("64:ff9b::a9fe:a9fe", &["64:ff9b::/96"], Err(Special::LinkLocal))]
#[case("64:ff9b::a00:1", &["64:ff9b::/96", "10.0.0.0/8"], Ok(()))]
#[case("::ffff:10.0.0.1", &["10.0.0.0/8"], Err(Special::EmbeddedV4))]
#[case("::ffff:10.0.0.1", &["::ffff:0:0/96"], Err(Special::Private))]
#[case("2002:7f00:1::", &["2002::/16"], Err(Special::Loopback))]
#[case("2001:0:1::80ff:fffe", &["2001::/32"], Err(Special::Loopback))]
#[case("198.18.0.9", &["198.18.0.9/32"], Err(Special::Synthetic))]
#[case("10.9.9.9", &["10.9.9.0/24"], Ok(()))]
#[case("93.184.216.40", &["93.184.216.40/32"], Ok(()))]
#[case("93.184.216.40", &["92.0.0.0/7"], Err(Special::OwnInterface))]
#[case("2600::40", &["2600::/32"], Ok(()))]
fn naming_opens_exactly_what_it_names(
    #[case] ip: &str,
    #[case] named: &[&str],
    #[case] expected: Result<(), Special>,
) {
    assert_eq!(decide(ip, named), expected);
}

proptest! {
    #[test]
    fn what_passes_unnamed_is_global_and_carries_nothing_special(bits: u128, v4: u32, kind in 0..3) {
        let ip: IpAddr = match kind {
            0 => Ipv4Addr::from_bits(v4).into(),
            1 => Ipv6Addr::from_bits(bits).into(),
            _ => Ipv6Addr::from_bits(bits & !(7 << 125) | 1 << 125).into(),
        };
        if check(ip, &[], &[], &[]).is_ok() {
            prop_assert!(special_range(ip).is_none());
            prop_assert!(!ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified());
            prop_assert_eq!(ip.to_canonical(), ip);
        }
    }
}
