package main

import (
	"testing"

	"github.com/weir-limiter/weir/pkg/loader"
	"github.com/weir-limiter/weir/pkg/policy"
)

// Every hook of an interface counts, each policy once; what has vanished gives way to what has its name now.
func TestKernelMetrics(t *testing.T) {
	t.Parallel()
	passed := func(a loader.Attachment, n uint64) loader.Attachment {
		a.Counters.Policies = map[string]map[policy.Verdict]loader.Count{"a": {policy.VerdictPass: {Packets: n}}}
		a.Counters.Strangers = map[string]uint64{"a": n + 1}
		a.Counters.Listed = map[string]loader.Count{"ban": {Packets: n + 2}}
		return a
	}
	vanished := passed(on("eth0", perIP("a", 1), perIP("old", 1)), 1000)
	vanished.State = loader.StateVanished
	k := kernelMetrics([]loader.Attachment{
		passed(on("eth0", perIP("a", 1)), 1), vanished, passed(onHook("eth0", loader.HookTCEgress, perIP("a", 1), perIP("b", 1)), 20),
	})
	if k.Policies != 2 || len(k.Attachments) != 2 {
		t.Fatalf("%+v, want two attachments with two policies", k)
	}
	for _, a := range k.Attachments {
		want := map[string]uint64{"xdp": 1, "tc-egress": 20}[a.Hook]
		p := a.Policies[0]
		if a.Interface != "eth0" || p.Verdicts[policy.VerdictPass].Packets != want || p.Strangers != want+1 || a.Listed["ban"].Packets != want+2 {
			t.Errorf("%+v, want %d packets", a, want)
		}
	}
}
