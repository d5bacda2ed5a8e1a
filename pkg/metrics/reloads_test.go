package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestReloads(t *testing.T) {
	t.Parallel()
	c := NewReloadCollector(func() Reloads { return Reloads{Done: 3, Failed: 2, LastFailed: true} })
	if problems, err := testutil.CollectAndLint(c); err != nil || problems != nil {
		t.Errorf("lint: %v, %v", problems, err)
	}
	const want = `
# HELP rate_limiter_config_last_reload_successful Whether the last reload of the configuration file succeeded: 1 or 0.
# TYPE rate_limiter_config_last_reload_successful gauge
rate_limiter_config_last_reload_successful 0
# HELP rate_limiter_config_reloads_total Reloads of the configuration file, by result: success or failure. After a failure what was in force still is.
# TYPE rate_limiter_config_reloads_total counter
rate_limiter_config_reloads_total{result="failure"} 2
rate_limiter_config_reloads_total{result="success"} 3
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	calm := NewReloadCollector(func() Reloads { return Reloads{} })
	const calmWant = `
# HELP rate_limiter_config_last_reload_successful Whether the last reload of the configuration file succeeded: 1 or 0.
# TYPE rate_limiter_config_last_reload_successful gauge
rate_limiter_config_last_reload_successful 1
`
	if err := testutil.CollectAndCompare(calm, strings.NewReader(calmWant), "rate_limiter_config_last_reload_successful"); err != nil {
		t.Error(err)
	}
}
