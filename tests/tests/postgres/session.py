"""A session over PostgreSQL's bare protocol, without TLS and without a password."""
import socket
import struct


def message(tag, body=b""):
    return tag + struct.pack(">i", len(body) + 4) + body


class Session:
    def __init__(self, where, user, database):
        if where.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(where[5:])
        else:
            host, port = where.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
            # Pieces of a byte go when they are sent.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(120)
        self.buffer = b""
        start = f"user\0{user}\0database\0{database}\0\0".encode()
        body = struct.pack(">i", 196608) + start
        self.socket.sendall(struct.pack(">i", len(body) + 4) + body)
        self.until_ready()

    def message(self):
        while len(self.buffer) < 5 or len(self.buffer) < 1 + self.length():
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError("closed")
            self.buffer += more
        end = 1 + self.length()
        whole, self.buffer = self.buffer[:end], self.buffer[end:]
        return whole

    def length(self):
        return struct.unpack(">i", self.buffer[1:5])[0]

    def until_ready(self):
        """Everything up to ReadyForQuery; answers COPY IN with nothing."""
        got = []
        while True:
            one = self.message()
            got.append(one)
            if one[:1] == b"G":
                self.send(b"f", b"no\0")
            if one[:1] == b"Z":
                return got

    def send(self, tag, body=b""):
        self.socket.sendall(message(tag, body))

    def run(self, sql, mode):
        text = sql.encode() + b"\0"
        if mode == "simple":
            self.send(b"Q", text)
        else:
            result = 1 if mode == "binary" else 0
            parts = [
                (b"P", b"\0" + text + struct.pack(">h", 0)),
                (b"B", b"\0\0" + struct.pack(">hhhh", 0, 0, 1, result)),
                (b"D", b"P\0"),
                (b"E", b"\0" + struct.pack(">i", 0)),
                (b"S", b""),
            ]
            self.socket.sendall(b"".join(message(tag, body) for tag, body in parts))
        return self.until_ready()
