//! The far end of the wire: sees every frame that leaves, and answers TCP.

use super::{Bench, DEADLINE, FAR_PORT};
use crate::world::FAR_V4;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Frames that left the inside, and answers to TCP connects.
pub struct Wire {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    sniffer: Option<thread::JoinHandle<()>>,
}

impl Wire {
    /// Starts listening; everything that leaves after this returns is seen.
    pub fn tap(bench: &Bench) -> Self {
        let frames = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (Arc::clone(&frames), Arc::clone(&stop));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let sniffer = bench.far_thread(move || {
            serve();
            let tap = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .expect("a packet socket");
            setsockopt(&tap, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50))
                .expect("a timeout");
            ready.send(()).expect("somebody waits");
            let mut buffer = vec![0; 1 << 16];
            while !ended.load(Ordering::Relaxed) {
                if let Ok(len) = recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    let frame = buffer.get(..len).unwrap_or_default().to_vec();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
                }
            }
        });
        is_ready.recv().expect("the tap starts");
        Self { frames, stop, sniffer: Some(sniffer) }
    }

    /// Whether a frame with these bytes has left so far.
    pub fn saw(&self, token: &[u8]) -> bool {
        self.frames
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|frame| frame.windows(token.len()).any(|part| part == token))
    }

    /// Waits until a frame with these bytes leaves; false at the deadline.
    pub fn waits_for(&self, token: &[u8]) -> bool {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if self.saw(token) {
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Waits until everything that left before this call is seen: this thread, which is free, sends
    /// a mark behind it, and the wire keeps order.
    pub fn settle(&self) {
        let mark = format!("mark-{:?}", Instant::now());
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket.send_to(mark.as_bytes(), (FAR_V4, 9)).expect("the wire is up");
        assert!(self.waits_for(mark.as_bytes()), "a free datagram crosses the wire");
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sniffer) = self.sniffer.take() {
            let _ended = sniffer.join();
        }
    }
}

/// Accepts on both families and reads to the end.
fn serve() {
    let listener = TcpListener::bind(("::", FAR_PORT)).expect("the far port");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut all = Vec::new();
                let _read = stream.read_to_end(&mut all);
            });
        }
    });
}
