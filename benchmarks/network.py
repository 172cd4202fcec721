"""Several hosts on this machine, whose wires are as slow as asked for: Linux's network namespaces."""

import contextlib
import subprocess
import uuid

WAITS = "50ms"  # what a wire keeps of what it cannot send yet
AT_ONCE = "128kb"  # what it sends at once, after a pause


@contextlib.contextmanager
def hosts(count, rate):
    """Within it there are hosts, each with a wire to one switch. It needs root, and Debian's iproute2.

    Args:
      count: of the hosts. rate: of each wire, to either side, as `tc` has it: "1gbit", "100mbit".

    Yields:
      `[(address, command)]`: the address of each host, and what runs a command on it.

    Raises:
      RuntimeError: this machine does not allow it.
    """
    name = f"n{uuid.uuid4().hex[:6]}"
    switch, names = f"{name}s", [f"{name}{i}" for i in range(count)]
    with contextlib.ExitStack() as stack:
        for host in (switch, *names):
            _ip(f"netns add {host}")
            stack.callback(_ip, f"netns del {host}")
            _ip(f"-n {host} link set lo up")
        _ip(f"-n {switch} link add bridge type bridge")
        _ip(f"-n {switch} link set bridge up")
        for i, host in enumerate(names):
            _ip(f"-n {host} link add wire type veth peer name to{i} netns {switch}")
            _ip(f"-n {switch} link set to{i} master bridge up")
            _ip(f"-n {host} addr add {_address(i)}/24 dev wire")
            _ip(f"-n {host} link set wire up")
            for where, wire in ((host, "wire"), (switch, f"to{i}")):
                _run("tc", *f"-n {where} qdisc add dev {wire} root tbf rate {rate} burst {AT_ONCE} "
                            f"latency {WAITS}".split())
        yield [(_address(i), ["ip", "netns", "exec", host]) for i, host in enumerate(names)]


def _address(index):
    return f"10.77.0.{index + 1}"


def _ip(arguments):
    _run("ip", *arguments.split())


def _run(*command):
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]}: not here; install iproute2") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command)}: {error.stderr.strip()}") from error
