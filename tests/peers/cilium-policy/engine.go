package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	cmtypes "github.com/cilium/cilium/pkg/clustermesh/types"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	ipcachetypes "github.com/cilium/cilium/pkg/ipcache/types"
	"github.com/cilium/cilium/pkg/k8s"
	v2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	networkingv1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	policyutils "github.com/cilium/cilium/pkg/policy/utils"
	"github.com/cilium/cilium/pkg/u8proto"
)

// engine is Cilium's policy repository with one question's identities.
type engine struct {
	logger     *slog.Logger
	repository *policy.Repository
	manager    identitymanager.IDManager
	identities map[uint32]*identity.Identity
	ports      map[uint32]map[string][]NamedPort
	computed   map[uint32]*policy.EndpointPolicy
	failed     map[uint32]error
}

func ask(logger *slog.Logger, question *Question) (answer Answer) {
	defer func() {
		if problem := recover(); problem != nil {
			answer.Error = fmt.Sprint(problem)
		}
	}()
	configure(&question.Settings)
	api.InitEntities(question.ClusterName)
	answer.Refused = map[int]string{}
	selectors := map[string]api.FQDNSelector{}
	parsed := make([]types.PolicyEntries, len(question.Policies))
	for index, document := range question.Policies {
		entries, err := parse(logger, question, document, selectors)
		if err != nil {
			answer.Refused[index] = err.Error()
			continue
		}
		parsed[index] = entries
	}
	found, err := newEngine(logger, question, selectors)
	if err != nil {
		answer.Error = err.Error()
		return answer
	}
	for index, entries := range parsed {
		if len(entries) > 0 {
			found.repository.ReplaceByResource(entries, resource(index, question.Policies[index]))
		}
	}
	answer.Verdicts = make([]Verdict, len(question.Probes))
	for index, probe := range question.Probes {
		answer.Verdicts[index] = found.judge(&probe)
	}
	return answer
}

func configure(settings *Settings) {
	mode := settings.PolicyMode
	if mode == "" {
		mode = option.DefaultEnforcement
	}
	policy.SetPolicyEnabled(mode)
	option.Config.PolicyCIDRMatchMode = settings.CIDRMatchMode
	if settings.AllowLocalhost {
		allowLocalhost(option.AllowLocalhostAlways)
	} else {
		allowLocalhost(option.AllowLocalhostPolicy)
	}
	option.Config.EnableHostFirewall = settings.HostFirewall
	option.Config.EnableNodeSelectorLabels = settings.NodeSelectors
	option.Config.EnableIPv4 = settings.IPv4
	option.Config.EnableIPv6 = settings.IPv6
	option.Config.EnableL7Proxy = true
	option.Config.EnableICMPRules = true
	option.Config.EnableNonDefaultDenyPolicies = true
}

type header struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

func resource(index int, document json.RawMessage) ipcachetypes.ResourceID {
	var head header
	if err := json.Unmarshal(document, &head); err != nil {
		panic(err)
	}
	name := fmt.Sprintf("%s-%d", head.Metadata.Name, index)
	switch head.Kind {
	case "NetworkPolicy":
		return ipcachetypes.NewResourceID(ipcachetypes.ResourceKindNetpol, head.Metadata.Namespace, name)
	case "CiliumNetworkPolicy":
		return ipcachetypes.NewResourceID(ipcachetypes.ResourceKindCNP, head.Metadata.Namespace, name)
	}
	return ipcachetypes.NewResourceID(ipcachetypes.ResourceKindCCNP, "", name)
}

// parse reads one policy as the agent would. DNS selectors are collected, because identities of
// addresses carry a label for each selector that matches a learned name.
func parse(
	logger *slog.Logger, question *Question, document json.RawMessage, selectors map[string]api.FQDNSelector,
) (types.PolicyEntries, error) {
	cluster := question.ClusterName
	if question.AnyCluster {
		cluster = cmtypes.PolicyAnyCluster
	}
	var head header
	if err := json.Unmarshal(document, &head); err != nil {
		return nil, err
	}
	var rules api.Rules
	switch head.Kind {
	case "NetworkPolicy":
		var object networkingv1.NetworkPolicy
		if err := json.Unmarshal(document, &object); err != nil {
			return nil, err
		}
		return k8s.ParseNetworkPolicy(logger, cluster, &object)
	case "ClusterNetworkPolicy":
		return parseClusterNetworkPolicy(logger, cluster, document, selectors)
	case "CiliumNetworkPolicy":
		var object v2.CiliumNetworkPolicy
		err := json.Unmarshal(document, &object)
		if err != nil {
			return nil, err
		}
		if rules, err = object.Parse(logger, cluster); err != nil {
			return nil, err
		}
	case "CiliumClusterwideNetworkPolicy":
		var object v2.CiliumClusterwideNetworkPolicy
		err := json.Unmarshal(document, &object)
		if err != nil {
			return nil, err
		}
		if rules, err = object.Parse(logger, cluster); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown kind %q", head.Kind)
	}
	for _, rule := range rules {
		for _, egress := range rule.Egress {
			for _, selector := range egress.ToFQDNs {
				selectors[selector.String()] = selector
			}
		}
	}
	return policyutils.RulesToPolicyEntries(rules), nil
}

func newEngine(
	logger *slog.Logger, question *Question, selectors map[string]api.FQDNSelector,
) (*engine, error) {
	found := &engine{
		logger:     logger,
		manager:    identitymanager.NewIDManager(logger),
		identities: map[uint32]*identity.Identity{},
		ports:      map[uint32]map[string][]NamedPort{},
		computed:   map[uint32]*policy.EndpointPolicy{},
		failed:     map[uint32]error{},
	}
	all := identity.IdentityMap{}
	for _, one := range question.Identities {
		set := labels.NewLabelsFromModel(one.Labels)
		if one.Address != "" {
			address, err := netip.ParseAddr(one.Address)
			if err != nil {
				return nil, err
			}
			addGroups(set, address, question.Groups)
			if err := addNames(set, one.Names, selectors); err != nil {
				return nil, err
			}
		}
		number := identity.NumericIdentity(one.ID)
		found.identities[one.ID] = identity.NewIdentity(number, set)
		all[number] = set.LabelArray()
		for _, port := range one.NamedPorts {
			if found.ports[one.ID] == nil {
				found.ports[one.ID] = map[string][]NamedPort{}
			}
			found.ports[one.ID][port.Name] = append(found.ports[one.ID][port.Name], port)
		}
	}
	found.repository = policy.NewPolicyRepository(
		logger, all, nil, translator{}, found.manager, noMetrics())
	found.repository.GetSubjectSelectorCache().UpdateIdentities(all, nil, &sync.WaitGroup{})
	found.servePorts(question)
	return found, nil
}

func addGroups(set labels.Labels, address netip.Addr, groups []Group) {
	for _, group := range groups {
		for _, text := range group.CIDRs {
			prefix, err := netip.ParsePrefix(text)
			if err != nil || !prefix.Contains(address) {
				continue
			}
			label := api.LabelForCIDRGroupRef(group.Name)
			set[label.Key] = label
			for key, value := range group.Labels {
				encoded := labels.EncodedCIDRGroupLabel(key, value, labels.LabelSourceCIDRGroup)
				set[encoded.Key] = encoded
				plain := labels.NewLabel(key, value, labels.LabelSourceCIDRGroup)
				set[plain.Key] = plain
			}
		}
	}
}

func addNames(set labels.Labels, names []string, selectors map[string]api.FQDNSelector) error {
	for _, selector := range selectors {
		expression, err := selector.ToRegex()
		if err != nil {
			return err
		}
		for _, name := range names {
			if expression.MatchString(name + ".") {
				label := selector.IdentityLabel()
				set[label.Key] = label
			}
		}
	}
	return nil
}

func (e *engine) judge(probe *Probe) Verdict {
	endpoint, err := e.policyOf(probe.Subject)
	if err != nil {
		return Verdict{Error: err.Error()}
	}
	key := policy.EgressKey()
	if probe.Ingress {
		key = policy.IngressKey()
	}
	key = key.WithIdentity(identity.NumericIdentity(probe.Peer))
	key = key.WithPortProto(u8proto.U8proto(probe.Protocol), probe.Port)
	entry, meta, matched := endpoint.Lookup(key)
	return Verdict{
		Allowed:  !entry.IsDeny(),
		Matched:  matched,
		Redirect: entry.IsRedirectEntry(),
		Auth:     uint32(entry.AuthRequirement),
		Rules:    string(meta.LabelArrayListString()),
	}
}

func (e *engine) policyOf(subject uint32) (*policy.EndpointPolicy, error) {
	if endpoint, done := e.computed[subject]; done {
		return endpoint, e.failed[subject]
	}
	one, known := e.identities[subject]
	if !known {
		return nil, fmt.Errorf("no identity %d", subject)
	}
	e.manager.Add(one)
	endpoint, err := e.compute(one, &owner{engine: e, id: subject})
	e.computed[subject], e.failed[subject] = endpoint, err
	return endpoint, err
}
