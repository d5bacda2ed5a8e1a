package integration

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	pb "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// envoyFile is what the test reads of docs/integrations/envoy/envoy.yaml. Envoy itself is to be had neither from Debian
// nor from the Go proxy, so that the rest of the file is only held to be YAML: see the page.
type envoyFile struct {
	Static struct {
		Listeners []struct {
			Chains []struct {
				Filters []struct {
					Config struct {
						UseRemoteAddress bool `yaml:"use_remote_address"`
						Routes           struct {
							Hosts []struct {
								Limits []struct {
									Actions []envoyAction
								} `yaml:"rate_limits"`
							} `yaml:"virtual_hosts"`
						} `yaml:"route_config"`
						HTTP []struct {
							Name   string
							Config struct {
								Domain   string
								Timeout  string
								FailDeny *bool `yaml:"failure_mode_deny"`
								Service  struct {
									Version string `yaml:"transport_api_version"`
									GRPC    struct {
										Envoy struct {
											Cluster string `yaml:"cluster_name"`
										} `yaml:"envoy_grpc"`
									} `yaml:"grpc_service"`
								} `yaml:"rate_limit_service"`
							} `yaml:"typed_config"`
						} `yaml:"http_filters"`
					} `yaml:"typed_config"`
				}
			} `yaml:"filter_chains"`
		}
		Clusters []struct {
			Name string
			Load struct {
				Endpoints []struct {
					LB []struct {
						Endpoint struct {
							Address struct {
								Socket struct {
									Address string
									Port    int `yaml:"port_value"`
								} `yaml:"socket_address"`
							}
						}
					} `yaml:"lb_endpoints"`
				}
			} `yaml:"load_assignment"`
		}
	} `yaml:"static_resources"`
}

// envoyAction makes an entry of a descriptor.
type envoyAction struct {
	RemoteAddress *struct{} `yaml:"remote_address"`
	Header        *struct {
		Name         string `yaml:"header_name"`
		Key          string `yaml:"descriptor_key"`
		SkipIfAbsent bool   `yaml:"skip_if_absent"`
	} `yaml:"request_headers"`
}

// envoy asks what an Envoy with the file would ask, of whom it would ask.
type envoy struct {
	*rig
	timeout time.Duration
	domain  string
	actions []envoyAction
	client  pb.RateLimitServiceClient
}

func newEnvoy(r *rig) *envoy {
	r.Helper()
	var f envoyFile
	if err := yaml.Unmarshal([]byte(document(r.T, "envoy", "envoy.yaml")), &f); err != nil {
		r.Fatal(err)
	}
	web := f.Static.Listeners[0].Chains[0].Filters[0].Config
	filter := web.HTTP[0]
	if filter.Name != "envoy.filters.http.ratelimit" || filter.Config.Service.Version != "V3" || !web.UseRemoteAddress {
		r.Fatalf("envoy.yaml: %+v", web)
	}
	if filter.Config.FailDeny == nil || *filter.Config.FailDeny {
		r.Error("envoy.yaml does not say failure_mode_deny: false, as its page does")
	}
	timeout, err := time.ParseDuration(filter.Config.Timeout)
	if err != nil {
		r.Fatal(err)
	}
	e := &envoy{rig: r, timeout: timeout, domain: filter.Config.Domain, actions: web.Routes.Hosts[0].Limits[0].Actions}
	for _, c := range f.Static.Clusters {
		at := c.Load.Endpoints[0].LB[0].Endpoint.Address.Socket
		address := net.JoinHostPort(at.Address, strconv.Itoa(at.Port))
		switch {
		case c.Name == filter.Config.Service.GRPC.Envoy.Cluster && address == weirGRPC:
			connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				r.Fatal(err)
			}
			r.Cleanup(func() { connection.Close() })
			e.client = pb.NewRateLimitServiceClient(connection)
		case c.Name == "application" && address == application:
		default:
			r.Errorf("envoy.yaml has a cluster %s at %s", c.Name, address)
		}
	}
	if e.client == nil {
		r.Fatal("envoy.yaml has no cluster for its rate limit service")
	}
	return e
}

// descriptor is what the actions of the file make of a request; nil if one of them has nothing to say of it.
func (e *envoy) descriptor(q question) *common.RateLimitDescriptor {
	headers := http.Header{":method": {q.method}, ":path": {q.path}}
	for name, values := range q.header {
		headers[http.CanonicalHeaderKey(name)] = values
	}
	d := new(common.RateLimitDescriptor)
	add := func(key, value string) {
		d.Entries = append(d.Entries, &common.RateLimitDescriptor_Entry{Key: key, Value: value})
	}
	for _, a := range e.actions {
		switch {
		case a.RemoteAddress != nil:
			add("remote_address", q.from)
		case a.Header != nil:
			values := headers[a.Header.Name]
			if len(values) == 0 {
				values = headers[http.CanonicalHeaderKey(a.Header.Name)]
			}
			switch {
			case len(values) > 0:
				add(a.Header.Key, values[0])
			case !a.Header.SkipIfAbsent:
				return nil
			}
		default:
			e.Fatal("envoy.yaml has an action that the test does not know")
		}
	}
	return d
}

// ask has weir decide, as Envoy would.
func (e *envoy) ask(q question) (*pb.RateLimitResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), e.timeout)
	defer cancel()
	d := e.descriptor(q)
	if d == nil {
		e.Fatalf("Envoy would not ask about %+v", q)
	}
	return e.client.ShouldRateLimit(ctx, &pb.RateLimitRequest{Domain: e.domain, Descriptors: []*common.RateLimitDescriptor{d}})
}

// want holds the answer to a code, and returns the headers that Envoy adds for the client.
func (e *envoy) want(code pb.RateLimitResponse_Code, q question) http.Header {
	e.Helper()
	response, err := e.ask(q)
	if err != nil {
		e.Fatalf("%+v: %v", q, err)
	}
	if response.GetOverallCode() != code {
		e.Errorf("%+v: %v, want %s", q, response, code)
	}
	headers := make(http.Header)
	for _, h := range response.GetResponseHeadersToAdd() {
		headers.Add(h.GetKey(), h.GetValue())
	}
	return headers
}

const (
	rlsOK   = pb.RateLimitResponse_OK
	rlsOver = pb.RateLimitResponse_OVER_LIMIT
)

// TestEnvoy has a client in Envoy's place, which asks what envoy.yaml says.
func TestEnvoy(t *testing.T) {
	r := newRig(t)
	e := newEnvoy(r)
	get := func(from, path string) question { return question{from: from, method: "GET", path: path} }

	for left := range 3 {
		h := e.want(rlsOK, get("192.0.2.1", "/address/x?q=1"))
		if h.Get("X-RateLimit-Limit") != "3" || h.Get("X-RateLimit-Remaining") != strconv.Itoa(2-left) {
			t.Errorf("headers of an admitted request: %v", h)
		}
	}
	h := e.want(rlsOver, get("192.0.2.1", "/address/x?hits=0"))
	if retry, err := strconv.Atoi(h.Get("Retry-After")); err != nil || retry < 8*3600-600 || retry > 8*3600 {
		t.Errorf("headers of a denied request: %v", h)
	}
	e.want(rlsOver, get("192.0.2.1", "/%61ddress//x"))
	e.want(rlsOK, get("192.0.2.2", "/address/x"))
	e.want(rlsOK, get("2001:db8::1", "/address/x"))

	key := func(s string) question {
		return question{from: "192.0.2.3", method: "GET", path: "/key/x", header: http.Header{"X-Api-Key": {s}}}
	}
	for _, code := range []pb.RateLimitResponse_Code{rlsOK, rlsOK, rlsOver} {
		e.want(code, key("first"))
	}
	e.want(rlsOK, key("second"))
	e.want(rlsOK, get("192.0.2.3", "/key/x"))

	post := question{from: "192.0.2.4", method: "POST", path: "/orders/1/items"}
	e.want(rlsOK, post)
	e.want(rlsOver, post)
	e.want(rlsOK, get("192.0.2.4", "/orders/1/items"))

	if h := e.want(rlsOver, get("127.0.0.66", "/denied")); h.Get("Retry-After") != "" {
		t.Errorf("headers of what the list denied: %v", h)
	}

	r.weir.stop(syscall.SIGKILL)
	for range 3 { // an error, by which Envoy lets pass or not as it is configured; an answer would decide
		if response, err := e.ask(post); err == nil {
			t.Errorf("with weir away: %v", response)
		}
	}
	r.startWeir()
	eventually(t, "limits hold again", func() bool {
		response, err := e.ask(post)
		return err == nil && response.GetOverallCode() == rlsOver
	})
}
