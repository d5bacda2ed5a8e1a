package loader

import (
	"os"
	"testing"

	"github.com/weir-limiter/weir/internal/testutil"
)

func TestMain(m *testing.M) {
	if errand := os.Getenv(victimVariable); errand != "" {
		os.Exit(beVictim(errand))
	}
	testutil.Main(m)
}
