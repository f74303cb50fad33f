// Command kube-network-policies-engine answers probes with the engine of sigs.k8s.io/kube-network-policies,
// which reads NetworkPolicy and ClusterNetworkPolicy as their texts say.
//
// It reads one JSON question a line from standard input and writes one JSON answer a line to standard
// output. Every question stands alone: namespaces, pods, policies and probes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/kube-network-policies/pkg/api"
	"sigs.k8s.io/kube-network-policies/pkg/network"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	clusterpolicy "sigs.k8s.io/kube-network-policies/plugins/npa-v1alpha2"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
	policyclient "sigs.k8s.io/network-policy-api/pkg/client/clientset/versioned"
	policyinformers "sigs.k8s.io/network-policy-api/pkg/client/informers/externalversions"
)

// Question is one line of input.
type Question struct {
	Namespaces map[string]map[string]string `json:"namespaces"`
	Pods       []Pod                        `json:"pods"`
	Policies   []json.RawMessage            `json:"policies"`
	Probes     []Probe                      `json:"probes"`
}

// Pod is a pod with the address that probes name it by.
type Pod struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Address   string            `json:"address"`
	Ports     []Port            `json:"ports"`
}

// Port is a container's port that has a name.
type Port struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Port     int32  `json:"port"`
}

// Probe asks for one direction's verdict.
type Probe struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Protocol    string `json:"protocol"`
	Port        int    `json:"port"`
	Ingress     bool   `json:"ingress"`
}

// Answer is one line of output.
type Answer struct {
	Allowed []bool `json:"allowed"`
	Error   string `json:"error,omitempty"`
}

func main() {
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := bufio.NewWriter(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if len(line) > 1 {
			encoded, problem := json.Marshal(ask(line))
			if problem != nil {
				fmt.Fprintln(os.Stderr, problem)
				os.Exit(1)
			}
			output.Write(encoded)
			output.WriteByte('\n')
			output.Flush()
		}
		if err != nil {
			return
		}
	}
}

func ask(line []byte) Answer {
	var question Question
	if err := json.Unmarshal(line, &question); err != nil {
		return Answer{Error: err.Error()}
	}
	evaluators, err := load(question.Policies)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	pods := map[string]*api.PodInfo{}
	for _, pod := range question.Pods {
		pods[pod.Address] = info(pod, question.Namespaces[pod.Namespace])
	}
	answer := Answer{Allowed: make([]bool, len(question.Probes))}
	for index, probe := range question.Probes {
		allowed, err := judge(evaluators, pods, &probe)
		if err != nil {
			return Answer{Error: err.Error()}
		}
		answer.Allowed[index] = allowed
	}
	return answer
}

// load fills the engine's listers, which nothing else feeds: no API server is asked.
func load(policies []json.RawMessage) ([]api.PolicyEvaluator, error) {
	config := &rest.Config{Host: "http://127.0.0.1:1"}
	core := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
	tiered := policyinformers.NewSharedInformerFactory(policyclient.NewForConfigOrDie(config), 0)
	names := core.Networking().V1().NetworkPolicies()
	cluster := tiered.Policy().V1alpha2().ClusterNetworkPolicies()
	evaluators := []api.PolicyEvaluator{
		clusterpolicy.NewClusterNetworkPolicy(v1alpha2.AdminTier, cluster, nil, nil),
		networkpolicy.NewStandardNetworkPolicy("node-1", core.Core().V1().Namespaces(), core.Core().V1().Pods(), names),
		clusterpolicy.NewClusterNetworkPolicy(v1alpha2.BaselineTier, cluster, nil, nil),
	}
	for _, document := range policies {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(document, &head); err != nil {
			return nil, err
		}
		var err error
		if head.Kind == "NetworkPolicy" {
			var object networkingv1.NetworkPolicy
			if err = json.Unmarshal(document, &object); err == nil {
				err = names.Informer().GetIndexer().Add(&object)
			}
		} else {
			var object v1alpha2.ClusterNetworkPolicy
			if err = json.Unmarshal(document, &object); err == nil {
				err = cluster.Informer().GetIndexer().Add(&object)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return evaluators, nil
}

func info(pod Pod, labels map[string]string) *api.PodInfo {
	found := &api.PodInfo{
		Name:      pod.Name,
		Labels:    pod.Labels,
		Namespace: &api.Namespace{Name: pod.Namespace, Labels: labels},
		Node:      &api.Node{Name: "node-1"},
	}
	for _, port := range pod.Ports {
		found.ContainerPorts = append(found.ContainerPorts, &api.ContainerPort{
			Name: port.Name, Port: port.Port, Protocol: port.Protocol,
		})
	}
	return found
}

func judge(evaluators []api.PolicyEvaluator, pods map[string]*api.PodInfo, probe *Probe) (bool, error) {
	packet := &network.Packet{
		SrcIP: net.ParseIP(probe.Source), DstIP: net.ParseIP(probe.Destination),
		Proto: corev1.Protocol(probe.Protocol), SrcPort: 40000, DstPort: probe.Port,
	}
	source, destination := pods[probe.Source], pods[probe.Destination]
	for _, evaluator := range evaluators {
		evaluate := evaluator.EvaluateEgress
		if probe.Ingress {
			evaluate = evaluator.EvaluateIngress
		}
		verdict, err := evaluate(context.Background(), packet, source, destination)
		if err != nil {
			return false, err
		}
		if verdict != api.VerdictNext {
			return verdict == api.VerdictAccept, nil
		}
	}
	return true, nil
}
