//! Dialling real loopback sockets.

use super::*;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

fn config(hosts: &[(&str, &[&str])]) -> Config {
    let mut text = String::from(
        "[host]\n[[governed]]\ncgroup = \"/agents.slice\"\n[policy]\ndir = \"/etc/enforcer/policy\"\n\
         [limits]\ndial_ms = 2000\n[resolver]\nupstream = [\"127.0.0.1:1\"]\n[resolver.hosts]\n",
    );
    for (name, ips) in hosts {
        text.push_str(&format!("\"{name}\" = {ips:?}\n"));
    }
    toml::from_str(&text).unwrap()
}

fn route(name: &str, port: u16, named: &[&str]) -> Route {
    Route {
        name: name.to_owned(),
        port,
        target_addresses: named.iter().map(|net| net.parse().unwrap()).collect(),
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn dials_the_judged_address_without_delay() {
    let (_listener, port) = listener().await;
    let dialer = Dialer::new(&config(&[("db.example", &["127.0.0.1"])])).unwrap();
    let dialed = dialer.dial(&route("db.example", port, &["127.0.0.1/32"])).await.unwrap();
    assert_eq!(dialed.addr, SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(dialed.stream.nodelay().unwrap());
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_unless_named() {
    let (_listener, port) = listener().await;
    let dialer =
        Dialer::new(&config(&[("rebind.example", &["127.0.0.1", "169.254.169.254"])])).unwrap();
    let error = dialer.dial(&route("rebind.example", port, &[])).await.unwrap_err();
    assert_eq!(error.kind(), "address-forbidden");
    assert!(error.to_string().contains("169.254.169.254 is a link-local address"), "{error}");
    // Only the address that is named is tried.
    let dialed = dialer.dial(&route("rebind.example", port, &["127.0.0.1/32"])).await.unwrap();
    assert!(dialed.addr.ip().is_loopback());
}

#[tokio::test]
async fn literals_are_judged_and_lookalikes_are_no_names() {
    let (_listener, port) = listener().await;
    let dialer = Dialer::new(&config(&[])).unwrap();
    for (name, kind) in [
        ("127.0.0.1", "address-forbidden"),
        ("::1", "address-forbidden"),
        ("::ffff:127.0.0.1", "address-forbidden"),
        ("198.18.0.7", "address-forbidden"),
        ("127.1", "bad-name"),
        ("0x7f000001", "bad-name"),
        ("2130706433", "bad-name"),
        ("0177.0.0.1", "bad-name"),
        ("[::1]", "bad-name"),
        ("", "bad-name"),
        ("user@127.0.0.1", "bad-name"),
    ] {
        let error = dialer.dial(&route(name, port, &[])).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
    assert!(dialer.dial(&route("127.0.0.1", port, &["127.0.0.0/8"])).await.is_ok());
}

#[tokio::test]
async fn the_daemons_own_ports_are_no_upstream() {
    let dialer = Dialer::new(&config(&[])).unwrap();
    let error = dialer.dial(&route("127.0.0.1", 15_001, &["127.0.0.0/8"])).await.unwrap_err();
    assert_eq!(error.kind(), "own-port");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let (_listener, port) = listener().await;
    let dialer = Dialer::new(&config(&[("two.example", &["127.9.9.9", "127.0.0.1"])])).unwrap();
    let dialed = dialer.dial(&route("two.example", port, &["127.0.0.0/8"])).await.unwrap();
    assert_eq!(dialed.addr.ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
    let (gone, closed) = listener().await;
    drop(gone);
    let error = dialer.dial(&route("two.example", closed, &["127.0.0.0/8"])).await.unwrap_err();
    assert_eq!(error.kind(), "connection-refused");
}

#[test]
fn families_take_turns_and_ipv6_goes_first() {
    let list = ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "192.0.2.3:1"];
    let mixed = alternate(list.map(|a| a.parse().unwrap()).to_vec());
    let expected = ["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"];
    assert_eq!(mixed, expected.map(|a| a.parse::<SocketAddr>().unwrap()));
}
