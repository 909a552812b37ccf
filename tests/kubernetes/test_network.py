"""Who reaches whom, by the network policies as Kubernetes defines them."""

import ipaddress
from dataclasses import dataclass, field

import pytest

from tests.kubernetes.manifests import Manifests, Object, selects

ELSEWHERE = "somebody-elses"
PORTS = {"host": [50051, 50052, 8503], "gateway": [8501], "worker": [8503], "model": [8502]}
SCRAPED = 8503
"""The port that only Prometheus may reach, by components/monitoring."""
ALL_PORTS = [port for ports in PORTS.values() for port in ports]


@dataclass(frozen=True)
class Pod:
    """Some pod of the cluster."""

    labels: dict[str, str] = field(hash=False)
    namespace: str


class Network:
    """The policies of one namespace, all but one if so wanted."""

    def __init__(self, manifests: Manifests, without: str = "") -> None:
        policies = manifests.of("NetworkPolicy")
        self._policies = [policy["spec"] for name, policy in policies.items() if name != without]
        (self.namespace,) = manifests.of("Namespace")

    def connects(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection is let out at its source and in at its target."""
        out = self._lets("Egress", source, target, port, protocol)
        return out and self._lets("Ingress", target, source, port, protocol)

    def leaves(self, source: Pod, address: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection to an address that is no pod's is let out."""
        return self._lets("Egress", source, address, port, protocol)

    def _lets(self, direction: str, pod: Pod, other: Pod | str, port: int, protocol: str) -> bool:
        if pod.namespace != self.namespace:
            return True
        mine = [policy for policy in self._policies if selects(policy["podSelector"], pod.labels)]
        mine = [policy for policy in mine if direction in policy["policyTypes"]]
        if not mine:
            return True  # a pod that no policy selects is open to all
        peers = {"Ingress": "from", "Egress": "to"}[direction]
        return any(
            {"protocol": protocol, "port": port} in rule["ports"] and any(self._is(peer, other) for peer in rule[peers])
            for policy in mine
            for rule in policy.get(direction.lower(), [])
        )

    def _is(self, peer: Object, other: Pod | str) -> bool:
        if isinstance(other, str):
            if "ipBlock" not in peer:
                return False
            address = ipaddress.ip_address(other)
            excepted = [ipaddress.ip_network(block) for block in peer["ipBlock"].get("except", [])]
            return address in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(
                address in block for block in excepted
            )
        if "ipBlock" in peer:
            return False
        if "namespaceSelector" in peer:
            in_namespace = selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
        else:
            in_namespace = other.namespace == self.namespace
        return in_namespace and selects(peer.get("podSelector", {}), other.labels)


def members(manifests: Manifests) -> dict[str, Pod]:
    """The fleet's pods, by their role."""
    (namespace,) = manifests.of("Namespace")
    return {
        pod["spec"]["containers"][0]["name"]: Pod(pod["metadata"]["labels"], namespace)
        for pod in manifests.pods().values()
    }


def test_the_ports_are_those_of_the_pods(manifests: Manifests) -> None:
    for role, container in manifests.containers().items():
        assert [port["containerPort"] for port in container["ports"]] == PORTS[role]


def test_members_reach_what_they_need_and_nothing_else(manifests: Manifests) -> None:
    network, pods = Network(manifests), members(manifests)
    needed = {("gateway", "host"), ("worker", "host"), ("worker", "model")} & {(a, b) for a in pods for b in pods}
    for source in pods:
        for target in pods:
            for port in (*ALL_PORTS, 22, 443):
                reaches = network.connects(pods[source], pods[target], port)
                served = port in PORTS[target] and port != SCRAPED
                assert reaches == ((source, target) in needed and served), (source, target, port)


@pytest.mark.parametrize("namespace", [ELSEWHERE, "chatfleet"])
def test_strangers_reach_the_gateways_port_alone(manifests: Manifests, namespace: str) -> None:
    labels = {"app.kubernetes.io/name": "another", "app.kubernetes.io/component": "worker"}
    network, stranger = Network(manifests), Pod(labels, namespace)
    for role, pod in members(manifests).items():
        for port in ALL_PORTS:
            assert network.connects(stranger, pod, port) == (role == "gateway" and port in PORTS["gateway"]), role


def test_an_autoscaler_gets_in_by_a_policy_of_its_own(providers: Manifests) -> None:
    network, gateway = Network(providers, without="chatfleet-gateway"), members(providers)["gateway"]
    (port,) = PORTS["gateway"]
    assert network.connects(Pod({}, "keda"), gateway, port)
    assert not network.connects(Pod({}, ELSEWHERE), gateway, port)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860::1"])
def test_only_workers_leave_the_cluster_and_only_by_https(manifests: Manifests, address: str) -> None:
    network = Network(manifests)
    for role, pod in members(manifests).items():
        assert network.leaves(pod, address, 443) == (role == "worker")
        assert not network.leaves(pod, address, 80)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "172.20.0.1", "192.168.1.1", "169.254.169.254", "fd00::1", "100.64.0.1"]
)
def test_workers_do_not_reach_the_clusters_own_addresses(manifests: Manifests, address: str) -> None:
    assert not Network(manifests).leaves(members(manifests)["worker"], address, 443)


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_those_who_look_names_up_can(manifests: Manifests, protocol: str) -> None:
    network = Network(manifests)
    dns, other = Pod({"k8s-app": "kube-dns"}, "kube-system"), Pod({"k8s-app": "other"}, "kube-system")
    for role, pod in members(manifests).items():
        asks = role in ("gateway", "worker")
        assert network.connects(pod, dns, 53, protocol) == asks
        assert network.leaves(pod, "169.254.20.10", 53, protocol) == asks
        assert not network.connects(pod, other, 53, protocol)
