package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-limiter/weir/internal/redistest"
	"github.com/weir-limiter/weir/pkg/config"
)

// told runs a command that has to be done.
func told(t *testing.T, s *redistest.Server, args ...string) {
	t.Helper()
	if out, err := s.CLI(args...); err != nil || strings.TrimSpace(out) != "OK" {
		t.Fatalf("%v: %s, %v", args, out, err)
	}
}

// doctored are what the doctor finds of a Redis, by check.
func doctored(t *testing.T, text string) map[string]finding {
	t.Helper()
	c, err := config.Parse("weir.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]finding{}
	for _, f := range examineRedis(t.Context(), c.Redis) {
		if f.Grade != gradeOK && f.Mend == "" || strings.Contains(f.Found+f.Mend, "hunter2") {
			t.Errorf("%+v: want a mend, and no password", f)
		}
		all[f.Check+f.Server] = f
	}
	return all
}

func TestDoctorRedis(t *testing.T) {
	r := redistest.Start(t, redistest.Options{})
	all := doctored(t, "redis: {url: unix://"+r.Socket+", command_timeout: 1s}")
	for check, found := range map[string]string{
		"redis": "answers, to user default", "redis_tls": "on this machine", "redis_version": ".", "redis_role": "master, with 0 replicas", "redis_cluster": "a single server",
		"redis_memory": "without a limit", "redis_scripting": "EVALSHA", "redis_commands": "all that scripts use", "redis_pubsub": "at once", "redis_clock": "from this machine's",
		"redis_latency": "100 PINGs: half within",
	} {
		expect(t, all[check], gradeOK, found)
	}
	if len(all) != 1+len(redisProbes()) {
		t.Errorf("%d findings, want one for each probe: %v", len(all), all)
	}
	if out, err := r.CLI("DBSIZE"); err != nil || strings.TrimSpace(out) != "0" {
		t.Errorf("the doctor left %s keys, %v", out, err)
	}

	told(t, r, "CONFIG", "SET", "maxmemory", "100mb")
	told(t, r, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	all = doctored(t, "redis: {url: unix://"+r.Socket+", command_timeout: 1s}")
	expect(t, all["redis_memory"], gradeWarn, "allkeys-lru: when its 100 MiB are full it evicts debts")

	told(t, r, "REPLICAOF", "127.0.0.1", "1")
	all = doctored(t, "redis: {url: unix://"+r.Socket+", command_timeout: 1s}")
	expect(t, all["redis_role"], gradeFail, "a replica, which takes no writes")
	expect(t, all["redis_commands"], gradeFail, "READONLY")
}

// TestDoctorRedisACL holds the line that docs/CONFIG.md gives for an ACL user to what the doctor asks for, and takes
// parts of it away.
func TestDoctorRedisACL(t *testing.T) {
	r := redistest.Start(t, redistest.Options{})
	page, err := os.ReadFile("../../docs/CONFIG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```\nACL SETUSER")
	line, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("docs/CONFIG.md has no ACL SETUSER")
	}
	user := strings.Fields(strings.Replace(line, "PASSWORD", "hunter2", 1))
	secret := filepath.Join(r.Dir, "secret")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("redis: {url: unix://%s, username: weir, password_file: %s, command_timeout: 1s}", r.Socket, secret)
	told(t, r, append([]string{"ACL", "SETUSER"}, user...)...)
	for check, f := range doctored(t, file) {
		if f.Grade != gradeOK {
			t.Errorf("%s: %+v", check, f)
		}
	}
	for _, c := range []struct {
		rules        []string
		check, found string
		grade        grade
	}{
		{[]string{"-evalsha"}, "redis_scripting", "evalsha", gradeFail},
		{[]string{"-eval"}, "redis_scripting", "eval", gradeFail},
		{[]string{"-script"}, "redis_scripting", "script", gradeFail},
		{[]string{"resetkeys", "~other:*"}, "redis_scripting", "key", gradeFail},
		{[]string{"-hset", "-zadd"}, "redis_commands", "refused: HSET, ZADD", gradeFail},
		{[]string{"-subscribe"}, "redis_pubsub", "no channel", gradeWarn},
		{[]string{"-info"}, "redis_version", "not known", gradeWarn},
		{[]string{"off"}, "redis", "WRONGPASS", gradeFail},
	} {
		told(t, r, append([]string{"ACL", "SETUSER"}, user...)...)
		told(t, r, append([]string{"ACL", "SETUSER", "weir"}, c.rules...)...)
		expect(t, doctored(t, file)[c.check], c.grade, c.found)
	}
	told(t, r, "CONFIG", "SET", "requirepass", "hunter3")
	all := doctored(t, "redis: {url: unix://"+r.Socket+"}")
	expect(t, all["redis"], gradeFail, "NOAUTH")
	if len(all) != 1 {
		t.Errorf("it asked on: %v", all)
	}
	all = doctored(t, "redis: {url: 'unix://:hunter2@"+r.Socket+"'}")
	expect(t, all["redis"], gradeFail, "no answer")
}

// TestDoctorKnowsWhatScriptsUse holds the commands that the doctor tries to those that the scripts call.
func TestDoctorKnowsWhatScriptsUse(t *testing.T) {
	tried := map[string]bool{}
	for _, command := range usedCommands {
		tried[command[0]] = true
	}
	calls := regexp.MustCompile(`call\(\s*['"]([A-Za-z]+)['"]`)
	scripts := 0
	err := filepath.WalkDir("../../pkg/sync", func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".lua" {
			return err
		}
		text, err := os.ReadFile(path)
		scripts++
		for _, m := range calls.FindAllStringSubmatch(string(text), -1) {
			if name := strings.ToUpper(m[1]); !tried[name] {
				t.Errorf("%s calls %s, which the doctor does not try", path, name)
			}
		}
		return err
	})
	if err != nil || scripts == 0 {
		t.Errorf("%d scripts, %v", scripts, err)
	}
}

func TestDoctorRedisTLS(t *testing.T) {
	r := redistest.Start(t, redistest.Options{TLS: true})
	own := fmt.Sprintf("ca: %s, cert: %s, key: %s", r.TLS.CA, r.TLS.ClientCert, r.TLS.ClientKey)
	all := doctored(t, "redis: {url: '"+r.URL+"', command_timeout: 1s, tls: {"+own+"}}")
	expect(t, all["redis_tls"], gradeOK, "TLS 1.3, certificate until ")
	expect(t, all["redis_commands"], gradeOK, "all that")
	for text, mend := range map[string]string{
		"url: '" + r.URL + "', tls: {cert: " + r.TLS.ClientCert + ", key: " + r.TLS.ClientKey + "}": "redis.tls.ca",
		"url: '" + r.URL + "', tls: {ca: " + r.TLS.CA + "}":                                         "redis.tls.cert",
		"url: '" + r.URL + "', tls: {server_name: redis.example.org, " + own + "}":                  "redis.tls.server_name",
		"url: '" + strings.Replace(r.URL, "rediss", "redis", 1) + "'":                               "rediss://",
	} {
		f := doctored(t, "redis: {"+text+"}")["redis"]
		if f.Grade != gradeFail || !strings.Contains(f.Mend, mend) {
			t.Errorf("%s: %+v, want a mend with %s", text, f, mend)
		}
	}
	f := doctored(t, "redis: {url: 'unix://"+r.Dir+"/gone.sock'}")["redis"]
	expect(t, f, gradeFail, "no such file")
}

func TestDoctorRedisCluster(t *testing.T) {
	r := redistest.StartCluster(t, redistest.ClusterOptions{})
	expect(t, doctored(t, "redis: {url: '"+r.URLs[0]+"'}")["redis_cluster"], gradeFail, "it is a node of a cluster")
	all := doctored(t, "redis: {url: ['"+r.URLs[0]+"'], cluster: true, command_timeout: 1s}")
	for _, m := range r.Masters {
		for _, p := range redisProbes() {
			f := all[p.check+m.Addr]
			if f.Check == "" {
				t.Fatalf("no %s of %s: %v", p.check, m.Addr, all)
			}
			if f.Grade != gradeOK {
				t.Errorf("%s: %+v", p.check, f)
			}
		}
		if out, err := m.CLI("DBSIZE"); err != nil || strings.TrimSpace(out) != "0" {
			t.Errorf("the doctor left %s keys, %v", out, err)
		}
	}
	single := redistest.Start(t, redistest.Options{})
	f := doctored(t, "redis: {url: '"+single.URL+"', cluster: true}")["redis"]
	if f.Grade != gradeFail || !strings.Contains(f.Mend, "cluster: true") {
		t.Errorf("%+v", f)
	}
}

func TestDoctorRedisSentinel(t *testing.T) {
	s := redistest.StartSentinel(t, redistest.SentinelOptions{})
	all := doctored(t, "redis: {sentinel: {master: "+redistest.MasterName+", addresses: ['"+strings.Join(s.Addresses, "', '")+"']}, command_timeout: 1s}")
	expect(t, all["redis_role"], gradeOK, "master, with 1 replica")
	expect(t, all["redis_commands"], gradeOK, "all that")
	f := doctored(t, "redis: {sentinel: {master: nobody, addresses: ['"+s.Addresses[0]+"']}, connection_timeout: 1s}")["redis"]
	expect(t, f, gradeFail, "no answer")
}

func TestDoctorRedisFlags(t *testing.T) {
	r := redistest.Start(t, redistest.Options{})
	file := writeConfig(t, "redis: {url: unix://"+r.Socket+", command_timeout: 1s}\npolicies: []\n")
	for _, args := range [][]string{{"-c", file}, {"--redis", "unix://" + r.Socket}} {
		got := weir(t, append([]string{"doctor"}, args...)...)
		if !strings.Contains(got.out, "redis_latency") || !strings.Contains(got.out, "answers, to user default") {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if got := weir(t, "doctor", "-c", writeConfig(t, testConfig)); !strings.Contains(got.out, "this node limits for itself") {
		t.Errorf("%+v", got)
	}
	for _, args := range [][]string{{"--redis", "redis://:hunter2@"}, {"--redis", "unix:///a", "-c", file}} {
		if got := weir(t, append([]string{"doctor"}, args...)...); got.code != exitUsage || strings.Contains(got.err, "hunter2") {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
