"""How long messages may be at present: the smaller of the setting and the limit that the broker names."""

import logging
from typing import Any

from puppetmaster.model.message import MESSAGE_LIMIT_BYTES, Capacity
from puppetmaster.settings import LEAST_BROKER_BYTES

log = logging.getLogger("sanji.puppetmaster.bus.limit")

#: A broker that takes packets of this length takes what the controller makes of any message.
AMPLE_BYTES = 32 * 1024 * 1024


class Limit:
    """The limit in force. The thread ``pm-bus`` calls ``learn``; any thread may read.

    ``setting_bytes`` is PUPPETMASTER_BROKER_LIMIT_BYTES. Its default is the controller's limit, and then only
    the broker's limit counts.
    """

    def __init__(self, setting_bytes: int = MESSAGE_LIMIT_BYTES) -> None:
        self.capacity = Capacity(setting_bytes)
        self._setting_bytes = setting_bytes
        self._broker_bytes: int | None = None

    def learn(self, broker_bytes: int) -> None:
        """Take note of the longest packet, in bytes, that the broker takes. Called at each connect."""
        if broker_bytes == self._broker_bytes:
            return
        self._broker_bytes = broker_bytes
        setting_bytes = self._setting_bytes
        # The limit of a broker that takes a little more than the controller counts too: what is shorter than
        # that when it is sent may be longer when the controller passes it on.
        carried_bytes = min(broker_bytes, MESSAGE_LIMIT_BYTES - 1)
        if broker_bytes >= AMPLE_BYTES or setting_bytes <= carried_bytes:
            self.capacity = Capacity(setting_bytes)
            return
        self.capacity = Capacity(carried_bytes)
        text = f"the broker takes no packet of more than {broker_bytes} bytes: what is longer is refused"
        if setting_bytes < MESSAGE_LIMIT_BYTES:
            text += f"; PUPPETMASTER_BROKER_LIMIT_BYTES is {setting_bytes}, and the smaller of the two counts"
        if carried_bytes < LEAST_BROKER_BYTES:
            text += f"; puppetmaster needs {LEAST_BROKER_BYTES}: raise its limit (mosquitto: max_packet_size)"
        log.warning(text, extra={"action": "broker_limit"})

    def view(self) -> dict[str, Any]:
        """The limit in force, as GET /system/puppetmaster shows it: ``{"value": bytes, "from": source}``."""
        bytes_ = self.capacity.broker_bytes
        if bytes_ < self._setting_bytes:
            return {"value": bytes_, "from": "broker"}
        return {"value": bytes_, "from": "setting" if self.capacity.limited else "controller"}
