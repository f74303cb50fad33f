package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	peerpb "github.com/cilium/cilium/api/v1/peer"
	"github.com/cilium/cilium/pkg/hubble/peer"
	"github.com/cilium/cilium/pkg/hubble/peer/serviceoption"
	"github.com/cilium/cilium/pkg/node"
	"github.com/cilium/cilium/pkg/node/addressing"
	nodetypes "github.com/cilium/cilium/pkg/node/types"
)

// peerService is Cilium's peer service, except that each peer has a port of its own: Cilium announces
// one port for all nodes, and the nodes of a test share an IP address.
type peerService struct {
	*peer.Service
	addresses sync.Map // host:port by peer name, of peers that are gone too
	mu        sync.Mutex
	live      map[string]nodetypes.Node // by "NAME=ADDR"
	handlers  map[node.Handler]bool
}

// newPeerService announces the --peers, or the node itself at address.
func newPeerService(address string, withTLS bool) *peerService {
	s := &peerService{handlers: map[node.Handler]bool{}}
	var options []serviceoption.Option
	if !withTLS {
		options = append(options, serviceoption.WithoutTLSInfo())
	}
	s.Service = peer.NewService(s, options...)
	path, isFile := strings.CutPrefix(*peers, "@")
	switch {
	case isFile:
		reread := func() {
			content, err := os.ReadFile(path)
			check(err)
			check(s.set(strings.Fields(string(content))))
		}
		reread()
		go func() {
			for range time.Tick(200 * time.Millisecond) {
				reread()
			}
		}()
	case *peers != "":
		check(s.set(strings.Split(*peers, ",")))
	default:
		check(s.set([]string{*nodeName + "=" + address}))
	}
	return s
}

// set makes the "CLUSTER/NODE=ADDR" entries the live peers and tells every client what changed.
func (s *peerService) set(entries []string) error {
	live := map[string]nodetypes.Node{}
	for _, entry := range entries {
		name, address, _ := strings.Cut(entry, "=")
		cluster, short, found := strings.Cut(name, "/")
		host, _, err := net.SplitHostPort(address)
		if err != nil || !found {
			return fmt.Errorf("peer %q is not CLUSTER/NODE=HOST:PORT", entry)
		}
		peer := nodetypes.Node{Name: short, Cluster: cluster, IPAddresses: []nodetypes.Address{
			{Type: addressing.NodeInternalIP, IP: net.ParseIP(host)}}}
		s.addresses.Store(peer.Fullname(), address)
		live[entry] = peer
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.live
	s.live = live
	for handler := range s.handlers {
		for entry, peer := range before {
			if _, stays := live[entry]; !stays {
				_ = handler.NodeDelete(peer)
			}
		}
		for entry, peer := range live {
			if _, known := before[entry]; !known {
				_ = handler.NodeAdd(peer)
			}
		}
	}
	return nil
}

// Subscribe adds a client, which hears of every live peer at once.
func (s *peerService) Subscribe(handler node.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[handler] = true
	for _, peer := range s.live {
		_ = handler.NodeAdd(peer)
	}
}

// Unsubscribe removes a client.
func (s *peerService) Unsubscribe(handler node.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handlers, handler)
}

// Notify serves a client through Cilium's service.
func (s *peerService) Notify(request *peerpb.NotifyRequest, stream peerpb.Peer_NotifyServer) error {
	return s.Service.Notify(request, addressedStream{stream, &s.addresses})
}

// addressedStream completes the address of each notification with the peer's port.
type addressedStream struct {
	peerpb.Peer_NotifyServer
	addresses *sync.Map
}

func (s addressedStream) Send(change *peerpb.ChangeNotification) error {
	if address, known := s.addresses.Load(change.Name); known {
		change.Address = address.(string)
	}
	return s.Peer_NotifyServer.Send(change)
}
