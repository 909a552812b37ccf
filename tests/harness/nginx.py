"""A real nginx in front of a gateway."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.http import Address
from tests.harness.ports import free_port
from tests.harness.waiting import wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 8m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    # As nginx documents it for websockets, and as ingress-nginx has it.
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' '';
    }}
    upstream gateway {{
        server {gateway};
        keepalive 1;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {settings}
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(gateway: Address, folder: Path, settings: str = "") -> Iterator[Address]:
    """Its address. It has one connection to the gateway that all requests share; ``settings`` are its location's."""
    if NGINX is None:
        pytest.skip("nginx is not there: `apt-get install nginx` enables these tests")
    port = free_port()
    file = folder / "nginx.conf"
    target = "{}:{}".format(*gateway)
    file.write_text(CONFIGURATION.format(folder=folder, gateway=target, port=port, settings=settings))
    log = folder / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen([NGINX, "-e", "stderr", "-c", file], stdout=output, stderr=output)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, 20, "nginx listens")
        assert process.poll() is None, log.read_text()
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with contextlib.closing(socket.socket()) as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
