"""One request over the bus, as any program there makes it: ``python -m sandbox.ask 1883 get /jobs``."""

import argparse
import json
import queue
import random
import sys
import uuid
from typing import Any

import paho.mqtt.client as mqtt


def ask(
    port: int, method: str, resource: str, data: Any, timeout_s: float = 10.0, gateway: str | None = None
) -> dict[str, Any]:
    """Send a request to the controller and return the answer that comes to our own tunnel.

    With `gateway` it is that one's own controller, behind a bridge to this broker.
    Raises TimeoutError when none comes, OSError when there is no broker.
    """
    tunnel = f"/ask-{uuid.uuid4().hex}/remote"  # of the form that bridges carry back
    topic = f"/{gateway}/controller" if gateway else "/controller"
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    question = {
        "id": random.randrange(2**20, 2**30),
        "method": method,
        "resource": resource,
        "tunnel": tunnel,
        "data": data,
    }
    client = mqtt.Client()
    client.on_message = lambda _client, _userdata, packet: answers.put(json.loads(packet.payload))
    client.on_connect = lambda *_: client.subscribe(tunnel)
    client.on_subscribe = lambda *_: client.publish(topic, json.dumps(question))
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        return answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"no answer to {method} {resource} within {timeout_s:g} s") from None
    finally:
        client.disconnect()
        client.loop_stop()


def main() -> None:
    """Print the answer's data; ends with 1 when its code is not 200."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.ask", description="One request over the bus.")
    parser.add_argument("port", type=int, help="of the broker on 127.0.0.1")
    parser.add_argument("method", choices=("get", "post", "put", "delete"))
    parser.add_argument("resource", help="such as /jobs or '/jobs/1?collection=true'")
    parser.add_argument("data", nargs="?", default="{}", help="JSON (%(default)s)")
    parser.add_argument("--gateway", metavar="ID", help="ask this one's own controller, over its bridge")
    options = parser.parse_args()
    try:
        data = json.loads(options.data)
        answer = ask(options.port, options.method, options.resource, data, gateway=options.gateway)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    print(json.dumps(answer.get("data"), indent=2))
    sys.exit(0 if answer["code"] == 200 else 1)


if __name__ == "__main__":
    main()
