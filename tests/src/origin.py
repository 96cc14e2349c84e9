"""An HTTP/1.1 origin that logs exactly what reached it and answers in many shapes."""
import gzip, hashlib, http.server, json, ssl, sys, threading, time, zlib

log_path, cert, key, plain_port, tls_port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
log_lock = threading.Lock()
PEOPLE = {"users": [{"id": 1, "name": "Ada", "email": "ada@example.com", "card": "4111111111111111"},
                    {"id": 2, "name": "Bob", "email": "bob@example.com", "card": "5500005555555559"}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, body):
        with log_lock, open(log_path, "a") as log:
            log.write(json.dumps({"unix_ns": time.time_ns(), "method": self.command, "path": self.path, "headers": [list(h) for h in self.headers.items()],
                                  "length": len(body), "sha256": hashlib.sha256(body).hexdigest()}) + "\n")

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def send(self, data, kind="application/json", **headers):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def answer(self):
        body = self.body()
        self.note(body)
        path = self.path.split("?")[0]
        people = json.dumps(PEOPLE).encode()
        if path == "/people":
            self.send(people, X_Api_Key="sk_live_0123456789abcdefghij")
        elif path == "/people.gz":
            self.send(gzip.compress(people), Content_Encoding="gzip")
        elif path == "/people.deflate":
            self.send(zlib.compress(people), Content_Encoding="deflate")
        elif path == "/people.unknown":
            self.send(people, Content_Encoding="rot13")
        elif path == "/people.broken":
            self.send(gzip.compress(people)[:-9], Content_Encoding="gzip")
        elif path in ("/people.chunked", "/sse", "/slow"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if path == "/sse" else "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if path == "/people.chunked":
                for at in range(0, len(people), 3):
                    self.chunk(people[at:at + 3])
            elif path == "/sse":
                for user in PEOPLE["users"]:
                    self.chunk(b"data: " + json.dumps(user).encode() + b"\n\n")
                    time.sleep(0.3)
            else:
                self.chunk(b"[0")
                for n in range(1, 600):
                    self.chunk(b",%d" % n)
                    time.sleep(0.1)
                self.chunk(b"]")
            self.chunk(b"")
        elif path == "/binary":
            self.send(bytes(range(256)), "application/octet-stream")
        elif path == "/gone":
            # No answer at all.
            self.close_connection = True
        elif path == "/big":
            count = int(self.path.split("n=")[1])
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(count))
            self.end_headers()
            block = b"x" * 65536
            while count > 0:
                self.wfile.write(block[:min(count, len(block))])
                count -= len(block)
        else:
            self.send(json.dumps({"method": self.command, "path": self.path, "length": len(body),
                                  "sha256": hashlib.sha256(body).hexdigest()}).encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer


class Server(http.server.ThreadingHTTPServer):
    address_family = __import__("socket").AF_INET6
    daemon_threads = True
    request_queue_size = 256


plain = Server(("::", plain_port), Handler)
threading.Thread(target=plain.serve_forever, daemon=True).start()
tls = Server(("::", tls_port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
tls.socket = context.wrap_socket(tls.socket, server_side=True)
tls.serve_forever()
