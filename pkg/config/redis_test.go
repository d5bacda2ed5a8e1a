package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/pkg/policy"
)

func TestRedisDefaults(t *testing.T) {
	got := load(t, "redis.yaml")
	compare(t, &Redis{
		URL: []URL{"redis://127.0.0.1"}, PoolSize: 10, ConnectionTimeout: 5 * time.Second, CommandTimeout: 10 * time.Millisecond, KeyPrefix: "weir",
		DefaultTTL: time.Hour, LeaseShare: 0.1, Interval: 100 * time.Millisecond,
	}, got.Redis)
	compare(t, Fallback{
		ToMemory: true, HealthCheckInterval: 30 * time.Second, Breaker: Breaker{5, time.Second, 3}, PolicyCache: "/var/lib/weir/policies-weir.json",
	}, got.Fallback)
	compare(t, policy.Store{Shared: true, OnFailure: "local"}, got.Store())
}

// consistencies are what became of each policy, in their order.
func consistencies(policies []policy.Policy) (all []string) {
	for _, p := range policies {
		all = append(all, fmt.Sprintf("%s %s %s", p.Name, p.Consistency, p.OnStoreFailure))
	}
	return all
}

func TestConsistencyDefaults(t *testing.T) {
	for name, want := range map[string][]string{
		"redis.yaml":          {"a leased local", "b strict local", "c reconciled local", "d local local", "e reconciled share"},
		"redis-closed.yaml":   {"a leased closed", "b leased share", "c reconciled local", "d local local"},
		"fallback-alone.yaml": {"a local local"},
		"minimal.yaml":        {"per-client local local"},
	} {
		compare(t, want, consistencies(load(t, name).Policies))
	}
}

// TestLoadDocument: who sends a file's policies elsewhere must not make them local for it, and may ask for a store
// that only the other side has.
func TestLoadDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "weir.yaml")
	text := "policies:\n  - {name: a, scope: per_user, limit: 1, window: 1s}\n  - {name: b, scope: per_user, limit: 1, window: 1s, consistency: strict}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := LoadDocument(file)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, []string{"a  ", "b strict "}, consistencies(doc.Policies))
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "policies[1].consistency") {
		t.Errorf("a configuration without redis has a strict policy: %v", err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, "strict", "reconciled", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadDocument(file); err == nil || !strings.Contains(err.Error(), "layer l7 has no reconciled") {
		t.Errorf("got %v", err)
	}
	if _, err := LoadDocument(file + ".gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestRedisFiles(t *testing.T) {
	cluster := load(t, "redis-cluster.yaml")
	compare(t, 3, len(cluster.Redis.URL))
	compare(t, &TLS{CA: "/etc/weir/ca.pem", ServerName: "redis.example.org"}, cluster.Redis.TLS)
	compare(t, "/var/lib/weir/policies-rustci:ratelimit.json", cluster.Fallback.PolicyCache)
	sentinel := load(t, "redis-sentinel.yaml").Redis
	compare(t, &Sentinel{"mymaster", []string{"10.0.0.1:26379", "sentinel.example.org:26379"}, "watcher", "/etc/weir/sentinel"}, sentinel.Sentinel)
	compare(t, []string{"weir", "/etc/weir/redis"}, []string{sentinel.Username, sentinel.PasswordFile})
	compare(t, &TLS{}, sentinel.TLS)
	compare(t, "", load(t, "redis-closed.yaml").Fallback.PolicyCache)
}

// TestPasswordsAreNotPrinted holds the ways in which a configuration can get into a log, and messages about every
// half of a URL with a password.
func TestPasswordsAreNotPrinted(t *testing.T) {
	for _, name := range []string{"redis-closed.yaml", "redis-cluster.yaml"} {
		redis := load(t, name).Redis
		data, err := json.Marshal(redis)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{string(data), fmt.Sprint(redis.URL), fmt.Sprintf("%+v", *redis), fmt.Sprintf("%#v", *redis), fmt.Sprintf("%q", redis.URL)} {
			if strings.Contains(text, "hunter2") || !strings.Contains(text, "redis") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
	for text, want := range map[URL]string{
		"redis://ann:hunter2@10.0.0.1:6379/3":    "redis://10.0.0.1:6379/3",
		"unix://:hunter2@/run/redis.sock?db=1":   "unix:///run/redis.sock",
		"https://alerts.example.org/hunter2?a=b": "https://alerts.example.org",
		"redis://:hunter/2@10.0.0.1":             "(a URL that is not shown)",
	} {
		if text.String() != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
	const whole = "rediss://hunter2:hunter2@redis.example.org:6379/1?hunter2#hunter2"
	for i := range whole {
		for _, text := range []string{whole[i:], "redis://:hunter2@" + whole[:i], "redis://:hunter2" + whole[i:i+1] + "@a", "unix://:hunter2@" + whole[i:]} {
			for _, file := range []string{"redis: {url: %q}", "redis: {url: [%q, redis://b], cluster: true}", "redis: {url: [[%q]]}", "fallback: {alert: {webhook: %q}}"} {
				_, err := Parse("test.yaml", fmt.Appendf(nil, file, text))
				if err != nil && strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("%s: %v", text, err)
				}
			}
		}
	}
}

func TestRedisURLs(t *testing.T) {
	for address, ok := range map[string]bool{
		"redis://127.0.0.1:6379": true, "redis://localhost": true, "rediss://[::1]:6380/15": true, "redis://:p%40ss@a/": true, "unix:///run/redis.sock": true,
		"unix:///run/redis.sock?db=0": true, "REDIS://a": true,
		"redis://": false, "redis:///1": false, "redis:a": false, "redis://a/1/2": false, "redis://a/-1": false, "redis://a/1048576": false, "redis://a?db=1": false,
		"unix://": false, "unix:///": false, "unix:run": false, "unix:///run/redis.sock?db=a": false, "unix:///run/redis.sock?db=1&db=2": false,
		"unix:///" + strings.Repeat("a", 107): false, "unix:///a/": false, "": false, "redis://a b": false, "redis://a:0": false,
	} {
		_, err := Parse("test.yaml", fmt.Appendf(nil, "redis: {url: %q}", address))
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestRedisListsAreBounded(t *testing.T) {
	var urls, sentinels strings.Builder
	for i := range MaxRedisNodes + 1 {
		fmt.Fprintf(&urls, "redis://a%d, ", i)
	}
	for i := range MaxSentinels + 1 {
		fmt.Fprintf(&sentinels, "a%d:1, ", i)
	}
	for text, want := range map[string]string{
		"cluster: true, url: [" + urls.String() + "]":                    "redis.url: has 65 entries; write at most 64",
		"sentinel: {master: m, addresses: [" + sentinels.String() + "]}": "redis.sentinel.addresses: has 17 entries; write at most 16",
	} {
		if _, err := Parse("test.yaml", []byte("redis: {"+text+"}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, mode := range []os.FileMode{0o600, 0o640, 0o400} {
		if got, err := ReadSecret("redis.password_file", write("good", " hunter2 é\r\n\n", mode)); err != nil || got != " hunter2 é" {
			t.Errorf("%v: %q, %v", mode, got, err)
		}
	}
	for name, path := range map[string]string{
		"others read": write("a", "hunter2", 0o644), "group writes": write("b", "hunter2", 0o660), "empty": write("c", "\n", 0o600),
		"two lines": write("d", "hunter2\nhunter3", 0o600), "long": write("e", strings.Repeat("a", 4097), 0o600), "directory": dir,
	} {
		_, err := ReadSecret("redis.password_file", path)
		if !errors.Is(err, ErrSecret) || !strings.HasPrefix(err.Error(), "redis.password_file: ") || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadSecret("redis.password_file", filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
