package testutil

import "testing"

func TestMain(m *testing.M) { Main(m) }

func TestKernelBelow(t *testing.T) {
	for _, c := range []struct {
		release      string
		major, minor int
		want         bool
	}{
		{"6.18.44-fc-v669", 6, 18, false},
		{"6.18.44-fc-v669", 6, 19, true},
		{"6.18.44-fc-v669", 5, 15, false},
		{"5.15.0-105-generic", 6, 6, true},
		{"4.19", 5, 0, true},
	} {
		got, err := kernelBelow(c.release, c.major, c.minor)
		if err != nil || got != c.want {
			t.Errorf("kernelBelow(%q, %d, %d) = %v, %v, want %v", c.release, c.major, c.minor, got, err, c.want)
		}
	}
	if _, err := kernelBelow("unknown", 5, 15); err == nil {
		t.Error("a release without a version is no error")
	}
}

func TestRequireRoot(t *testing.T) {
	RequireRoot(t)
	SkipIfKernelBelow(t, 3, 0, "nothing")
}

func TestNoLeaks(t *testing.T) {
	NoLeaks(t)
}
