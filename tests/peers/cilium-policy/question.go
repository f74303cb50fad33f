package main

import "encoding/json"

// Question is one line of input: everything an answer depends on.
type Question struct {
	ClusterName string            `json:"cluster_name"`
	AnyCluster  bool              `json:"any_cluster"` // policy-default-local-cluster is off
	Settings    Settings          `json:"settings"`
	Policies    []json.RawMessage `json:"policies"`
	Groups      []Group           `json:"groups"`
	Identities  []Identity        `json:"identities"`
	Probes      []Probe           `json:"probes"`
}

// Settings are the agent's options that a question may change.
type Settings struct {
	PolicyMode     string   `json:"policy_mode"` // default, always, never
	CIDRMatchMode  []string `json:"cidr_match_mode"`
	AllowLocalhost bool     `json:"allow_localhost"`
	HostFirewall   bool     `json:"host_firewall"`
	NodeSelectors  bool     `json:"node_selectors"`
	IPv4           bool     `json:"ipv4"`
	IPv6           bool     `json:"ipv6"`
}

// Group is a CiliumCIDRGroup.
type Group struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	CIDRs  []string          `json:"cidrs"`
}

// Identity is a security identity: its number, labels as Hubble writes them, and, for an address
// outside of the cluster, the address and the DNS names learned for it.
type Identity struct {
	ID         uint32      `json:"id"`
	Labels     []string    `json:"labels"`
	Address    string      `json:"address"`
	Names      []string    `json:"names"`
	NamedPorts []NamedPort `json:"named_ports"`
}

// NamedPort is a container's port that has a name.
type NamedPort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Port     uint16 `json:"port"`
}

// Probe asks for one direction's verdict at the subject.
type Probe struct {
	Subject  uint32 `json:"subject"`
	Peer     uint32 `json:"peer"`
	Ingress  bool   `json:"ingress"`
	Protocol uint8  `json:"protocol"`
	Port     uint16 `json:"port"`
}

// Verdict answers a probe.
type Verdict struct {
	Allowed  bool   `json:"allowed"`
	Matched  bool   `json:"matched"` // an entry decided; false for the default
	Redirect bool   `json:"redirect"`
	Auth     uint32 `json:"auth"`
	Rules    string `json:"rules"`
	Error    string `json:"error,omitempty"`
}

// Answer is one line of output. Refused maps a policy's position in the question to the reason.
type Answer struct {
	Refused  map[int]string `json:"refused"`
	Verdicts []Verdict      `json:"verdicts"`
	Error    string         `json:"error,omitempty"`
}
