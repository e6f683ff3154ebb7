"""The limit: nginx as a caching proxy before a hub, which shows what a server can do here.

nginx is no registry: it knows no logins, follows no redirects, and proves no digest. So it stands
before a hub of its own that asks for neither.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.figures import NGINX
from bench.processes import Process, free_port
from bench.servers import Hub, Pair, Server, start_hub

_PROGRAM = "nginx"
_CONFIG = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/bodies;
  proxy_temp_path {folder}/temporary;
  fastcgi_temp_path {folder}/fastcgi;
  scgi_temp_path {folder}/scgi;
  uwsgi_temp_path {folder}/uwsgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=all:10m max_size=20g inactive=1d
    use_temp_path=off;
  server {{
    listen 127.0.0.1:{port}{tls};
    location / {{
      proxy_pass {hub};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache all;
      proxy_cache_valid 200 1d;
      proxy_cache_lock on;
      proxy_cache_lock_age 1m;
      proxy_cache_lock_timeout 1m;
    }}
  }}
}}
"""
_TLS = " ssl;\n    ssl_certificate {pair.cert};\n    ssl_certificate_key {pair.key}"


@dataclass(frozen=True, slots=True)
class Limit:
    """nginx, and the hub behind it."""

    hub: Hub
    server: Server


def is_there() -> bool:
    """Whether nginx is installed."""
    return shutil.which(_PROGRAM) is not None


def start_limit(
    stack: ExitStack, folder: Path, images: Sequence[str], tls: Pair | None = None
) -> Limit:
    """Start nginx, one process with its access log on, before a hub that holds `images`."""
    folder.mkdir()
    hub = start_hub(stack, folder / "hub", images, plain=True)
    return Limit(hub, _start(stack, folder / _PROGRAM, hub.url, tls))


def _start(stack: ExitStack, folder: Path, hub: str, tls: Pair | None) -> Server:
    folder.mkdir()
    port = free_port()
    encrypted = _TLS.format(pair=tls) if tls else ""
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, port=port, hub=hub, tls=encrypted))
    process = Process(NGINX, [_PROGRAM, "-c", str(config), "-e", "stderr"], folder)
    stack.callback(process.stop)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    return Server(NGINX, process, url, process.ready(url, "/v2/"))
