package main

import (
	"reflect"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// attachmentView is how an attachment looks in JSON. Scripts read it: add fields, rename none.
type attachmentView struct {
	Interface string            `json:"interface"`
	Index     int               `json:"ifindex"`
	Namespace uint64            `json:"netns"`
	Hook      loader.Hook       `json:"hook"`
	Mode      loader.Mode       `json:"mode"`
	State     loader.State      `json:"state"`
	Program   loader.Program    `json:"program"`
	Policies  []policyView      `json:"policies"`
	Unparsed  map[string]uint64 `json:"unparsed"`
	Pressure  uint64            `json:"table_pressure"`
	Contended uint64            `json:"contended"`
	// Listed is what the lists and the bans decided here, by allow, deny and ban.
	Listed     map[string]loader.Count `json:"listed"`
	Allow      int                     `json:"allow_entries"`
	Deny       int                     `json:"deny_entries"`
	EventsLost uint64                  `json:"events_lost"`
}

// policyView is a policy with what it did.
type policyView struct {
	Name       string           `json:"name"`
	Scope      policy.Scope     `json:"scope"`
	Limit      uint64           `json:"limit"`
	Window     string           `json:"window"`
	Burst      uint64           `json:"burst"`
	Unit       policy.Unit      `json:"unit"`
	Algorithm  policy.Algorithm `json:"algorithm"`
	Mode       policy.Mode      `json:"mode"`
	Priority   int              `json:"priority"`
	OnPressure policy.Pressure  `json:"on_pressure"`
	// Consistency and OnStoreFailure are local where no store is shared.
	Consistency    policy.Consistency              `json:"consistency,omitempty"`
	OnStoreFailure policy.StoreFailure             `json:"on_store_failure,omitempty"`
	IPv4Prefix     uint8                           `json:"ipv4_prefix"`
	IPv6Prefix     uint8                           `json:"ipv6_prefix"`
	OnFragment     policy.Fragment                 `json:"on_fragment,omitempty"`
	Action         policy.Action                   `json:"action,omitempty"`
	NewSources     *policy.NewSources              `json:"new_sources,omitempty"`
	Key            string                          `json:"key,omitempty"`
	Headers        map[string]string               `json:"headers,omitempty"`
	Replaces       []string                        `json:"replaces,omitempty"`
	Match          *policy.Match                   `json:"match,omitempty"` // none: it matches everything
	Counters       map[policy.Verdict]loader.Count `json:"counters,omitempty"`
	Strangers      uint64                          `json:"strangers,omitempty"` // of the drops: beyond new_sources
	Paced          uint64                          `json:"paced,omitempty"`     // of the passes: given a later departure
}

func attachmentJSON(a *loader.Attachment) attachmentView {
	v := attachmentView{
		Interface: a.Interface, Index: a.Index, Namespace: a.Namespace, Hook: a.Hook, Mode: a.Mode,
		State: a.State, Program: a.Program, Policies: []policyView{}, Unparsed: a.Counters.Unparsed,
		Pressure: a.Counters.Pressure, Contended: a.Counters.Contended, Listed: a.Counters.Listed,
		Allow: len(a.Lists.Allow), Deny: len(a.Lists.Deny), EventsLost: a.Counters.EventsLost,
	}
	for _, p := range a.Policies {
		pv := policyJSON(p.Policy)
		pv.Counters = a.Counters.Policies[p.Name]
		pv.Strangers, pv.Paced = a.Counters.Strangers[p.Name], a.Counters.Paced[p.Name]
		v.Policies = append(v.Policies, pv)
	}
	return v
}

func policyJSON(p policy.Policy) policyView {
	v := policyView{
		Name: p.Name, Scope: p.Scope, Limit: p.Limit, Window: policy.FormatDuration(p.Window), Burst: p.Burst, Unit: p.Unit,
		Algorithm: p.Algorithm, Key: p.Key, Headers: p.Headers, Mode: p.Mode, Priority: p.Priority, OnPressure: p.OnPressure, IPv4Prefix: p.IPv4Prefix, IPv6Prefix: p.IPv6Prefix,
		Consistency: p.Consistency, OnStoreFailure: p.OnStoreFailure, OnFragment: p.OnFragment, Action: p.Action, NewSources: p.NewSources, Replaces: p.Replaces,
	}
	if !reflect.ValueOf(p.Match).IsZero() {
		v.Match = &p.Match
	}
	return v
}
