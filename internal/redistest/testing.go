package redistest

// TB is what of testing.TB this package needs, so that programs which use it are not linked with package testing.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
	Errorf(format string, args ...any)
}

// Start is [Launch] for a test, at whose end the server is closed.
func Start(t TB, o Options) *Server {
	t.Helper()
	s, err := Launch(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, s.Close)
	return s
}

// StartCluster is [LaunchCluster] for a test.
func StartCluster(t TB, o ClusterOptions) *Cluster {
	t.Helper()
	c, err := LaunchCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, c.Close)
	return c
}

// StartSentinel is [LaunchSentinel] for a test.
func StartSentinel(t TB, o SentinelOptions) *Sentinel {
	t.Helper()
	s, err := LaunchSentinel(o)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, s.Close)
	return s
}

func closeAfter(t TB, end func() error) {
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Errorf("end redis-server: %v", err)
		}
	})
}

// Must fails the test on an error of a method: redistest.Must(t, s.Kill()).
func Must(t TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
