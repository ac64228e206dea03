"""RabbitMQ with its MQTT plugin as a child process, with a folder of its own for all that it writes."""

import os
import shutil
from pathlib import Path

from sandbox.process import Process, free_port

#: Where Debian keeps the programs that want no user of their own. The name on the PATH changes to one.
DEBIAN = "/usr/lib/rabbitmq/bin"
#: Erlang takes longer to start than mosquitto, and the plugin waits six seconds for a cluster's members.
START_S = 60.0
# Without the second line RabbitMQ has ten messages on their way to a client, until that acknowledges one.
TUNING = """\
mqtt.tcp_listen_options.nodelay = true
mqtt.prefetch = 65535
"""


def program() -> str | None:
    """The path of the server; None: it is not installed."""
    return shutil.which("rabbitmq-server", path=f"{DEBIAN}{os.pathsep}{os.environ.get('PATH', os.defpath)}")


def process(port: int, folder: Path, *, tuned: bool, config: str = "") -> Process:
    """A broker on this port of 127.0.0.1 that lets everybody in; ``config``: more lines of rabbitmq.conf."""
    lines = f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n"
    (folder / "rabbitmq.conf").write_text(lines + (TUNING if tuned else "") + config)
    (folder / "plugins").write_text("[rabbitmq_mqtt].")
    env = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"sandbox-{port}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ALLOW_INPUT": "1",  # the server takes the place of its script, whose child it would be
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_PORT": str(free_port()),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    # Erlang's register of names would stay behind: this one is killed with the server, whose parent it is.
    shell = f"setpriv --pdeathsig=KILL epmd & exec {program()} -noinput"
    return Process("rabbitmq", ["sh", "-c", shell], env=env, ready="Server startup complete")
