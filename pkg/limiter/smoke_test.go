package limiter

import ("testing";"context";"time";"net/netip";"fmt"
"github.com/weir-limiter/weir/pkg/policy")

func BenchmarkCheckRequest1(b *testing.B){ bench(b,1) }
func BenchmarkCheckRequest3(b *testing.B){ bench(b,3) }
func bench(b *testing.B, n int){
	l,err:=New(Options{Entries: 1<<22}); if err!=nil{b.Fatal(err)}
	var ps []policy.Policy
	all:=[]policy.Policy{
		{Name:"u",Scope:policy.ScopePerUser,Limit:1000,Window:time.Second},
		{Name:"k",Scope:policy.ScopePerIP,Layer:policy.LayerL7,Limit:1000,Window:time.Second},
		{Name:"g",Scope:policy.ScopePerEndpoint,Limit:10000000,Window:time.Second, Match: policy.Match{Endpoints: []string{"/api/*"}}},
	}
	for _,p:=range all[:n]{ ps=append(ps,p.WithDefaults()) }
	if err:=l.Replace(policy.Document{Policies:ps}); err!=nil{b.Fatal(err)}
	users:=make([]RequestContext,1<<20)
	for i:=range users{ users[i]=RequestContext{UserID: fmt.Sprintf("user%d",i), Method:"GET", Endpoint:"/api/v2/things", ClientIP: netip.AddrFrom4([4]byte{10,byte(i>>16),byte(i>>8),byte(i)})} }
	ctx:=context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB){ i:=0; for pb.Next(){ i=(i+7919)&(1<<20-1); if _,err:=l.CheckRequest(ctx,"",&users[i]); err!=nil{b.Fatal(err)} } })
}
func BenchmarkRateLimit(b *testing.B){
	l,_:=New(Options{}); ctx:=context.Background(); b.ReportAllocs()
	for b.Loop(){ if _,err:=l.CheckRateLimit(ctx,"user:1",1000,time.Second); err!=nil{b.Fatal(err)} }
}
