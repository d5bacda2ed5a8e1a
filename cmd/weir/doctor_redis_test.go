package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weir-limiter/weir/internal/testutil"
	"github.com/weir-limiter/weir/pkg/config"
)

// redisProcess is a redis-server of the test's own, which keeps nothing.
type redisProcess struct {
	t      *testing.T
	dir    string
	socket string
}

func startRedis(t *testing.T, args ...string) *redisProcess {
	t.Helper()
	r := &redisProcess{t: t, dir: t.TempDir()}
	r.socket = filepath.Join(r.dir, "redis.sock")
	log := &testutil.Log{}
	cmd := exec.Command("redis-server", append([]string{"--port", "0", "--unixsocket", r.socket, "--save", "", "--appendonly", "no", "--dir", r.dir}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (run: scripts/deps.sh)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // of a process that was killed
		if t.Failed() {
			t.Logf("log of redis:\n%s", log)
		}
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if out, err := r.try("PING"); err == nil && (out == "PONG" || strings.Contains(out, "NOAUTH")) {
			return r
		}
		if time.Now().After(end) {
			t.Fatal("redis-server does not answer")
		}
	}
}

func (r *redisProcess) try(args ...string) (string, error) {
	out, err := exec.Command("redis-cli", append([]string{"-s", r.socket}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (r *redisProcess) do(args ...string) {
	r.t.Helper()
	if out, err := r.try(args...); err != nil || !strings.Contains("OK 1 PONG", out) {
		r.t.Fatalf("%v: %s, %v", args, out, err)
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
	r := startRedis(t)
	all := doctored(t, "redis: {url: unix://"+r.socket+", command_timeout: 1s}")
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
	if out, err := r.try("DBSIZE"); err != nil || out != "0" {
		t.Errorf("the doctor left %s keys, %v", out, err)
	}

	r.do("CONFIG", "SET", "maxmemory", "100mb")
	r.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	all = doctored(t, "redis: {url: unix://"+r.socket+", command_timeout: 1s}")
	expect(t, all["redis_memory"], gradeWarn, "allkeys-lru: when its 100 MiB are full it evicts debts")

	r.do("REPLICAOF", "127.0.0.1", "1")
	all = doctored(t, "redis: {url: unix://"+r.socket+", command_timeout: 1s}")
	expect(t, all["redis_role"], gradeFail, "a replica, which takes no writes")
	expect(t, all["redis_commands"], gradeFail, "READONLY")
}

// TestDoctorRedisACL holds the line that docs/CONFIG.md gives for an ACL user to what the doctor asks for, and takes
// parts of it away.
func TestDoctorRedisACL(t *testing.T) {
	r := startRedis(t)
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
	secret := filepath.Join(r.dir, "secret")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("redis: {url: unix://%s, username: weir, password_file: %s, command_timeout: 1s}", r.socket, secret)
	r.do(append([]string{"ACL", "SETUSER"}, user...)...)
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
		r.do(append([]string{"ACL", "SETUSER"}, user...)...)
		r.do(append([]string{"ACL", "SETUSER", "weir"}, c.rules...)...)
		expect(t, doctored(t, file)[c.check], c.grade, c.found)
	}
	r.do("CONFIG", "SET", "requirepass", "hunter3")
	all := doctored(t, "redis: {url: unix://"+r.socket+"}")
	expect(t, all["redis"], gradeFail, "NOAUTH")
	if len(all) != 1 {
		t.Errorf("it asked on: %v", all)
	}
	all = doctored(t, "redis: {url: 'unix://:hunter2@"+r.socket+"'}")
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

// writeCertificate makes a certificate for 127.0.0.1 that signs itself.
func writeCertificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// freePort is a port that nobody has at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestDoctorRedisTLS(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir())
	port := freePort(t)
	startRedis(t, "--tls-port", fmt.Sprint(port), "--bind", "127.0.0.1", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	at := fmt.Sprintf("127.0.0.1:%d", port)
	own := fmt.Sprintf("ca: %s, cert: %s, key: %s", cert, cert, key)
	all := doctored(t, "redis: {url: 'rediss://"+at+"', command_timeout: 1s, tls: {"+own+"}}")
	expect(t, all["redis_tls"], gradeOK, "TLS 1.3, certificate until "+time.Now().Add(time.Hour).UTC().Format(time.DateOnly))
	expect(t, all["redis_commands"], gradeOK, "all that")
	for text, mend := range map[string]string{
		"url: 'rediss://" + at + "', tls: {cert: " + cert + ", key: " + key + "}": "redis.tls.ca",
		"url: 'rediss://" + at + "', tls: {ca: " + cert + "}":                     "redis.tls.cert",
		"url: 'rediss://localhost:" + fmt.Sprint(port) + "', tls: {" + own + "}":  "redis.tls.server_name",
		"url: 'redis://" + at + "'":                                               "rediss://",
	} {
		f := doctored(t, "redis: {"+text+"}")["redis"]
		if f.Grade != gradeFail || !strings.Contains(f.Mend, mend) {
			t.Errorf("%s: %+v, want a mend with %s", text, f, mend)
		}
	}
	plain := startRedis(t, "--port", "0")
	f := doctored(t, "redis: {url: 'unix://"+plain.socket+".gone'}")["redis"]
	expect(t, f, gradeFail, "no such file")
}

func TestDoctorRedisCluster(t *testing.T) {
	port := freePort(t)
	bus := freePort(t)
	r := startRedis(t, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(bus), "--cluster-announce-ip", "127.0.0.1")
	url := fmt.Sprintf("redis://127.0.0.1:%d", port)
	all := doctored(t, "redis: {url: "+url+"}")
	expect(t, all["redis_cluster"], gradeFail, "it is a node of a cluster")
	r.do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if out, _ := r.try("CLUSTER", "INFO"); strings.Contains(out, "cluster_state:ok") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the cluster is not ok")
		}
	}
	all = doctored(t, "redis: {url: "+url+", cluster: true, command_timeout: 1s}")
	at := strings.TrimPrefix(url, "redis://")
	for _, p := range redisProbes() {
		if f := all[p.check+at]; f.Check == "" {
			t.Fatalf("no %s of %s: %v", p.check, at, all)
		} else if f.Grade != gradeOK {
			t.Errorf("%s: %+v", p.check, f)
		}
	}
	single := startRedis(t)
	c, err := config.Parse("weir.yaml", []byte("redis: {url: unix://"+single.socket+"}"))
	if err != nil {
		t.Fatal(err)
	}
	c.Redis.Cluster = true
	if all := examineRedis(t.Context(), c.Redis); len(all) != 1 || all[0].Grade != gradeFail || !strings.Contains(all[0].Mend, "cluster: true") {
		t.Errorf("%+v", all)
	}
}

func TestDoctorRedisFlags(t *testing.T) {
	r := startRedis(t)
	file := writeConfig(t, "redis: {url: unix://"+r.socket+", command_timeout: 1s}\npolicies: []\n")
	for _, args := range [][]string{{"-c", file}, {"--redis", "unix://" + r.socket}} {
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
