//go:build !cilium119

package main

import (
	"encoding/json"
	"log/slog"
	"math"

	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/k8s"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	pkgtypes "github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

func allowLocalhost(mode string) {
	option.Config.UnsafeDaemonConfigOption.AllowLocalhost = mode
}

func noMetrics() types.PolicyMetrics { return nil }

func (e *engine) compute(one *identity.Identity, subject *owner) (*policy.EndpointPolicy, error) {
	selected, _, err := e.repository.ComputeSelectorPolicy(one)
	if err != nil {
		return nil, err
	}
	// Every redirect is taken as realized, so that rules with HTTP or DNS parts count.
	redirects := map[string]uint16{policy.FallbackRedirectID: math.MaxUint16}
	endpoint := selected.DistillPolicy(e.logger, subject, redirects)
	return endpoint, endpoint.Ready()
}

func (o *owner) GetIngressNamedPort(name string, protocol u8proto.U8proto) uint16 {
	return o.ownPort(name, protocol)
}

func (o *owner) PreviousMapStateSizes() policy.MapStateSizes { return policy.MapStateSizes{} }

type portsOfAll struct{ all pkgtypes.NamedPortMultiMap }

func (p portsOfAll) GetNamedPorts() pkgtypes.NamedPortMultiMap { return p.all }

func (e *engine) servePorts(question *Question) {
	all := pkgtypes.NewNamedPortMultiMap()
	for _, one := range question.Identities {
		ports := pkgtypes.NamedPortMap{}
		for _, port := range one.NamedPorts {
			if protocol, err := u8proto.ParseProtocol(port.Protocol); err == nil {
				ports[port.Name] = pkgtypes.PortProto{Proto: protocol, Port: port.Port}
			}
		}
		if len(ports) > 0 {
			all.Update(identity.NumericIdentity(one.ID), nil, ports)
		}
	}
	e.repository.SetNamedPortsGetter(portsOfAll{all})
}

func parseClusterNetworkPolicy(
	logger *slog.Logger, cluster string, document json.RawMessage, selectors map[string]api.FQDNSelector,
) (types.PolicyEntries, error) {
	var object v1alpha2.ClusterNetworkPolicy
	if err := json.Unmarshal(document, &object); err != nil {
		return nil, err
	}
	entries, err := k8s.ParseClusterNetworkPolicy(logger, cluster, &object)
	for _, entry := range entries {
		for _, selector := range entry.L3 {
			if name, is := selector.GetFQDNSelector(); is {
				selectors[name.String()] = *name
			}
		}
	}
	return entries, err
}
