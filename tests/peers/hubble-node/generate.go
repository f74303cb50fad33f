package main

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/pkg/monitor/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// generated yields flows for ever, drawn from 1,024 different ones: traces of TCP and their replies,
// policy verdicts, drops and DNS.
func generated() func() (proto.Message, error) {
	name := fnv.New64() // two nodes of one seed see different flows
	name.Write([]byte(*nodeName))
	random := rand.New(rand.NewPCG(*seed, name.Sum64()))
	flows := make([]*flowpb.Flow, 1024)
	for i := range flows {
		flows[i] = generate(random)
		for n := 0; proto.Size(flows[i]) < *sizeHint-80; n++ { // uuid, time and node name come later
			end := []*flowpb.Endpoint{flows[i].Source, flows[i].Destination}[n%2]
			end.Labels = append(end.Labels, fmt.Sprintf("k8s:team.example.com/annotation-%d=%x", n, random.Uint64()))
		}
	}
	return func() (proto.Message, error) { return flows[random.IntN(len(flows))], nil }
}

// generate makes one flow without uuid, time and node name.
func generate(random *rand.Rand) *flowpb.Flow {
	source, destination := endpoint(random), endpoint(random)
	destination.ID, destination.Workloads = 0, nil // remote: an agent knows these of its own endpoints only
	port := []uint32{80, 443, 5432, 8080, 9090}[random.IntN(5)]
	address := func() string { return fmt.Sprintf("10.%d.%d.%d", random.IntN(4), random.IntN(256), random.IntN(256)) }
	flow := &flowpb.Flow{
		Emitter: &flowpb.Emitter{Name: "Hubble", Version: "1.20.2"},
		Verdict: flowpb.Verdict_FORWARDED,
		Ethernet: &flowpb.Ethernet{
			Source:      fmt.Sprintf("0a:58:%02x:%02x:11:22", random.IntN(256), random.IntN(256)),
			Destination: fmt.Sprintf("0a:58:%02x:%02x:33:44", random.IntN(256), random.IntN(256))},
		IP: &flowpb.IP{Source: address(), Destination: address(), IpVersion: flowpb.IPVersion_IPv4},
		L4: &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{
			SourcePort: 32768 + random.Uint32N(28000), DestinationPort: port, Flags: &flowpb.TCPFlags{SYN: true}}}},
		Source: source, Destination: destination,
		Type:                  flowpb.FlowType_L3_L4,
		EventType:             &flowpb.CiliumEventType{Type: api.MessageTypeTrace, SubType: 3},
		TrafficDirection:      flowpb.TrafficDirection_EGRESS,
		TraceObservationPoint: flowpb.TraceObservationPoint_TO_STACK,
		TraceReason:           flowpb.TraceReason_NEW,
		IsReply:               wrapperspb.Bool(false),
		Interface:             &flowpb.NetworkInterface{Index: 2, Name: "eth0"},
		NodeLabels:            []string{"kubernetes.io/arch=amd64", "kubernetes.io/os=linux", "topology.kubernetes.io/zone=zone-a"},
		Summary:               "TCP Flags: SYN",
	}
	switch kind := random.IntN(20); {
	case kind < 9: // a reply, which the agent sees with the ends exchanged
		flow.Source, flow.Destination, flow.IP.Source, flow.IP.Destination = destination, source, flow.IP.Destination, flow.IP.Source
		tcp := flow.L4.GetTCP()
		tcp.SourcePort, tcp.DestinationPort, tcp.Flags = tcp.DestinationPort, tcp.SourcePort, &flowpb.TCPFlags{ACK: true}
		flow.EventType.SubType, flow.TraceObservationPoint = 0, flowpb.TraceObservationPoint_TO_ENDPOINT
		flow.TrafficDirection, flow.TraceReason = flowpb.TrafficDirection_INGRESS, flowpb.TraceReason_REPLY
		flow.IsReply, flow.Summary = wrapperspb.Bool(true), "TCP Flags: ACK"
	case kind == 9: // a drop, after its policy verdict
		flow.Verdict, flow.DropReasonDesc = flowpb.Verdict_DROPPED, flowpb.DropReason_POLICY_DENIED
		flow.EventType = &flowpb.CiliumEventType{Type: api.MessageTypeDrop, SubType: int32(flow.DropReasonDesc)}
		flow.File = &flowpb.FileInfo{Name: "bpf_lxc.c", Line: 1446}
		flow.IsReply, flow.TraceObservationPoint, flow.TraceReason, flow.Interface = nil, 0, 0, nil
	case kind < 12: // an allowing policy verdict
		flow.EventType, flow.PolicyMatchType = &flowpb.CiliumEventType{Type: api.MessageTypePolicyVerdict}, 2
		flow.EgressAllowedBy = []*flowpb.Policy{{Name: "allow-" + source.Workloads[0].Name, Namespace: source.Namespace,
			Labels: []string{"k8s:io.cilium.k8s.policy.derived-from=CiliumNetworkPolicy"}, Revision: 7, Kind: "CiliumNetworkPolicy"}}
		flow.TraceObservationPoint, flow.TraceReason, flow.Interface = 0, 0, nil
	case kind < 14: // a DNS request through the proxy
		name := destination.Namespace + ".svc.cluster.local."
		flow.Type, flow.EventType = flowpb.FlowType_L7, &flowpb.CiliumEventType{Type: api.MessageTypeAccessLog}
		flow.L4 = &flowpb.Layer4{Protocol: &flowpb.Layer4_UDP{UDP: &flowpb.UDP{SourcePort: 40000, DestinationPort: 53}}}
		flow.L7 = &flowpb.Layer7{Type: flowpb.L7FlowType_REQUEST, Record: &flowpb.Layer7_Dns{Dns: &flowpb.DNS{
			Query: name, ObservationSource: "proxy", Qtypes: []string{"A"}}}}
		flow.TraceObservationPoint, flow.TraceReason, flow.Interface = 0, 0, nil
		flow.Summary = "DNS Query " + name + " A"
	}
	return flow
}

// endpoint makes one of 25 workloads' pods.
func endpoint(random *rand.Rand) *flowpb.Endpoint {
	i, j := random.IntN(5), random.IntN(5)
	space := []string{"shop", "payments", "search", "monitoring", "batch"}[i]
	workload := []string{"frontend", "api", "worker", "cache", "store"}[j]
	cluster, _, _ := strings.Cut(*nodeName, "/")
	return &flowpb.Endpoint{
		ID: 1 + random.Uint32N(4000), Identity: uint32(10000 + 100*i + j),
		ClusterName: cluster, Namespace: space,
		PodName:   fmt.Sprintf("%s-%08x-%05x", workload, 0x5d4f1a2*(i+1)+j, random.IntN(40)),
		Workloads: []*flowpb.Workload{{Name: workload, Kind: "Deployment"}},
		Labels: []string{
			"k8s:app.kubernetes.io/name=" + workload,
			"k8s:app.kubernetes.io/part-of=" + space,
			"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=" + space,
			"k8s:io.cilium.k8s.policy.serviceaccount=" + workload,
			"k8s:io.kubernetes.pod.namespace=" + space,
		},
	}
}
