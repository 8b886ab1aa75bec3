"""A name server that knows one name, as 127.0.0.1, and says of all others that there are none."""

import socket
import struct
import sys

known = sys.argv[1]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, client = server.recvfrom(512)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += query[at] + 1
    question = query[12 : at + 5]
    (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
    is_known = ".".join(labels) == known
    # A record of type A for the question's name, in the class of the Internet, for 5 s.
    answer = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 5, 4, 127, 0, 0, 1) if is_known and kind == 1 else b""
    flags = 0x8180 if is_known else 0x8183
    head = query[:2] + struct.pack(">HHHHH", flags, 1, 1 if answer else 0, 0, 0)
    server.sendto(head + question + answer, client)
