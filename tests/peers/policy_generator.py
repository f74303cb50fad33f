"""Random policies for the comparison of policy engines, from a seed. Every construct that the engine knows can appear.
"""

import random
import typing

Manifest = dict[str, typing.Any]

LABELS = {"app": ["web", "db", "other"], "role": ["frontend", "backend"], "tier": ["", "x"], "canary": ["yes"], "k8s-app": ["kube-dns"]}
NAMESPACE_LABELS = {"team": ["web", "platform"], "env": ["prod", "dev"], "kubernetes.io/metadata.name": ["shop", "ops"]}
NAMESPACES = ["shop", "ops", "dev"]
CIDRS = ["203.0.113.0/24", "203.0.113.10/32", "203.0.113.0/25", "198.51.100.0/24", "10.0.0.0/8", "0.0.0.0/0", "172.18.0.0/16", "0.0.0.0/1"]
CIDRS6 = ["2001:db8::/32", "::/0", "2001:db8:dead::/48"]
ENTITIES = ["all", "world", "cluster", "host", "init", "ingress", "unmanaged", "remote-node", "health", "none", "kube-apiserver"]
PATTERNS = [
    "*",
    "*.example.com",
    "**.example.com",
    "api.*",
    "*example.com",
    "a*.example.*",
    "**.*.com",
    "API.example.com",
    "***.com",
    "example.com.",
]
NAMES = ["api.example.com", "example.com", "Cdn.Example.net", "a.b.example.com."]
PORTS = [53, 80, 443, 5432, 8080, 8081, 9090]
PORT_NAMES = ["http", "metrics", "postgres", "dns", "dns-tcp", "HTTP", "absent"]


class Generator:
    """Makes policies for one scenario."""

    def __init__(self, seed: int, *, release: tuple[int, int], dual_stack: bool, node_selectors: bool) -> None:
        self.random = random.Random(seed)
        self.release = release
        self.dual_stack = dual_stack
        self.node_selectors = node_selectors

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.random.random() < share

    def policies(self, kinds: list[str]) -> list[Manifest]:
        """One to four policies of these kinds."""
        makers: dict[str, typing.Callable[[], Manifest]] = {
            "NetworkPolicy": self.network_policy,
            "CiliumNetworkPolicy": self.cilium_policy,
            "CiliumClusterwideNetworkPolicy": self.clusterwide_policy,
            "ClusterNetworkPolicy": self.cluster_policy,
        }
        found = []
        for index in range(self.random.randint(1, 4)):
            manifest = makers[self.random.choice(kinds)]()
            manifest["metadata"]["name"] = f"p{index}"
            found.append(manifest)
        return found

    def selector(self, *, labels: dict[str, list[str]] | None = None, prefixes: tuple[str, ...] = ("",)) -> Manifest:
        """A label selector."""
        pool = labels or LABELS
        found: Manifest = {}
        if self.chance(0.6):
            keys = self.random.sample(list(pool), self.random.choice([1, 1, 1, 2]))
            found["matchLabels"] = {self.random.choice(prefixes) + key: self.random.choice(pool[key]) for key in keys}
        if self.chance(0.35):
            found["matchExpressions"] = [self.expression(pool, prefixes) for _ in range(self.random.choice([1, 1, 2]))]
        return found

    def expression(self, pool: dict[str, list[str]], prefixes: tuple[str, ...]) -> Manifest:
        """One entry of matchExpressions."""
        key = self.random.choice(list(pool))
        operator = self.random.choice(["In", "NotIn", "Exists", "DoesNotExist"])
        found: Manifest = {"key": self.random.choice(prefixes) + key, "operator": operator}
        if operator in ("In", "NotIn"):
            found["values"] = self.random.sample(pool[key], self.random.randint(1, len(pool[key])))
        return found

    def cidr(self) -> str:
        """A range of addresses."""
        return self.random.choice(CIDRS6 if self.dual_stack and self.chance(0.3) else CIDRS)

    def exceptions(self, cidr: str) -> list[str]:
        """Parts of a range."""
        inside = {
            "203.0.113.0/24": ["203.0.113.10/32", "203.0.113.128/25"],
            "10.0.0.0/8": ["10.77.0.0/16"],
            "0.0.0.0/0": ["10.0.0.0/8", "203.0.113.0/24", "172.16.0.0/12"],
            "2001:db8::/32": ["2001:db8:dead::/48"],
            "::/0": ["2001:db8::/32"],
        }.get(cidr, [])
        return self.random.sample(inside, self.random.randint(0, len(inside)))

    # NetworkPolicy

    def network_policy(self) -> Manifest:
        """A NetworkPolicy that the API server takes, with the defaults that it fills in."""
        spec: Manifest = {"podSelector": self.selector() if self.chance(0.6) else {}}
        for key, peers in (("ingress", "from"), ("egress", "to")):
            if self.chance(0.6):
                spec[key] = [self.network_rule(peers) for _ in range(self.random.choice([0, 1, 1, 2]))]
        default = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        spec["policyTypes"] = self.random.choice([default, default, ["Ingress"], ["Egress"], ["Ingress", "Egress"]])
        metadata = {"namespace": self.random.choice(NAMESPACES)}
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}

    def network_rule(self, peers: str) -> Manifest:
        rule: Manifest = {}
        if self.chance(0.75):
            rule[peers] = [self.network_peer() for _ in range(self.random.choice([0, 1, 1, 2]))]
        if self.chance(0.5):
            rule["ports"] = [self.network_port() for _ in range(self.random.choice([0, 1, 1, 2]))]
        return rule

    def network_peer(self) -> Manifest:
        kind = self.random.choice(["pods", "namespaces", "both", "block"])
        if kind == "block":
            cidr = self.cidr()
            block: Manifest = {"cidr": cidr}
            if self.chance(0.5):
                block["except"] = self.exceptions(cidr)
            return {"ipBlock": block}
        found: Manifest = {}
        if kind in ("pods", "both"):
            found["podSelector"] = self.selector()
        if kind in ("namespaces", "both"):
            found["namespaceSelector"] = self.selector(labels=NAMESPACE_LABELS)
        return found

    def network_port(self) -> Manifest:
        found: Manifest = {}
        if self.chance(0.6):
            found["protocol"] = self.random.choice(["TCP", "UDP", "SCTP"])
        if self.chance(0.85):
            found["port"] = self.random.choice([*PORTS, *PORTS, "http", "metrics", "dns"])
            if isinstance(found["port"], int) and self.chance(0.25):
                found["endPort"] = found["port"] + self.random.choice([0, 1, 1000])
        return found

    # CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy

    def cilium_policy(self) -> Manifest:
        """A CiliumNetworkPolicy, now and then one that is refused."""
        metadata = {"namespace": self.random.choice(NAMESPACES)}
        manifest: Manifest = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata}
        self.add_specs(manifest, clusterwide=False)
        return manifest

    def clusterwide_policy(self) -> Manifest:
        """A CiliumClusterwideNetworkPolicy, now and then one that is refused."""
        manifest: Manifest = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {}}
        self.add_specs(manifest, clusterwide=True)
        return manifest

    def add_specs(self, manifest: Manifest, *, clusterwide: bool) -> None:
        if self.chance(0.85):
            manifest["spec"] = self.spec(clusterwide=clusterwide)
        else:
            manifest["specs"] = [self.spec(clusterwide=clusterwide) for _ in range(2)]

    def spec(self, *, clusterwide: bool) -> Manifest:
        nodes = self.chance(0.2 if clusterwide else 0.02)
        selector = self.random.choice([{}, {"matchLabels": {"tier": "edge"}}]) if nodes else self.subject(clusterwide=clusterwide)
        spec: Manifest = {"nodeSelector" if nodes else "endpointSelector": selector}
        for key, direction, allows, share in (
            ("ingress", "from", True, 0.6),
            ("ingressDeny", "from", False, 0.25),
            ("egress", "to", True, 0.6),
            ("egressDeny", "to", False, 0.25),
        ):
            if self.chance(share):
                count = self.random.choice([0, 1, 1, 1, 2, 2])
                spec[key] = [self.cilium_rule(direction, allows=allows, nodes=nodes) for _ in range(count)]
        if self.chance(0.25):
            spec["enableDefaultDeny"] = {
                key: self.chance(0.4) for key in self.random.choice([["ingress"], ["egress"], ["ingress", "egress"]])
            }
        return spec

    def subject(self, *, clusterwide: bool) -> Manifest:
        if self.chance(0.35):
            return {}
        if self.chance(0.1):
            return {
                "matchLabels": {self.random.choice(["", "k8s:", "any:"]) + "io.kubernetes.pod.namespace": self.random.choice(NAMESPACES)}
            }
        if clusterwide and self.chance(0.1):
            return {"matchLabels": {"reserved:init": ""}}
        return self.selector(prefixes=("", "k8s:", "any:"))

    def cilium_rule(self, word: str, *, allows: bool, nodes: bool) -> Manifest:
        rule: Manifest = {}
        makers = self.peer_makers(word, allows=allows)
        for _ in range(2 if self.chance(0.03) else 1):
            if self.chance(0.85):
                key = self.random.choice(list(makers))
                count = self.random.choice([0, 1, 1, 1, 2])
                rule[word + key] = [makers[key]() for _ in range(count)]
        if self.chance(0.5):
            rule["toPorts"] = [self.port_rule(word, allows=allows, nodes=nodes) for _ in range(self.random.choice([0, 1, 1, 1, 2]))]
        if self.chance(0.03 if "toPorts" in rule else 0.15):
            rule["icmps"] = [{"fields": [self.icmp() for _ in range(self.random.choice([0, 1, 2]))]}]
        if allows and self.chance(0.04):
            rule["authentication"] = {"mode": self.random.choice(["disabled", "required"])}
        return rule

    def peer_makers(self, word: str, *, allows: bool) -> dict[str, typing.Callable[[], typing.Any]]:
        entities = ENTITIES + (["cluster-mesh"] if self.release >= (1, 20) or self.chance(0.05) else [])
        makers: dict[str, typing.Callable[[], typing.Any]] = {
            "Endpoints": self.endpoint,
            "CIDR": lambda: self.cidr() if self.chance(0.9) else "203.0.113.10",
            "CIDRSet": self.cidr_rule,
            "Entities": lambda: self.random.choice(entities),
        }
        if word == "to" and allows:
            makers["FQDNs"] = self.name_selector
            if self.chance(0.1):
                makers["Services"] = lambda: {"k8sService": {"serviceName": "absent", "namespace": "shop"}}
        if self.node_selectors or self.chance(0.02):
            makers["Nodes"] = lambda: self.random.choice([{}, {"matchLabels": {"tier": "edge"}}])
        return makers

    def endpoint(self) -> Manifest:
        if self.chance(0.15):
            return {}
        if self.chance(0.12):
            reserved = self.random.choice(["world", "host", "remote-node", "kube-apiserver", "health"])
            return {"matchLabels": {f"reserved:{reserved}": ""}}
        found = self.selector(prefixes=("", "k8s:", "any:"))
        if self.chance(0.35):
            key = self.random.choice(["", "k8s:", "any:"]) + "io.kubernetes.pod.namespace"
            self.require(found, key, NAMESPACES)
        if self.chance(0.15):
            self.require(found, self.random.choice(["k8s:", ""]) + "io.cilium.k8s.namespace.labels.env", ["prod", "dev"])
        if self.chance(0.12):
            self.require(found, self.random.choice(["k8s:", "any:", ""]) + "io.cilium.k8s.policy.cluster", ["default", "other"])
        return found

    def require(self, selector: Manifest, key: str, values: list[str]) -> None:
        """Add a condition on a key."""
        if self.chance(0.6):
            selector.setdefault("matchLabels", {})[key] = self.random.choice(values)
        else:
            operator = self.random.choice(["In", "NotIn", "Exists"])
            expression: Manifest = {"key": key, "operator": operator}
            if operator != "Exists":
                expression["values"] = self.random.sample(values, self.random.randint(1, len(values)))
            selector.setdefault("matchExpressions", []).append(expression)

    def cidr_rule(self) -> Manifest:
        if self.chance(0.15):
            return {"cidrGroupRef": self.random.choice(["partners", "absent"])}
        if self.chance(0.08):
            return {"cidrGroupSelector": {"matchLabels": {"kind": self.random.choice(["vpn", "none"])}}}
        cidr = self.cidr()
        found: Manifest = {"cidr": cidr}
        if self.chance(0.5):
            found["except"] = self.exceptions(cidr) if self.chance(0.95) else ["192.0.2.0/24"]
        return found

    def name_selector(self) -> Manifest:
        return {"matchPattern": self.random.choice(PATTERNS)} if self.chance(0.7) else {"matchName": self.random.choice(NAMES)}

    def port_rule(self, word: str, *, allows: bool, nodes: bool) -> Manifest:
        found: Manifest = {"ports": [self.port() for _ in range(self.random.choice([0, 1, 1, 1, 2]))]}
        if self.chance(0.01):
            found["ports"] = [{"port": str(1000 + index), "protocol": "TCP"} for index in range(41)]
        if not allows or self.chance(0.8):
            return found
        if word == "to" and self.chance(0.4):
            found["rules"] = {"dns": [self.name_selector()]}
            found["ports"] = [{"port": "53", "protocol": self.random.choice(["UDP", "TCP", "ANY"])}]
        elif not nodes or self.chance(0.1):
            found["rules"] = {"http": [{"method": "GET", "path": "/public"}]}
            found["ports"] = [{"port": self.random.choice(["80", "8080", "http"]), "protocol": "TCP" if self.chance(0.9) else "UDP"}]
        return found

    def port(self) -> Manifest:
        roll = self.random.random()
        if roll < 0.04:
            return self.random.choice([{"port": "99999"}, {"protocol": "TCP"}, {"port": "0", "protocol": "TCP"}, {"port": "0"}])
        found: Manifest = {"port": self.random.choice(PORT_NAMES) if roll < 0.25 else str(self.random.choice(PORTS))}
        if self.chance(0.75):
            found["protocol"] = self.random.choice(["TCP", "TCP", "UDP", "SCTP", "ANY"])
        if roll >= 0.25 and self.chance(0.2):
            found["endPort"] = int(found["port"]) + self.random.choice([-1, 0, 1, 1000])
        return found

    def icmp(self) -> Manifest:
        family = self.random.choice(["IPv4", "IPv4", "IPv6"])
        kind: typing.Any = self.random.choice([8, 13, "EchoRequest", 128 if family == "IPv6" else 8])
        return {"type": kind, "family": family} if family == "IPv6" or self.chance(0.5) else {"type": kind}

    # ClusterNetworkPolicy

    def cluster_policy(self) -> Manifest:
        """A ClusterNetworkPolicy that the API server takes."""
        spec: Manifest = {"tier": self.random.choice(["Admin", "Baseline"]), "priority": self.random.choice([0, 1, 10, 10, 1000])}
        spec["subject"] = {"namespaces": {}} if self.chance(0.5) else self.cluster_peer()
        for key, peers in (("ingress", "from"), ("egress", "to")):
            if self.chance(0.7):
                spec[key] = [self.cluster_rule(peers) for _ in range(self.random.choice([1, 1, 2, 3]))]
        return {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {}, "spec": spec}

    def cluster_peer(self) -> Manifest:
        if self.chance(0.5):
            return {"namespaces": self.selector(labels=NAMESPACE_LABELS) if self.chance(0.6) else {}}
        return {"pods": {"namespaceSelector": self.selector(labels=NAMESPACE_LABELS), "podSelector": self.selector()}}

    def cluster_rule(self, word: str) -> Manifest:
        rule: Manifest = {"action": self.random.choice(["Accept", "Deny", "Pass"])}
        rule[word] = [self.cluster_peer() for _ in range(self.random.choice([1, 1, 2]))]
        networks = word == "to" and self.chance(0.3)
        if networks:
            rule[word] = [{"networks": sorted({self.cidr() for _ in range(2)})}]
        elif word == "to" and rule["action"] == "Accept" and self.chance(0.15):
            networks = True
            rule[word] = [{"domainNames": [self.random.choice(["example.com", "*.example.com", "api.example.com"])]}]
        if self.chance(0.5):
            rule["protocols"] = [self.cluster_port(named=not networks) for _ in range(self.random.choice([1, 1, 2]))]
        return rule

    def cluster_port(self, *, named: bool) -> Manifest:
        if named and self.chance(0.2):
            return {"destinationNamedPort": self.random.choice(["http", "metrics", "dns"])}
        port = self.random.choice(PORTS)
        number = {"range": {"start": port, "end": port + 1000}} if self.chance(0.3) else {"number": port}
        return {self.random.choice(["tcp", "tcp", "udp", "sctp"]): {"destinationPort": number}}
