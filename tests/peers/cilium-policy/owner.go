package main

import (
	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/u8proto"
	cilium "github.com/cilium/proxy/go/cilium/api"
)

// owner stands for the endpoint whose policy is computed.
type owner struct {
	engine *engine
	id     uint32
}

func (o *owner) GetID() uint64 { return uint64(o.id) }

func (o *owner) IsHost() bool {
	return identity.NumericIdentity(o.id) == identity.ReservedIdentityHost
}

func (o *owner) PolicyDebug(string, ...any) {}

func (o *owner) RegenerateIfAlive(*regeneration.ExternalRegenerationMetadata) <-chan bool {
	done := make(chan bool)
	close(done)
	return done
}

// ownPort is the number of the subject's own port of that name, 0 without one.
func (o *owner) ownPort(name string, protocol u8proto.U8proto) uint16 {
	for _, port := range o.engine.ports[o.id][name] {
		if number, err := u8proto.ParseProtocol(port.Protocol); err == nil && number == protocol {
			return port.Port
		}
	}
	return 0
}

// translator stands for the part that would write Envoy's HTTP rules, which no verdict here reads.
type translator struct{}

func (translator) GetEnvoyHTTPRules(*api.L7Rules, string) (*cilium.HttpNetworkPolicyRules, bool) {
	return nil, true
}
