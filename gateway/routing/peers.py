"""The other gateways, from what they say of themselves each second. ``now`` is in seconds of a monotonic clock."""

from protos import chat_pb2 as pb

SILENT = 2.5
"""Seconds after its last status for which a gateway is not called silent."""

GONE = 30.0
"""Seconds after which it is forgotten; the host's notice is much sooner."""

MOST = 1000
LARGEST = 64 * 1024
"""Other gateways that are known, and the bytes of a status, which names up to a hundred models."""


class Peers:
    def __init__(self, gateway_id: str) -> None:
        self._own_id = gateway_id
        self._heard: dict[str, tuple[pb.GatewayStatus, float]] = {}

    def heard(self, status: pb.GatewayStatus, now: float) -> None:
        self._heard = {known: told for known, told in self._heard.items() if now - told[1] <= GONE}
        if status.gateway_id == self._own_id or status.ByteSize() > LARGEST:
            return
        if status.gateway_id in self._heard or len(self._heard) < MOST:
            self._heard[status.gateway_id] = status, now

    def left(self, member_id: str) -> None:
        self._heard.pop(member_id, None)

    def waiting(self, name: str, now: float) -> dict[str, int]:
        """How many requests for ``name`` wait at each."""
        heard = (status for status, at in self._heard.values() if now - at <= SILENT)
        return {status.gateway_id: status.waiting[name] for status in heard if name in status.waiting}

    def describe(self, now: float) -> list[dict[str, object]]:
        return [_describe(status, now - at) for status, at in self._heard.values() if now - at <= GONE]


def _describe(status: pb.GatewayStatus, ago: float) -> dict[str, object]:
    return {
        "id": status.gateway_id,
        "version": status.version[:100],
        "state": "SILENT" if ago > SILENT else "DRAINING" if status.draining else "READY",
        "in_flight": status.in_flight,
        "requests_total": status.requests_total,
        "heard_seconds_ago": round(max(0.0, ago), 3),
    }
