//! A stand-in for the proxy and the resolver: tells what arrived, and as whom.

use enforcer::capture::{Capture, Captured};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// One arrival.
#[derive(Debug)]
pub struct Arrival {
    /// What the kernel half knew of it.
    pub captured: Option<Captured>,
    /// The local port it came to.
    pub port: u16,
    /// `tcp` or `udp`.
    pub transport: &'static str,
}

/// Listens like the daemon, in the calling thread's network namespace, until the process ends.
pub fn open(capture: &Arc<Capture>, proxy: u16, dns: u16) -> Receiver<Arrival> {
    let (send, receive) = channel();
    for address in ["127.0.0.1", "::1"] {
        for port in [proxy, dns] {
            let listener = TcpListener::bind((address, port)).expect("the gate's port");
            accept(listener, port, Arc::clone(capture), send.clone());
        }
        let socket = UdpSocket::bind((address, dns)).expect("the resolver's port");
        answer(socket, dns, Arc::clone(capture), send.clone());
    }
    receive
}

fn accept(listener: TcpListener, port: u16, capture: Arc<Capture>, send: Sender<Arrival>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let Ok(peer) = stream.peer_addr() else {
                continue;
            };
            let arrival = Arrival { captured: capture.take_tcp(peer), port, transport: "tcp" };
            if send.send(arrival).is_err() {
                return;
            }
            // The client may be gone already.
            let _sent = stream.write_all(b"gate");
            let _end = stream.shutdown(std::net::Shutdown::Write);
            let _read = stream.read(&mut [0; 4096]);
        }
    });
}

fn answer(socket: UdpSocket, port: u16, capture: Arc<Capture>, send: Sender<Arrival>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let arrival = Arrival { captured: capture.peek_udp(peer), port, transport: "udp" };
            if send.send(arrival).is_err() {
                return;
            }
            let _sent = socket.send_to(b"gate", peer);
        }
    });
}
