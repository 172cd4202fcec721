"""Serves an exported model over HTTP: whole sequences, and streams whose steps come one after another.

    pip install tensorflow fastapi uvicorn prometheus-client
    python -m serving.server --model=FOLDER --port=8500

This folder needs nothing else: copy it. FOLDER is what `python -m santm_tf.export` wrote. The endpoints are
described in README.md beside this file and, while it runs, at /docs.

A stream is one session: its state lives here, between its steps. The requests of one session run one after
the other, in the order in which they came; its state is replaced only after a request has succeeded as a
whole. Steps of different sessions that wait at the same time run as one batch.
"""

import argparse
import contextlib
import functools
import gc
import math
import os
import signal
import socket
import sys

try:
    import uvicorn

    from . import states
    from .app import Bounds, create_app
    from .connections import Server, protocol
    from .facts import ExportError
    from .model import Model
    from .streams import Sessions
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    print(f"error: {error.name} is not installed: pip install tensorflow fastapi uvicorn prometheus-client, "
          "or santm-tf[serving]", file=sys.stderr)
    sys.exit(2)

TOKEN = "SANTM_TOKEN"  # environment variable


class FlagError(Exception):
    """A flag that cannot work. One line."""


def main(argv=None):
    options = _options(argv)
    try:
        token = _token(options.token_file)
        with contextlib.ExitStack() as stack:
            held = stack.enter_context(_bound(options.host, options.port))
            model = Model(options.model)
            bounds = Bounds(options.max_steps, options.max_batch, options.max_body_mib,
                            options.max_memory_mib, options.threads)
            most = bounds.streams(model, options.max_sessions)
            sessions = Sessions(most, options.idle_seconds)
            save = _streams_file(options.streams_file, model, sessions)
            stack.pop_all()
    except (ExportError, FlagError, states.StateError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if most < options.max_sessions:
        print(f"--max_memory_mib={options.max_memory_mib:g} has room for {most} streams", file=sys.stderr)
    gc.freeze()  # a collection that looks through TensorFlow's objects, too, stops every request for long
    # The ids of streams are secrets of their users: they are not logged.
    config = uvicorn.Config(
        create_app(model, sessions, bounds, token, save), http=protocol(options.client_seconds), ws="none",
        lifespan="off", log_level="warning", access_log=False, limit_concurrency=options.max_connections,
        timeout_graceful_shutdown=math.ceil(options.grace_seconds) + 5)
    server = Server(config, options.grace_seconds)
    for ending in signal.SIGTERM, signal.SIGINT:
        # uvicorn ends cleanly and then raises it again; one may come before uvicorn looks, too.
        signal.signal(ending, lambda *_: setattr(server, "should_exit", True))
    server.run([held])
    code = _saved(save, sessions)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a prediction that still runs, and that nobody waits for, would hold the process


def _options(argv):
    parser = argparse.ArgumentParser(description="Serves an exported model over HTTP.")
    parser.add_argument("--model", required=True, help="folder that python -m santm_tf.export wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="port, or 0 for a free one (%(default)s)")
    parser.add_argument("--token_file", help="file with the token that requests must send as Authorization: "
                        f"Bearer TOKEN; the environment variable {TOKEN} does the same")
    parser.add_argument("--streams_file", help="NPZ file of the streams' states: read at the start if it is "
                        "there, written at the end and on POST /save")
    for name, default, text in [
            ("max_sessions", 1000, "streams open at once"),
            ("idle_seconds", 300.0, "seconds after which an unused stream is forgotten"),
            ("max_steps", 32768, "steps in a request, padding included"),
            ("max_batch", 64, "steps of different streams that run together"),
            ("max_body_mib", 4.0, "size of a request"),
            ("max_memory_mib", 1024.0, "memory beside the model's own: a third for what it computes, a third "
             "for requests and answers, a third for streams"),
            ("max_connections", 1000, "connections at once; others are answered by 503"),
            ("client_seconds", 30.0, "seconds that a client may take to send a request or take its answer"),
            ("grace_seconds", 10.0, "seconds that running requests have when the server ends"),
            ("threads", 1, "predictions that run at once; steps have a thread of their own")]:
        parser.add_argument(f"--{name}", type=_positive(type(default)), default=default,
                            help=f"{text} (%(default)s)")
    return parser.parse_args(argv)


def _positive(kind):
    def number(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    number.__name__ = f"positive {kind.__name__}"
    return number


def _token(path):
    """The token that requests must send, or None."""
    if path is None:
        token, source = os.environ.get(TOKEN), TOKEN
    else:
        source = f"--token_file={path}"
        try:
            with open(path, encoding="ascii") as file:
                token = file.read(4096).strip()
        except (OSError, ValueError) as error:
            raise FlagError(f"{source}: cannot be read as a token ({error})") from error
    if token is not None and not (token.isascii() and token.isprintable() and token and " " not in token):
        raise FlagError(f"{source}: a token is printable ASCII without spaces, and not empty")
    return token


def _bound(host, port):
    """A socket that holds the port while the model is loaded; nobody connects before it listens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind(address)
        except BaseException:
            held.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise FlagError(f"--host={host} --port={port}: cannot listen there ({error})") from error
    return held


def _streams_file(path, model, sessions):
    """Opens the streams of the file, if there is one; `save(states)` for it, or None."""
    if path is None:
        return None
    if model.first_state is None:
        raise FlagError(f"--streams_file={path}: this model has no streams")
    if os.path.lexists(path):
        sessions.restore(states.load(path, model.first_state, sessions.most))
    save = functools.partial(states.save, path, like=model.first_state)
    try:
        save(sessions.states())  # what cannot be written is said now
    except OSError as error:
        raise FlagError(f"--streams_file={path}: cannot be written ({error})") from error
    return save


def _saved(save, sessions):
    """Writes the streams at the end: the exit code."""
    if save:
        try:
            save(sessions.states())
        except OSError as error:
            print(f"error: --streams_file: the streams are lost ({error})", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    main()
