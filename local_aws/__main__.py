"""`python -m local_aws`: serve the stand-in, and print one line of JSON with its address when it is ready."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import os
import socket
from pathlib import Path

from local_aws.settings import Settings, updated


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = _parser()
    flags = parser.parse_args()
    names = [field.name for field in dataclasses.fields(Settings)]
    try:
        settings = updated(Settings(), {name: getattr(flags, name) for name in names})
    except ValueError as error:
        parser.error(str(error))
    if not flags.allow_remote and not _is_loopback(flags.host):
        parser.error(
            f"--host {flags.host} is open to other machines, and nothing here asks for a password: add --allow-remote"
        )
    # The vision workers inherit these: one thread each, or they fight over the cores.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    # S3 is addressed by path whatever the host is called, local-aws:4599 in a container network for one.
    os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
    try:
        listener = socket.create_server((flags.host, flags.port), backlog=2048)
    except OSError as error:
        parser.error(f"cannot listen on {flags.host}:{flags.port}: {error.strerror}; --port 0 takes a free port")

    # Not at the top: a vision worker imports this module again, and needs none of it.
    from local_aws.server import serve

    serve(listener, settings, flags.state_dir)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_aws", description=__doc__)
    parser.add_argument("--port", type=int, default=4599, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default %(default)s)")
    parser.add_argument("--allow-remote", action="store_true", help="let --host be other than this machine alone")
    parser.add_argument("--state-dir", type=Path, help="keep the state of a run here for the next (default: forget it)")
    for field in dataclasses.fields(Settings):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            choices=field.metadata["choices"] or None,
            help=f"{field.metadata['about']} (default %(default)s)",
        )
    return parser


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    main()
