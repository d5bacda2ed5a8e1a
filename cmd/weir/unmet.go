package main

import (
	"fmt"
	"slices"

	"github.com/weir-limiter/weir/pkg/config"
	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// unmetPolicy is a policy of the kernel that no packet can meet, as it is for none of the places where weir is to be.
type unmetPolicy struct {
	Policy string `json:"policy"`
	Why    string `json:"why"`
}

// unmet finds the policies that are for none of the places. Without any place nothing is known of them.
func unmet(policies []policy.Policy, places []policy.Place) []unmetPolicy {
	found := []unmetPolicy{}
	if len(places) == 0 {
		return found
	}
	for _, p := range policy.KernelPolicies(policies) {
		one := []policy.Policy{p}
		met := slices.ContainsFunc(places, func(at policy.Place) bool { return len(policy.KernelPoliciesAt(one, at)) > 0 })
		if !met {
			found = append(found, unmetPolicy{p.Name, unmetReason(p.Match, places)})
		}
	}
	return found
}

func unmetReason(m policy.Match, places []policy.Place) string {
	there := slices.ContainsFunc(places, func(at policy.Place) bool {
		return len(m.Interfaces) == 0 || slices.Contains(m.Interfaces, at.Interface)
	})
	if !there {
		return fmt.Sprintf("it is for %s, and weir is on none of them", oneOf(m.Interfaces))
	}
	hook := "hook xdp or tc-ingress"
	if m.Direction == policy.DirectionEgress {
		hook = "hook tc-egress"
	}
	if len(m.Interfaces) == 0 {
		return fmt.Sprintf("it is for %s, and no interface has %s", m.Direction, hook)
	}
	return fmt.Sprintf("it is for %s of %s, which has no %s", m.Direction, oneOf(m.Interfaces), hook)
}

func placeOf(iface string, hook config.Hook) policy.Place {
	return policy.Place{Interface: iface, Direction: hook.Direction()}
}

// listedPlaces are those that a file lists.
func listedPlaces(interfaces []config.Interface) []policy.Place {
	var places []policy.Place
	for _, i := range interfaces {
		places = append(places, placeOf(i.Name, pointOf(i).hook))
	}
	return places
}

// attachedPlaces are those where weir is.
func attachedPlaces(all []loader.Attachment) []policy.Place {
	var places []policy.Place
	for i := range all {
		if all[i].State == loader.StateAttached {
			places = append(places, placeOf(all[i].Interface, config.Hook(all[i].Hook)))
		}
	}
	return places
}

// warnUnmet tells on standard error what an attachment leaves without effect: what the file lists may be attached yet.
func (e *env) warnUnmet(c *config.Config, all []loader.Attachment) {
	for _, u := range unmet(c.Policies, append(listedPlaces(c.Interfaces), attachedPlaces(all)...)) {
		fmt.Fprintf(e.err, "weir: policy %s meets no packet: %s\n", u.Policy, u.Why)
	}
}

// warnRequests tells on standard error of policies that nobody enforces without weir run, or not for all nodes.
func (e *env) warnRequests(policies []policy.Policy) {
	for _, p := range policy.KernelPolicies(policies) {
		if p.Consistency == policy.ConsistencyReconciled {
			fmt.Fprintf(e.err, "weir: policy %s is reconciled with other nodes by weir run alone, and local until then (weir run -c FILE)\n", p.Name)
		}
	}
	for _, p := range policy.L7Policies(policies) {
		fmt.Fprintf(e.err, "weir: policy %s is of layer l7, which weir run alone enforces (weir run -c FILE)\n", p.Name)
	}
}

// warnTwice tells of packets that are charged twice. It is no error: who moves from one hook to the other
// has both for a moment, so that no packet passes unjudged.
func (e *env) warnTwice(all []loader.Attachment, attached *loader.Attachment) {
	for i := range all {
		a := &all[i]
		if a.Interface == attached.Interface && a.Namespace == attached.Namespace && a.State == loader.StateAttached &&
			a.Hook != attached.Hook && directionOf(a) == policy.DirectionIngress && directionOf(attached) == policy.DirectionIngress {
			fmt.Fprintf(e.err, "weir: every packet that comes in by %s is charged at %s and at %s (keep one: weir detach %s --hook %s)\n",
				a.Interface, a.Hook, attached.Hook, a.Interface, a.Hook)
		}
	}
}
