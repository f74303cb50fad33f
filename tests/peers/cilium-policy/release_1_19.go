//go:build cilium119

package main

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	"github.com/cilium/cilium/pkg/spanstat"
	"github.com/cilium/cilium/pkg/u8proto"
)

type statistics struct{ waiting, calculation spanstat.SpanStat }

func (s *statistics) WaitingForPolicyRepository() *spanstat.SpanStat { return &s.waiting }
func (s *statistics) SelectorPolicyCalculation() *spanstat.SpanStat  { return &s.calculation }

type metrics struct{}

func (metrics) AddRule(types.PolicyEntry) {}
func (metrics) DelRule(types.PolicyEntry) {}

func allowLocalhost(mode string) { option.Config.AllowLocalhost = mode }

func noMetrics() types.PolicyMetrics { return metrics{} }

func (e *engine) compute(one *identity.Identity, subject *owner) (*policy.EndpointPolicy, error) {
	selected, _, err := e.repository.GetSelectorPolicy(one, 0, &statistics{}, subject.GetID())
	if err != nil {
		return nil, err
	}
	// Every redirect is taken as realized, so that rules with HTTP or DNS parts count.
	redirects := map[string]uint16{}
	for filter, tuple := range selected.RedirectFilters() {
		port := filter.Port
		if port == 0 && filter.PortName != "" {
			port = subject.GetNamedPort(filter.Ingress, filter.PortName, filter.U8Proto)
		}
		listener := tuple.Policy.GetListener()
		id := policy.ProxyID(uint16(subject.id), filter.Ingress, string(filter.Protocol), port, listener)
		redirects[id] = 65535
	}
	endpoint := selected.DistillPolicy(e.logger, subject, redirects)
	return endpoint, endpoint.Ready()
}

// GetNamedPort resolves an egress name over all pods: one number if they agree, else none.
func (o *owner) GetNamedPort(ingress bool, name string, protocol u8proto.U8proto) uint16 {
	if ingress {
		return o.ownPort(name, protocol)
	}
	found := uint16(0)
	for _, ports := range o.engine.ports {
		for _, port := range ports[name] {
			number, err := u8proto.ParseProtocol(port.Protocol)
			if err != nil || number != protocol {
				continue
			}
			if found != 0 && found != port.Port {
				return 0
			}
			found = port.Port
		}
	}
	return found
}

func (o *owner) PreviousMapState() *policy.MapState { return nil }

func (e *engine) servePorts(*Question) {}

func parseClusterNetworkPolicy(
	*slog.Logger, string, json.RawMessage, map[string]api.FQDNSelector,
) (types.PolicyEntries, error) {
	return nil, fmt.Errorf("Cilium 1.19 reads no ClusterNetworkPolicy")
}
