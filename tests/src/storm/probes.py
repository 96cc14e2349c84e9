"""Ways out, one after the other, until the directory goes. Says only what should not have worked."""
import os, struct, sys, time
from socket import *

mark, run, far4, far6, near4 = sys.argv[1:6]
MARK = mark.encode()
governed = bool(run)


def connected(family, address, data, options=()):
    with socket(family, SOCK_STREAM) as s:
        s.settimeout(0.3)
        for option in options:
            s.setsockopt(*option)
        s.connect(address)
        s.sendall(data)
        s.recv(64)


def datagram(family, address, data, options=(), call="sendto"):
    with socket(family, SOCK_DGRAM) as s:
        s.settimeout(0.3)
        for option in options:
            s.setsockopt(*option)
        if call == "connect":
            s.connect(address)
            s.send(data)
        elif call == "pktinfo":
            s.sendmsg([data], [(SOL_IP, 8, struct.pack("=I4s4s", if_nametoindex("wire"), inet_aton(near4), bytes(4)))], 0, address)
        else:
            s.sendto(data, address)


def raw(family, kind, protocol, address):
    with socket(family, kind, protocol) as s:
        s.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x00" + MARK, address)


def fast_open():
    with socket() as s:
        s.settimeout(0.3)
        s.sendto(MARK, 0x20000000, (far4, 9))


def question():
    labels = b"".join(bytes([len(label)]) + label for label in (MARK, b"api", b"test"))
    return struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def squat(address):
    """Whoever listens there while the proxy is away would be given others' bytes."""
    with socket() as s:
        s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        s.bind(address)
        s.listen()
        if governed:
            print("listens on", address, flush=True)


DEVICE = (SOL_SOCKET, SO_BINDTODEVICE, b"wire\0")
UNICAST = (SOL_IP, 50, struct.pack("!I", 0))
HEAD = b" HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n"
PROBES = [
    lambda: datagram(AF_INET, (far4, 9999), MARK),
    lambda: datagram(AF_INET, (far4, 9999), MARK, call="connect"),
    lambda: datagram(AF_INET, (far4, 9999), MARK, call="pktinfo"),
    lambda: datagram(AF_INET, (far4, 9999), MARK, [DEVICE]),
    lambda: datagram(AF_INET, (far4, 53), MARK, [UNICAST]),
    lambda: datagram(AF_INET, (far4, 53), question()),
    lambda: datagram(AF_INET, (far4, 53), question(), call="connect"),
    lambda: datagram(AF_INET, ("224.0.0.251", 5353), MARK),
    lambda: datagram(AF_INET6, (far6, 9999), MARK),
    lambda: datagram(AF_INET6, (far6, 53), question()),
    lambda: datagram(AF_INET6, ("::ffff:" + far4, 9999), MARK),
    lambda: connected(AF_INET, (far4, 53), struct.pack("!H", len(question())) + question()),
    lambda: connected(AF_INET, (far4, 53), b""),
    lambda: connected(AF_INET, (far4, 9), MARK),
    lambda: connected(AF_INET, (far4, 9), MARK, [DEVICE]),
    lambda: connected(AF_INET6, (far6, 9), MARK),
    lambda: connected(AF_INET, (far4, 8080), b"DELETE /echo/" + MARK + HEAD % b"api.test"),
    lambda: connected(AF_INET, (far4, 8080), b"GET /echo/" + MARK + HEAD % b"else.test"),
    lambda: connected(AF_INET, (far4, 8080), b"PUT /elsewhere/" + MARK + HEAD % b"api.test"),
    lambda: connected(AF_INET, (far4, 8080), MARK * 40),
    lambda: connected(AF_INET, ("127.0.0.1", 15001), b"GET /echo/" + MARK + HEAD % b"api.test"),
    lambda: connected(AF_INET, (near4, 15001), b"GET /echo/" + MARK + HEAD % b"api.test"),
    lambda: raw(AF_INET, SOCK_RAW, IPPROTO_ICMP, (far4, 0)),
    lambda: raw(AF_INET, SOCK_RAW, 253, (far4, 0)),
    lambda: raw(AF_INET, SOCK_DGRAM, IPPROTO_ICMP, (far4, 0)),
    fast_open,
    lambda: squat(("127.0.0.1", 15001)),
    lambda: squat(("127.0.0.1", 15053)),
    lambda: squat((near4, 9998)),
]

while True:
    for probe in PROBES:
        try:
            probe()
        except OSError:
            pass
    print("round", flush=True)
    if not governed or not os.path.isdir(run):
        break
    time.sleep(0.05)
