"""Connections to oneself that stay open: crowd.py ADDRESS PORT COUNT.

It says `open` once they are, and on each SIGUSR1 makes calls and says `spoke`: first on every
second connection, then on the first hundred of those again. It ends with the third one."""

import signal
import socket
import sys

REQUEST = b"GET /many HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
address = (sys.argv[1], int(sys.argv[2]))
listener = socket.create_server(address)
pairs = []
for _ in range(int(sys.argv[3])):
    client = socket.create_connection(address)
    pairs.append((client, listener.accept()[0]))
print("open", flush=True)
for some in (pairs[::2], pairs[:200:2]):
    signal.sigwait([signal.SIGUSR1])
    for client, server in some:
        client.sendall(REQUEST)
        assert server.recv(256) == REQUEST
        server.sendall(ANSWER)
        assert client.recv(256) == ANSWER
    print("spoke", flush=True)
signal.sigwait([signal.SIGUSR1])
