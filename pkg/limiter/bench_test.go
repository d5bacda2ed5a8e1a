package limiter

import (
	"fmt"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

func benchPolicies() []policy.Policy {
	return []policy.Policy{
		{Name: "user", Scope: policy.ScopePerUser, Limit: 1000, Window: time.Second},
		{Name: "address", Scope: policy.ScopePerIP, Limit: 1000, Window: time.Second},
		{Name: "endpoint", Scope: policy.ScopePerEndpoint, Limit: 100_000_000, Window: time.Second, Match: policy.Match{Endpoints: []string{"/api/*"}}},
	}
}

func benchContexts(n int) []RequestContext {
	all := make([]RequestContext, n)
	for i := range all {
		all[i] = RequestContext{UserID: fmt.Sprint("user", i), Method: "GET", Endpoint: "/api/v2/things",
			ClientIP: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	return all
}

func benchRequests(b *testing.B, l *Limiter, contexts []RequestContext) {
	ctx := b.Context()
	runtime.GC()
	b.ReportAllocs()
	before := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i = (i + 7919) & (len(contexts) - 1) {
			if _, err := l.CheckRequest(ctx, "", &contexts[i]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mchecks/s")
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what the process has used: what a machine that is busy with others leaves to be compared.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkCheckRequest is of one and of three policies, with requests that are in the cache and that are not.
func BenchmarkCheckRequest(b *testing.B) {
	for _, n := range []int{1, 3} {
		for _, keys := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("policies=%d/keys=%d", n, keys), func(b *testing.B) {
				benchRequests(b, newLimiterOf(b, Options{Entries: 1 << 22}, benchPolicies()[:n]...), benchContexts(keys))
			})
		}
	}
}

// BenchmarkManyPolicies is of policies of single users, endpoints, tenants and roles, one of which applies.
func BenchmarkManyPolicies(b *testing.B) {
	for _, n := range []int{10, 1000, policy.MaxPolicies} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := newLimiterOf(b, Options{}, manyPolicies(n)...)
			contexts := make([]RequestContext, 1<<10)
			for i := range contexts {
				j := i * 7919 % n
				contexts[i] = RequestContext{UserID: fmt.Sprint("u", j), Endpoint: fmt.Sprintf("/e%d/x", j), UserRole: fmt.Sprint("r", j),
					Metadata: map[string]string{"tenant": fmt.Sprint("t", j)}}
			}
			benchRequests(b, l, contexts)
		})
	}
}

// BenchmarkAlgorithms is of one bucket each.
func BenchmarkAlgorithms(b *testing.B) {
	for _, a := range allAlgorithms {
		b.Run(string(a), func(b *testing.B) {
			l := newLimiterOf(b, Options{}, policy.Policy{Name: "p", Scope: policy.ScopeGlobal, Algorithm: a, Limit: 100_000_000, Window: 10 * time.Second})
			benchRequests(b, l, benchContexts(1))
		})
	}
}

func BenchmarkCheckRateLimit(b *testing.B) {
	l := newLimiterOf(b, Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.CheckRateLimit(b.Context(), "user:1", 1000, time.Second); err != nil {
			b.Fatal(err)
		}
	}
}
